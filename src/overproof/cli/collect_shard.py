"""``overproof collect --shard``: one part of a recipe, into a ledger of its own."""

from __future__ import annotations

import json as json_module
from pathlib import Path

import typer

from overproof import api
from overproof.cli.progress import Display

__all__ = ["collect_shard_command"]


def collect_shard_command(recipe: Path, shard: str, json: bool) -> None:
    """Ask the shard's part, and say how the shards become one run."""
    from overproof.collect.shards import SHARDS, Shard

    part = Shard.parse(shard)
    loaded = api.load_any(recipe)
    with Display() as display:
        directory = api.collect_shard(loaded, part, display.collecting)
    if json:
        typer.echo(json_module.dumps({"shard": str(part), "directory": str(directory)}))
        return
    typer.echo(f"shard {part} is complete: {directory}")
    typer.echo("when every shard is, in one place:")
    typer.echo(
        f"  overproof ledger merge {loaded.run_dir} {loaded.run_dir / SHARDS}/*-of-{part.of}"
    )
    typer.echo(f"  overproof collect {recipe}")
