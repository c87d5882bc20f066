"""``overproof predict``: label a file with a student."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from overproof.evaluate.predict import PredictReport

__all__ = ["predict_command"]

SECONDS_BETWEEN_LINES = 5.0


def predict_command(
    student: Annotated[Path, typer.Argument(help="A student directory, or a run directory.")],
    file: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL or Parquet; text may be .gz.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write; - is JSONL on stdout.  [default: FILE.predictions.EXT]"),
    ] = None,
    input_column: Annotated[
        str | None,
        typer.Option("--input", help="The column of texts.  [default: text, input or prompt]"),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Texts a batch.")] = 64,
    encoding: Annotated[str, typer.Option(help="Of a text file.")] = "utf-8",
    probabilities: Annotated[
        Literal["wide", "none"],
        typer.Option(help="A column for each label's probability, or none."),
    ] = "wide",
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Label every row of a file, with calibrated probabilities."""
    from overproof.errors import ConfigError
    from overproof.evaluate.predict import STDOUT, predict_file

    if json and out == STDOUT:
        raise ConfigError("--json", "--out - writes to stdout too", "leave out one of the two")
    with _progress() as progress:
        report = predict_file(
            student,
            file,
            out,
            input=input_column,
            batch_size=batch_size,
            encoding=encoding,
            probabilities=probabilities,
            progress=progress,
        )
    if json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        typer.echo(_summary(report), err=out == STDOUT)


def _summary(report: PredictReport) -> str:
    where = "" if report.out == "-" else f" → {report.out}"
    lines = [
        f"labelled {report.rows:,} rows of {report.file} (column {report.input!r}){where}",
        f"{report.seconds:.1f} s, {report.rows_per_second:,.0f} rows/s with {report.student}",
        ", ".join(f"{label} {count:,}" for label, count in report.labels.items()),
    ]
    lines += [f"without a label: {count:,} ({why})" for why, count in report.errors.items()]
    lines += [
        f"the input has a column {usual!r}: the student's is {name!r}"
        for usual, name in report.renamed.items()
    ]
    return "\n".join(lines)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar with its rate on a terminal, one line every few seconds elsewhere; on stderr."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, highlight=False)
    start = last = time.monotonic()

    def line(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            last = now
            console.print(f"predict: {done:,}/{total:,} rows, {done / (now - start):,.0f} rows/s")

    if not console.is_terminal:
        yield line
        return
    with Progress(
        TextColumn("[bold]predict"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("[dim]{task.fields[rate]:,.0f} rows/s"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as shown:
        task = shown.add_task("predict", total=None, rate=0.0)

        def bar(done: int, total: int) -> None:
            rate = done / max(time.monotonic() - start, 1e-9)
            shown.update(task, completed=done, total=total, rate=rate)

        yield bar
