"""``overproof collect`` of a text task: what came, what was dropped, where it lies."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from overproof import api
from overproof.cli.progress import Display

if TYPE_CHECKING:
    from overproof.collect.shards import Shard
    from overproof.config.load import LoadedTextRecipe
    from overproof.records.chat_dataset import TextManifest

__all__ = ["collect_text_command", "print_collected", "print_outcomes"]


def collect_text_command(loaded: LoadedTextRecipe, json: bool, shard: Shard | None = None) -> None:
    """Collect, print the outcomes, the filters and the place of the dataset."""
    with Display() as display:
        manifest = api.collect_text(loaded, display.collecting, shard)
        if manifest is not None and not json:
            print_collected(manifest, display.console)
    if manifest is None:
        return
    if json:
        result = {"run": str(loaded.run_dir), "dataset": manifest.model_dump(mode="json")}
        typer.echo(json_module.dumps(result, indent=2, ensure_ascii=False))
        return
    dataset = loaded.run_dir / "dataset"
    typer.echo(f"dataset      {dataset} ({manifest.counts['train']:,} training examples)")
    typer.echo(f"card         {dataset / 'README.md'}")


def print_outcomes(outcomes: Mapping[str, Mapping[str, int]], console: Console) -> None:
    """The table of outcomes by split."""
    names = sorted({name for split in outcomes.values() for name in split})
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("teacher's answers", style="dim")
    for name in names:
        table.add_column(name, justify="right")
    for split, counts in outcomes.items():
        table.add_row(split, *(f"{counts.get(name, 0):,}" for name in names))
    console.print(table)


def print_collected(manifest: TextManifest, console: Console) -> None:
    """The outcomes, what filters dropped, and what else is worth knowing."""
    print_outcomes(manifest.outcomes, console)
    if manifest.filters:
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("filter", style="dim")
        table.add_column("saw", justify="right")
        table.add_column("dropped", justify="right")
        table.add_column("why")
        for report in manifest.filters:
            reasons = sorted(report.reasons.items(), key=lambda pair: -pair[1])
            why = "; ".join(f"{reason} ({count:,})" for reason, count in reasons[:3])
            more = f"; and {len(reasons) - 3} more reasons" if len(reasons) > 3 else ""
            table.add_row(
                report.name, f"{report.seen:,}", f"{report.dropped:,}", escape(why + more)
            )
        console.print(table)
    notes = [*(note for report in manifest.filters for note in report.notes), *manifest.notes]
    if manifest.gap is not None:
        from overproof.records.gap import gap_lines

        notes += gap_lines(manifest.gap)
    if manifest.drift is not None:
        notes += manifest.drift.get("statements", ())
    for note in notes:
        console.print(f"[dim]·[/dim] {escape(note)}", highlight=False, soft_wrap=True)
