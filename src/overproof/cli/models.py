"""``overproof models``: the embedded models and data, pinned and hash-checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from overproof.clients.registry import ModelInfo

__all__ = ["app"]

app = typer.Typer(help="Embedded models and data: pinned, hash-checked.", no_args_is_help=True)

_MEGABYTE = 1_000_000


@app.command("pull")
def pull(
    names: Annotated[
        list[str],
        typer.Argument(help="Names that `models list` shows, or a hub's ORG/NAME[/FILE][@REV]."),
    ],
    force: Annotated[bool, typer.Option("--force", help="Fetch again, whatever is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Fetch models; what is there and whole is left alone."""
    from rich.console import Console

    from overproof.clients import registry

    console, errors = Console(soft_wrap=True), Console(stderr=True)
    rows = []
    for name in names:
        with errors.status(f"pulling {name}"):
            path = registry.pull(name, force=force)
        model = registry.info(name)
        rows.append({**_row(model, pulled=True), "path": str(path)})
        if not as_json:
            size = f"{model.size / _MEGABYTE:.1f} MB"
            console.print(f"{model.name}: {size}, {model.licence}, {path}", highlight=False)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))


@app.command("list")
def show(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Show what can be pulled and what was."""
    from overproof.clients import registry

    here = registry.installed()
    names = {model.name for model in here}
    models = [*registry.known(), *(model for model in here if model.kind == "hub")]
    if as_json:
        rows = [_row(model, pulled=model.name in names) for model in models]
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("name", "kind", "size", "licence", "pulled"):
        table.add_column(column, justify="right" if column == "size" else "left")
    for model in models:
        size = f"{model.size / _MEGABYTE:.1f} MB"
        pulled = "yes" if model.name in names else "no"
        table.add_row(model.name, model.kind, size, model.licence, pulled)
    Console().print(table)


def _row(model: ModelInfo, *, pulled: bool) -> dict[str, Any]:
    return {
        "name": model.name,
        "kind": model.kind,
        "size_bytes": model.size,
        "licence": model.licence,
        "parameters": model.parameters,
        "pulled": pulled,
    }
