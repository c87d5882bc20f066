"""``overproof terms``: what is known of providers' terms and models' licences."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from overproof.clients.terms_list import TermsEntry

__all__ = ["terms_command"]

NO_ADVICE = (
    "A reading aid with a date, not legal advice: terms change, and your contract may differ."
)
WORDS = {
    "yes": "outputs may train another model",
    "no": "forbidden, at least for a model that competes",
    "conditions": "on a condition",
    "unknown": "unknown: nobody has read the clause",
}


def terms_command(
    name: Annotated[
        str, typer.Argument(help="A model, an API's host or URL, a licence, or: list.")
    ] = "list",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """What is known of training on a teacher's outputs: verdict, clause, source, date.

    Exit code 1 where nothing is known of that name.
    """
    from overproof.clients.terms_list import read_terms

    known = read_terms()
    found = list(known.entries) if name == "list" else _about(name)
    if as_json:
        entries = [entry.model_dump(mode="json") | {"verdict": entry.verdict} for entry in found]
        print(json.dumps({"version": known.version, "note": NO_ADVICE, "terms": entries}))
    elif name == "list":
        _print_list(found, known.version)
    else:
        for entry in found:
            _print(entry)
        if found:
            print(f"{NO_ADVICE}\nterms in version {known.version}")
    if not found:
        typer.echo(
            f"nothing is known of {name!r}: a recipe that names it is refused until it says, under "
            '[teacher.terms], training = "allowed" with licence and url, or "attested"',
            err=True,
        )
        raise typer.Exit(1)


def _about(name: str) -> list[TermsEntry]:
    """Entries of a model, host, URL, licence, or of an entry's own name; the strictest first."""
    from urllib.parse import urlsplit

    from overproof.clients import registry
    from overproof.clients.terms_list import of_host, of_licence, of_model_name, read_terms

    host = urlsplit(name).hostname if "://" in name else name
    found = [entry for entry in read_terms().entries if entry.name == name.lower()]
    found += of_host(host or "") + of_licence(name)
    found += of_model_name(name, weights=False)
    if (pinned := registry.find(name)) is not None:
        found += of_licence(pinned.licence)
    order = ("no", "unknown", "conditions", "yes")
    return sorted(dict.fromkeys(found), key=lambda entry: order.index(entry.verdict))


def _print_list(entries: list[TermsEntry], version: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "verdict", "as of", "what"):
        table.add_column(column, no_wrap=column != "what")
    for entry in entries:
        table.add_row(*(Text(c) for c in (entry.name, entry.verdict, entry.as_of, entry.what)))
    console = Console()
    console.print(table)
    console.print(f"{NO_ADVICE}\nterms in version {version}; `overproof terms NAME` shows the "
                  "clause", highlight=False, markup=False, soft_wrap=True)  # fmt: skip


def _print(entry: TermsEntry) -> None:
    kind = "in its own words" if entry.quoted else "in other words"
    print(f"{entry.name}: {entry.what}")
    print(f"  verdict    {entry.verdict}: {WORDS[entry.verdict]}")
    if entry.needs:
        print(f"  needs      {entry.needs}")
    print(f"  clause     {entry.clause} ({kind if entry.seen else 'not read'})")
    print(f"  source     {entry.source}")
    if entry.read:
        print(f"  read in    {entry.read}")
    print(f"  as of      {entry.as_of}")
    for title, values in (("hosts", entry.hosts), ("models", entry.models),
                          ("licences", entry.licences)):  # fmt: skip
        if values:
            print(f"  {title:<10} {', '.join(values)}")
    print()
