"""A text task's certificate as a summary for the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from overproof.records.certificate import Interval
from overproof.records.text_certificate import Contestant, TextCertificate
from overproof.report.formats import (
    bounds,
    capitalised,
    count,
    interval,
    p_value,
    percent,
    points_interval,
    rate,
    size,
)
from overproof.report.text_words import SCORERS, dearer, number_interval

__all__ = ["render_text_terminal"]

MISSING = "–"
STYLES = {"certified": "green", "not certified": "red"}


def render_text_terminal(certificate: TextCertificate, console: Console) -> None:
    """Print the verdict, the contestants, the comparisons and what else was measured.

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


def _panel(c: TextCertificate) -> Panel:
    style = STYLES[c.verdict]
    scorer = SCORERS.get(c.scorer, c.scorer)
    measured = (
        f"{count(c.n_test)} test prompts, margin {100 * c.margin:.4g} points; score: {scorer}"
    )
    body = Group(
        Text(capitalised(c.verdict), style=f"bold {style}"),
        Text(c.verdict_text),
        Text(measured, style="dim"),
    )
    marks = "".join([" (demo)" if c.demo else "", " (synthetic data)" if c.synthetic else ""])
    title = Text(f" {c.name}{marks} ", style="bold", overflow="ellipsis")
    return Panel(body, title=title, title_align="left", border_style=style, padding=(0, 1))


def _table(certificate: TextCertificate) -> Table:
    table = Table(
        caption=Text(f"{MISSING} not measured; broken: loops, never stopped or empty", "dim"),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("contestant", overflow="fold", min_width=11)
    for head in ("score", "retained", "agreement", "broken"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("req/s", justify="right", no_wrap=True)
    for contestant in certificate.contestants:
        table.add_row(*_row(contestant, certificate))
    return table


def _row(contestant: Contestant, certificate: TextCertificate) -> list[RenderableType]:
    passed = contestant.name in certificate.certified
    name = Text(contestant.name, style="bold" if passed else "")
    name.append(f"\n{size(contestant)}", style="dim")
    if passed:
        name.append(" certified", style="green")
    itself = "itself" if contestant.role == "teacher" else MISSING
    speed = contestant.speed
    return [
        name,
        _share(contestant.score, MISSING),
        _share(None if contestant.role == "teacher" else contestant.retention, itself),
        _share(contestant.agreement, itself),
        _share(contestant.degeneration.any, MISSING),
        Text(rate(speed.requests_per_second if speed else None, MISSING)),
    ]


def _share(value: Interval | None, missing: str) -> Text:
    if value is None:
        return Text(missing, style="dim")
    return Text(f"{percent(value.estimate)}\n{bounds(value)}")


def _facts(c: TextCertificate) -> list[tuple[str, str]]:
    lines = [
        (
            "difference",
            f"{k.first} against {k.second}: {points_interval(k.difference)} at "
            f"{percent(k.difference.confidence, 0)}, p {p_value(k.p_value)}, {k.verdict}",
        )
        for k in c.comparisons
    ]
    for k in c.contestants:
        if k.teacher_perplexity or k.perplexity_of_teacher:
            lines.append(
                (
                    "perplexity",
                    f"{k.name}: the teacher's of its text {number_interval(k.teacher_perplexity)}, "
                    f"its own of the teacher's text {number_interval(k.perplexity_of_teacher)}",
                )
            )
    lines += [
        ("judge", f"{j.first} against {j.second}: wins {interval(j.win_rate)}")
        for j in c.judgements
    ]
    for d in c.deferral:
        lines.append(
            (
                "deferral",
                f"{d.student}: passes on {percent(d.chosen.deferred)}, agrees with the teacher on "
                f"{interval(d.agreement)} (stated {percent(d.stated, 0)}), costs "
                f"{percent(d.chosen.cost)} of asking it alone{dearer(d)}",
            )
        )
    if c.recompute:
        lines.append(("recompute", c.recompute))
    return lines
