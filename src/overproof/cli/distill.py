"""``overproof distill`` and its steps, each also alone."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from overproof import api
from overproof.cli.progress import Display

if TYPE_CHECKING:
    from overproof.config.load import LoadedRecipe
    from overproof.records.certificate import Certificate
    from overproof.records.dataset import DatasetManifest

__all__ = ["distill_command"]


def distill_command(loaded: LoadedRecipe, json: bool, steps: Sequence[str]) -> None:
    """Run the steps in order; the exit code is the certificate's where there is one."""
    result: dict[str, object] = {"run": str(loaded.run_dir)}
    certificate = None
    if {"collect", "train"} <= set(steps):
        api.check_bases(loaded)
    with Display() as display:
        if "collect" in steps:
            manifest = api.collect(loaded, display.collecting)
            result["dataset"] = manifest.model_dump(mode="json")
            if not json:
                _print_collected(manifest, display.console)
        if "train" in steps:
            cards = api.train(loaded, display.training)
            result["students"] = {
                name: card.model_dump(mode="json") for name, card in cards.items()
            }
            for name, card in cards.items():
                display.say(
                    f"student {name}: {card.tune_agreement:.1%} agreement with the teacher on the "
                    f"tune split, {card.parameters / 1e6:.1f} M parameters, "
                    f"{card.train_seconds:.0f} s"
                )
        if "certify" in steps:
            certificate = api.certify(loaded, display.say)
            result["certificate"] = certificate.model_dump(mode="json")
    if json:
        typer.echo(json_module.dumps(result, indent=2, ensure_ascii=False))
    elif certificate is not None:
        _print_certificate(certificate, loaded)
    if certificate is not None and certificate.verdict != "certified":
        raise typer.Exit(1)


def _print_collected(manifest: DatasetManifest, console: Console) -> None:
    """The table of outcomes by split."""
    outcomes = sorted({name for split in manifest.outcomes.values() for name in split})
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("teacher's answers", style="dim")
    for outcome in outcomes:
        table.add_column(outcome, justify="right")
    for split, counts in manifest.outcomes.items():
        table.add_row(split, *(str(counts.get(outcome, 0)) for outcome in outcomes))
    console.print(table)
    for note in manifest.notes:
        console.print(f"[dim]·[/dim] {escape(note)}", highlight=False, soft_wrap=True)


def _print_certificate(certificate: Certificate, loaded: LoadedRecipe) -> None:
    from overproof.report.terminal import render_terminal

    console = Console()
    if not console.is_terminal:  # a pipe has no width to keep to
        console = Console(width=100)
    render_terminal(certificate, console)
    typer.echo(f"certificate  {loaded.run_dir / 'certificate.json'}")
    typer.echo(f"model card   {loaded.run_dir / 'model-card.md'}")
    typer.echo(f"report       {loaded.run_dir / 'report.html'}")
