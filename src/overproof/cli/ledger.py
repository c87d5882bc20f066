"""``overproof ledger``: show, verify, export, cost, provenance, erase."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overproof.cli.ledger_money import cost_command, provenance_command

if TYPE_CHECKING:
    from rich.text import Text

    from overproof.records.ledger import Entry, Ledger

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)

PathArgument = Annotated[
    Path, typer.Argument(help="A ledger file, or a run directory that holds one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
# Everything that moves a cursor or changes a colour: a teacher's text must not steer a terminal.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@app.command()
def show(
    path: PathArgument = Path(),
    key: Annotated[
        str | None,
        typer.Option(help="Print one row whole: its key, the start of its key, or its number."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the table, the newest ones.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show the newest rows, or one whole exchange."""
    with _open(path) as ledger:
        if key is not None:
            for entry in _rows_named(ledger, key):
                print(json.dumps(_plain(entry), indent=None if as_json else 2, ensure_ascii=True))
            return
        entries = list(ledger.entries(last=limit))
        if as_json:
            print(json.dumps([_plain(entry) for entry in entries]))
            return
        _print_rows(ledger, entries)


@app.command()
def verify(
    path: PathArgument = Path(),
    head: Annotated[
        str | None, typer.Option(help="A head hash noted earlier; shows a cut tail.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute every hash. Exit code 1 when something is not what was written."""
    with _open(path) as ledger:
        report = ledger.verify(head)
    if as_json:
        print(report.model_dump_json())
    elif report.ok:
        erased = f", {report.erased} erased" if report.erased else ""
        chains = f" in {report.chains} chains" if report.chains > 1 else ""
        print(f"ok: {report.rows} rows{chains}{erased}")
        print(f"head: {report.head}")
        if head is None:
            print("note head and count elsewhere: `verify --head HASH` then also shows a cut tail")
    else:
        print(f"NOT what was written: {report.rows} rows, head {report.head}")
        for problem in report.problems:
            print(f"  {problem}")
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def export(
    path: PathArgument = Path(),
    to: Annotated[
        Path | None, typer.Option(help="The file to write: .jsonl, .jsonl.gz or .parquet.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write every exchange as request and response objects, which `import` reads back."""
    from overproof.records.exports import export_ledger

    if to is None:
        raise typer.BadParameter("say which file to write", param_hint="--to")
    with _open(path) as ledger:
        written = export_ledger(ledger, to)
    print(json.dumps({"file": str(to), "exchanges": written}) if as_json else f"{to}: {written}")


app.command("cost")(cost_command)
app.command("provenance")(provenance_command)


@app.command()
def erase(
    key: Annotated[str, typer.Argument(help="A key, the start of a key, or a row's number.")],
    path: PathArgument = Path(),
    *,
    reason: Annotated[str, typer.Option(help="Why; stays in the ledger.")] = "on request",
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Also every other row that holds the same input.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase one request for good; a tombstone stays and `verify` stays green.

    Says which other rows, and which files of the run, hold the same input.
    """
    from overproof.records.ledger_traces import files_holding, rows_holding, texts_of

    with _open(path, write=True) as ledger:
        named = _rows_named(ledger, key)
        rows = [entry.seq for entry in named]
        if everywhere:
            _check_known(ledger, named)
        run = ledger.path.parent
        texts = texts_of(named, run)
        others = [seq for seq in rows_holding(ledger.entries(), texts) if seq not in rows]
        if everywhere:
            rows, others = [*rows, *others], []
        if not yes:
            if others:
                typer.echo(
                    f"the same input also stands in {_rows_in_words(others)}; "
                    "--everywhere erases these too",
                    err=True,
                )
            typer.confirm(f"Erase {_rows_in_words(rows)} for good?", abort=True)
        erased = ledger.erase(rows, reason)
        files = files_holding(run, texts)
    if as_json:
        print(json.dumps({"erased": erased, "also_in_rows": others, "also_in_files": files}))
        return
    print(f"erased {_rows_in_words(rows)}: the text is gone from every byte")
    if others:
        print(
            f"the same input also stands in {_rows_in_words(others)}: "
            f"`ledger erase {others[0]} --everywhere` erases it there"
        )
    if files:
        print(f"and in these files of {run}: {', '.join(files)}")
    print("datasets, exports and students made of it keep what they have: make them again")


def _check_known(ledger: Ledger, rows: list[Entry]) -> None:
    """Refuse to look for copies of a text that is gone, key and all."""
    from overproof.errors import LedgerError

    if all(row.exchange is None and row.content is None for row in rows):
        raise LedgerError(
            str(ledger.path),
            f"{_rows_in_words([row.seq for row in rows])} was erased before, and with it all that "
            "its copies could be found by",
            "name a row that still holds the input; `overproof ledger show` lists the rows",
        )


def _rows_in_words(rows: list[int]) -> str:
    return f"row{'' if len(rows) == 1 else 's'} {', '.join(map(str, rows))}"


def _open(path: Path, *, write: bool = False) -> Ledger:
    from overproof.records.ledger import Ledger, ledger_path

    file = ledger_path(path)
    if write and not file.exists():
        return Ledger.open(file)  # raises: there is nothing to change, and none shall be made
    return Ledger.open(file, write=write)


def _rows_named(ledger: Ledger, name: str) -> list[Entry]:
    """Rows of a seq, a key or the start of a key."""
    from overproof.errors import LedgerError

    if name.isdecimal() and len(name) < 12 and (entry := ledger.entry(int(name))) is not None:
        return [entry]
    keys = ledger.keys_from(name)
    if len(keys) > 1:
        shown = ", ".join(key.removeprefix("sha256:")[:16] for key in keys[:4])
        raise LedgerError(
            str(ledger.path), f"several keys begin with {name!r}: {shown} …", "give more digits"
        )
    if not keys:
        raise LedgerError(
            str(ledger.path),
            f"no row has the number or the key {name!r}",
            "`overproof ledger show` lists the rows",
        )
    return ledger.recorded(keys[0])


def _plain(entry: Entry) -> dict[str, Any]:
    plain: dict[str, Any] = {"seq": entry.seq, "kind": str(entry.kind)}
    if entry.exchange is not None:
        return {**plain, "key": entry.key, **entry.exchange.model_dump(mode="json")}
    return {**plain, **(entry.content or {"erased": True})}


def _print_rows(ledger: Ledger, entries: list[Entry]) -> None:
    from rich.console import Console

    console = Console()
    room = max(16, (console.width - 52) // 2)  # for each of the two texts
    table = _table("row", "key", "teacher", "outcome", "US $", "asked", "answered")
    for entry in entries:
        exchange = entry.exchange
        if exchange is None:
            said = "erased" if entry.content is None else json.dumps(entry.content)
            table.add_row(str(entry.seq), "", "", str(entry.kind), "", "", _head(said, room))
            continue
        usd, messages = exchange.cost_usd, exchange.request.messages
        completion = exchange.completion
        table.add_row(
            str(entry.seq),
            (entry.key or "").removeprefix("sha256:")[:10],
            _head(exchange.teacher, 14),
            str(completion.outcome),
            "unknown" if usd is None else f"{usd:.6f}",
            _tail(messages[-1].content if messages else "", room),
            _head(completion.text or completion.error or "", room),
        )
    console.print(table)
    console.print(
        f"{len(ledger)} exchanges; the last {len(entries)} rows are shown", highlight=False
    )


def _table(*names: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    numbers = {"row", "calls", "tokens in", "tokens out", "teacher s", "US $"}
    for name in names:
        table.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
    return table


def _safe(text: str) -> Text:
    """Text that is shown as it is: no markup, no control characters."""
    from rich.text import Text

    return Text(CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text))


def _head(text: str, size: int) -> Text:
    flat = " ".join(text.split())
    return _safe(flat if len(flat) <= size else flat[: size - 1] + "…")


def _tail(text: str, size: int) -> Text:
    """The end: prompts of one run begin alike."""
    flat = " ".join(text.split())
    return _safe(flat if len(flat) <= size else "…" + flat[1 - size :])
