"""The certificate as a summary for the terminal: at home in 80 columns, and without colour."""

from __future__ import annotations

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from overproof.records.certificate import Candidate, Certificate, Interval
from overproof.report.facts import total_of, uncertain_of
from overproof.report.figures import to_teacher
from overproof.report.formats import (
    bounds,
    capitalised,
    count,
    interval,
    p_value,
    percent,
    points_interval,
    rate,
    requests,
    seconds,
    usd,
)

__all__ = ["render_terminal"]

MISSING = "–"
STYLES = {
    "certified": "green",
    "not certified": "red",
    "underpowered": "yellow",
    "cannot say": "bright_black",
}


def _panel(certificate: Certificate) -> Panel:
    c = certificate
    style = STYLES[c.verdict]
    against = "gold labels" if c.basis == "gold" else "the teacher"
    body = Group(
        Text(capitalised(c.verdict), style=f"bold {style}"),
        Text(c.verdict_text),
        Text(
            f"{count(c.n_test)} test inputs, margin {100 * c.margin:.4g} points of {c.metric}, "
            f"measured against {against}",
            style="dim",
        ),
    )
    title = Text(f" {c.name}{' (demo)' if c.demo else ''} ", style="bold", overflow="ellipsis")
    return Panel(body, title=title, title_align="left", border_style=style, padding=(0, 1))


def _score(value: Interval | None, missing: str) -> Text:
    if value is None:
        return Text(missing, style="dim")
    return Text(f"{percent(value.estimate)}\n{bounds(value)}")


def _row(candidate: Candidate, certificate: Certificate) -> list[RenderableType]:
    gold = certificate.basis == "gold"
    name = Text(candidate.name, style="bold" if candidate.name == certificate.recommended else "")
    if candidate.name in certificate.certified:
        name.append("\ncertified", style="green")
    elif candidate.name == certificate.recommended:
        name.append("\nrecommended", style="dim")
    speed = candidate.speed
    p50 = seconds(speed.latency_p50_s if speed else None, MISSING)
    return [
        name,
        _score(candidate.accuracy, MISSING if gold else "no gold"),
        _score(candidate.agreement, "itself" if candidate.role == "teacher" else MISSING),
        _score(candidate.ece, MISSING),
        Text(rate(speed.requests_per_second if speed else None, MISSING)),
        Text(p50),
        Text(usd(candidate.cost_per_million_usd)),
    ]


def _table(certificate: Certificate) -> Table:
    caption = Text(f"{MISSING} not measured; p50 is the median latency", style="dim")
    table = Table(
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        expand=False,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("candidate", overflow="fold", min_width=11)
    for head in ("accuracy", "agreement", "ECE"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("req/s", justify="right", overflow="fold")
    table.add_column("p50", justify="right", overflow="fold")
    table.add_column("$/million", justify="right", overflow="fold")
    for candidate in certificate.candidates:
        table.add_row(*_row(candidate, certificate))
    return table


def _facts(certificate: Certificate) -> list[tuple[str, str]]:
    c = certificate
    lines = [
        (
            "difference",
            f"{k.first} against {k.second}: {points_interval(k.difference)} at "
            f"{percent(k.difference.confidence, 0)}, p {p_value(k.p_value)}, {k.verdict}"
            + (", and better" if k.superior else ""),
        )
        for k in to_teacher(c)
    ] or [("difference", "no paired comparison with the teacher")]
    lines.append(
        ("self-agreement", f"teacher, asked another way, {interval(c.teacher_self_agreement)}")
    )
    power = c.power
    lines.append(
        (
            "power",
            f"{percent(power.power)}{' (underpowered)' if power.underpowered else ''}: "
            f"{count(power.n_test)} test inputs, about {count(power.n_needed)} needed",
        )
    )
    calls = sum(line.calls for line in c.costs)
    known, unknown = total_of(c.costs)
    spent = usd(known) + (" and an unknown rest" if known is not None and unknown else "")
    if unsure := uncertain_of(c.costs):
        spent += f", {unsure}"
    lines.append(("spent", f"{spent}, {count(calls)} calls" if c.costs else "not recorded"))
    fallback = f"{requests(c.break_even_requests)} requests"
    lines.append(("break-even", c.break_even_text or fallback))
    if c.learning_verdict:
        lines.append(("more data?", c.learning_verdict))
    if c.recompute:
        lines.append(("recompute", c.recompute))
    return lines


def render_terminal(certificate: Certificate, console: Console) -> None:
    """Print the verdict, the candidates, the comparison, the power and the costs.

    Args:
        certificate: what to print; its texts are printed as they are, markup in them is inert.
        console: where to.
    """
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, text in _facts(certificate):
        facts.add_row(Text(name), Text(text))
    console.print(_panel(certificate))
    console.print(_table(certificate))
    console.print(Padding(facts, (1, 0, 1, 0)))
