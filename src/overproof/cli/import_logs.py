"""``overproof import``: existing teacher logs into a ledger."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from overproof.records.imports import ImportReport

__all__ = ["import_command"]

SHOWN = 10


class FormatChoice(StrEnum):
    """How the log is written."""

    AUTO = "auto"
    OPENAI = "openai"
    CHAT = "chat"
    CSV = "csv"


def import_command(
    logs: Annotated[Path, typer.Argument(help="JSONL, CSV, TSV or Parquet; text may be .gz.")],
    *,
    into: Annotated[
        Path, typer.Option(help="A run directory or a ledger file; made where there is none.")
    ],
    teacher: Annotated[str, typer.Option(help="Who answered, as provenance shall name it.")],
    model: Annotated[
        str | None, typer.Option(help="The model, for rows that do not name it.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Licence of the teacher's outputs.")] = "unknown",
    terms: Annotated[
        str, typer.Option(help="What the teacher's terms say of training on its outputs.")
    ] = "unknown",
    format: Annotated[  # noqa: A002 - the flag's name
        FormatChoice, typer.Option(help="Told by ending and fields when left out.")
    ] = FormatChoice.AUTO,
    input_column: Annotated[
        str, typer.Option("--input", help="CSV column of the inputs.")
    ] = "text",
    label_column: Annotated[
        str, typer.Option("--label", help="CSV column of the answers.")
    ] = "label",
    encoding: Annotated[str, typer.Option(help="Of the text formats.")] = "utf-8",
    strict: Annotated[
        bool, typer.Option("--strict", help="Import nothing when a row is malformed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Import existing teacher logs, with their provenance."""
    from overproof.errors import DataError
    from overproof.records.imports import import_logs
    from overproof.records.ledger import Ledger, ledger_path

    if not logs.is_file():  # before a ledger is made for nothing
        raise DataError(str(logs), "there is no such file", "name a log file")
    file = ledger_path(into)
    with Ledger.open(file, write=True) as ledger:
        report = import_logs(
            logs,
            ledger,
            teacher=teacher,
            model=model,
            licence=licence,
            terms=terms,
            format=format.value,
            input_column=input_column,
            label_column=label_column,
            encoding=encoding,
            strict=strict,
        )
    if as_json:
        print(report.model_dump_json())
        return
    _print(file, report)


def _print(file: Path, report: ImportReport) -> None:
    print(
        f"{file}: {report.imported} answers imported of {report.rows} rows, "
        f"{report.duplicates} already there, {len(report.malformed)} malformed"
    )
    for line in report.malformed[:SHOWN]:
        typer.echo(f"  {line}", err=True)
    if len(report.malformed) > SHOWN:
        rest = len(report.malformed) - SHOWN
        typer.echo(f"  and {rest} more; --json lists them all", err=True)
