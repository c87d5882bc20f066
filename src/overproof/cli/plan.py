"""``overproof plan``: the verdict before spending."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from overproof import api

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from overproof.collect.estimate import Estimate, Range
    from overproof.collect.forecast import Forecast
    from overproof.collect.plan import Plan
    from overproof.collect.text_plan import TextPlan
    from overproof.records.preflight import Preflight

__all__ = ["plan_command", "print_estimate"]


def plan_command(recipe: Path, json: bool, ask: int = 0) -> None:
    """Print the plan; exit code 1 where the recipe cannot run as it is."""
    from overproof.config.load import LoadedTextRecipe

    loaded = api.load_any(recipe)
    console = Console(highlight=False)
    result: Plan | TextPlan
    if isinstance(loaded, LoadedTextRecipe):
        result = api.plan_text(loaded, ask=ask, say=lambda line: typer.echo(f"· {line}", err=True))
        if not json:
            _print_text(result, console)
    else:
        result = api.plan(loaded, ask=ask)
        if not json:
            _print(result, console)
    if json:
        typer.echo(result.model_dump_json(indent=2))
    if not result.ok:
        raise typer.Exit(1)


def _print(plan: Plan, console: Console) -> None:
    table = _table(plan.splits)
    if plan.teacher:
        table.add_row("teacher", escape(plan.teacher))
        table.add_row("signal", f"{plan.signal}, labels as {plan.rendering}")
    if plan.terms:
        table.add_row("terms", escape(plan.terms))
    if plan.forecast is not None:
        print_estimate(plan.forecast, table, cached=plan.cached)
    table.add_row("power", _power(plan))
    _print_rest(plan, plan.verdicts, table, console)
    if plan.ok:
        console.print("[bold]verdict[/bold] " + (
            "can run, but the certificate will say \"underpowered\""
            if plan.underpowered else "can run, and can prove what it sets out to prove"
        ))  # fmt: skip


def _print_text(plan: TextPlan, console: Console) -> None:
    table = _table(plan.splits)
    if plan.to_make:
        table.add_row("to make", f"{plan.to_make:,} prompts")
    if plan.teacher:
        table.add_row("teacher", escape(plan.teacher))
        several = f", {plan.samples} a prompt" if plan.samples > 1 else ""
        table.add_row("answers", f"{plan.answer}{several}")
    if plan.terms:
        table.add_row("terms", escape(plan.terms))
    if plan.forecast is not None:
        print_estimate(plan.forecast, table)
    verdicts = plan.forecast.verdicts if plan.forecast else ()
    if plan.headroom and plan.headroom.get("teacher"):
        table.add_row("headroom", _headroom(plan.headroom))
    _print_rest(plan, verdicts, table, console)
    if plan.students:
        _print_checks(plan.students, console)
    if plan.ok:
        console.print("[bold]verdict[/bold] can run")


MARKS = {"ok": "[green]ok[/green]", "warning": "[yellow]look[/yellow]", "problem": "[red]no[/red]"}


def _print_checks(students: Sequence[Preflight], console: Console) -> None:
    """What was checked before training: a line a check, told apart where students differ."""
    said: dict[str, dict[tuple[str, str], list[str]]] = {}
    for student in students:
        for check in student.checks:
            text = "; ".join(filter(None, (check.found, check.reason, check.way_out)))
            told = said.setdefault(check.name, {}).setdefault((check.outcome, text), [])
            told.append(student.student)
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, texts in said.items():
        for (outcome, text), of in texts.items():
            whose = "" if len(of) == len(students) else f"{', '.join(of)}: "
            table.add_row(MARKS[outcome], escape(name), escape(whose + text))
    console.print(f"\n[dim]before training[/dim] {escape(', '.join(s.student for s in students))}")
    console.print(table)


def _headroom(head: Mapping[str, Any]) -> str:
    """Teacher and bases on the same training prompts."""

    def share(value: Mapping[str, float]) -> str:
        return f"{value['estimate']:.0%} ({value['low']:.0%} to {value['high']:.0%})"

    rows = [f"teacher {share(head['teacher'])} of {head['k']} training prompts ({head['scorer']})"]
    rows += [f"untrained {escape(name)} {share(value)}" for name, value in head["bases"].items()]
    return "\n".join(rows)


def _table(splits: Mapping[str, int]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("inputs", ", ".join(f"{name} {count:,}" for name, count in splits.items()))
    return table


def _print_rest(
    plan: Plan | TextPlan, verdicts: Sequence[str], table: Table, console: Console
) -> None:
    """The table, the first prompt, notes, problems, and what the caps will do."""
    console.print(table)
    if plan.prompt:
        console.print("\n[dim]the first prompt[/dim]")
        console.print(plan.prompt, markup=False)
    for note in plan.notes:
        console.print(f"[dim]·[/dim] {escape(note)}")
    console.print()
    for problem in plan.problems:
        console.print(f"[bold red]cannot run[/bold red] {escape(problem)}")
    for line in verdicts:
        console.print(f"[bold]budget[/bold] {escape(line)}")


def print_estimate(forecast: Forecast, table: Table, cached: int | None = None) -> None:
    """Add the rows of a forecast to a table of two columns: what, and how much with its interval.

    Args:
        forecast: of a task of any kind.
        table: with a column for names and one for figures.
        cached: requests that the ledger answers, the forecast's own count of prompts where unsaid.
    """
    made = forecast.estimate
    known = forecast.cached if cached is None else cached
    # With no answer to learn from, how many calls a prompt takes is what it takes at the least.
    table.add_row("calls", f"{_range(made.calls, _count)} to make, {known:,} known to the ledger")
    if not made.prompts:
        return
    guessed = "" if forecast.counted else ", guessed from their length"
    table.add_row("tokens in", _range(made.input_tokens, _count) + guessed)
    table.add_row("tokens out", _range(made.output_tokens, _count))
    if made.output_tokens.estimate is not None:
        table.add_row("", f"at the worst {_count(made.worst_tokens)} in all")
    if made.cost_usd is None:
        table.add_row("cost", "unknown: no price is known for this teacher")
    else:
        table.add_row("cost", _range(made.cost_usd, _dollars) + _roads(made))
        if made.worst_usd and made.cost_usd.estimate is not None:
            table.add_row("", f"at the worst {_dollars(made.worst_usd)}")
    if forecast.price:
        table.add_row("", escape(forecast.price))
    if made.seconds is not None:
        table.add_row("time", _range(made.seconds, _duration))
    elif not made.batch:
        table.add_row("time", "unknown: no answer was timed; `plan --ask 16` asks a few")
    counted = f"{made.sampled:,} prompts"
    answered = f", {forecast.asked:,} of them asked ({forecast.answered:,} answered)"
    table.add_row("sample", counted + (answered if forecast.asked else ", none of them asked"))


def _roads(made: Estimate) -> str:
    """The same money by the other road, where there is money to speak of."""
    if not made.batch or made.full_usd is None or not (made.full_usd.high or 0):
        return ""
    return f" through the batch API; {_range(made.full_usd, _dollars)} without it"


def _range(of: Range, say: Callable[[float], str]) -> str:
    """An estimate with its interval, or the bounds that are known."""
    if of.estimate is None:
        if of.high is None:
            return f"at least {say(of.low)}"
        return f"at most {say(of.high)}" + (f", at least {say(of.low)}" if of.low > 0 else "")
    middle = say(of.estimate)
    if of.high is None:
        return f"about {middle}"
    low, high = say(of.low), say(of.high)
    return middle if low == high == middle else f"about {middle} ({low} to {high})"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _dollars(usd: float) -> str:
    return f"${usd:,.2f}" if usd >= 0.1 or usd == 0 else f"${usd:,.4f}"


def _power(plan: Plan) -> str:
    have = plan.splits.get("test", 0)
    points = 100 * plan.margin
    text = (
        f"{plan.power:.0%} to show a loss below {points:g} points with {have:,} test inputs "
        f"({plan.n_needed:,} needed)"
    )
    table = ", ".join(
        f"{100 * float(margin):g} points {needed:,}"
        for margin, needed in plan.needed_by_margin.items()
    )
    return f"{text}\ntest inputs by margin: {table}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
