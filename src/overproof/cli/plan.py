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
    from overproof.collect.plan import Plan

__all__ = ["plan_command"]


def plan_command(recipe: Path, json: bool) -> None:
    """Print the plan; exit code 1 where the recipe cannot run as it is."""
    result = api.plan(api.load(recipe))
    if json:
        typer.echo(result.model_dump_json(indent=2))
    else:
        _print(result, Console(highlight=False))
    if not result.ok:
        raise typer.Exit(1)


def _print(plan: Plan, console: Console) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    sizes = ", ".join(f"{name} {count:,}" for name, count in plan.splits.items())
    table.add_row("inputs", sizes)
    if plan.teacher:
        table.add_row("teacher", plan.teacher)
        table.add_row("signal", f"{plan.signal}, labels as {plan.rendering}")
    if plan.ok:
        table.add_row("calls", f"{plan.calls:,} to make, {plan.cached:,} known to the ledger")
        table.add_row("tokens", f"about {plan.input_tokens:,} in, {plan.output_tokens:,} out")
        table.add_row("cost", "unknown: no price is known for this teacher"
                      if plan.cost_usd is None else f"${plan.cost_usd:,.2f}")  # fmt: skip
        if plan.seconds is not None:
            from_what = f"from {plan.probed} inputs asked ({plan.probe_answered} answered)"
            table.add_row("time", f"about {_duration(plan.seconds)}, {from_what}")
    table.add_row("power", _power(plan))
    console.print(table)
    if plan.prompt:
        console.print("\n[dim]the first prompt[/dim]")
        console.print(plan.prompt, markup=False)
    for note in plan.notes:
        console.print(f"[dim]·[/dim] {escape(note)}")
    console.print()
    for problem in plan.problems:
        console.print(f"[bold red]cannot run[/bold red] {escape(problem)}")
    if plan.ok:
        console.print("[bold]verdict[/bold] " + (
            "can run, but the certificate will say \"underpowered\""
            if plan.underpowered else "can run, and can prove what it sets out to prove"
        ))  # fmt: skip


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
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
