"""Label a whole file with a student: its rows, and what the student says of each.

Every row comes back, in order. To the input's columns are added ``label``, ``confidence``,
``p(LABEL)`` for each label, and ``error``; a name that the input already uses gets the prefix
``student_``. A row without a text has an ``error`` and no label: never a guess.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

import numpy as np

from overproof.errors import DataError
from overproof.evaluate.student import Student
from overproof.records.exchange import Record
from overproof.records.tables import (
    TableWriter,
    iter_table,
    parquet_schema,
    table_format,
    to_json_line,
)

__all__ = ["STDOUT", "PredictReport", "Probabilities", "predict_file"]

Probabilities = Literal["wide", "none"]
Progress = Callable[[int, int], None]

STDOUT = Path("-")
USUAL_INPUTS = ("text", "input", "prompt")
PREFIX = "student_"
WINDOW = 32  # batches that are read, labelled and written together


class PredictReport(Record):
    """What was labelled. ``rows_per_second`` counts reading, labelling and writing.

    ``labels`` counts rows by predicted label, ``errors`` the rows without one by reason;
    ``renamed`` maps a column's usual name to the one it got.
    """

    student: str
    file: str
    out: str
    input: str
    rows: int
    labels: dict[str, int]
    errors: dict[str, int]
    renamed: dict[str, str]
    seconds: float
    rows_per_second: float


class _Sink(Protocol):
    def write(self, row: Mapping[str, Any]) -> None: ...


class _JsonLines:
    """Rows as JSON lines on an open stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, row: Mapping[str, Any]) -> None:
        self._stream.write(to_json_line(dict(row)) + "\n")


@dataclass(frozen=True)
class _Columns:
    """Names of the columns that are added, free of collisions with the input's."""

    label: str
    confidence: str
    probabilities: tuple[str, ...]
    error: str

    @property
    def all(self) -> tuple[str, ...]:
        return (self.label, self.confidence, *self.probabilities, self.error)

    def instead_of(self, usual: _Columns) -> dict[str, str]:
        """Names that differ from the usual ones, by the usual one."""
        return {a: b for a, b in zip(usual.all, self.all, strict=True) if a != b}


def predict_file(
    student: Path,
    file: Path,
    out: Path | None = None,
    *,
    input: str | None = None,  # noqa: A002 - the word that recipes and commands use
    batch_size: int = 64,
    encoding: str = "utf-8",
    probabilities: Probabilities = "wide",
    progress: Progress = lambda _done, _total: None,
) -> PredictReport:
    """Label every row of ``file``, in bounded memory.

    The file is read through once beforehand: a broken row near its end costs seconds, not a run.

    Args:
        student: a student directory, or a run directory.
        file: CSV, TSV, JSONL or Parquet.
        out: where the rows go; ``FILE.predictions.EXT`` when left out, ``STDOUT`` for JSONL.
        input: the column of texts; else ``text``, ``input``, ``prompt`` or the only one of texts.
        batch_size: texts a batch of inference.
        encoding: of a text file.
        probabilities: ``wide`` for a column a label, ``none`` for label and confidence alone.
        progress: called with the rows done and the rows in all.

    Raises:
        StudentError: when the student cannot be loaded.
        DataError: when the file cannot be read or written; no half of an output is left.
    """
    out = _checked_out(file, out)
    model = Student.load(student)
    survey = _survey(file, [input] if input is not None else [], encoding)
    column = _choose_input(file, input, survey, encoding)
    wide = model.labels if probabilities == "wide" else ()
    usual, columns = _added_columns(wide, ()), _added_columns(wide, survey.columns)
    counts: Counter[str | None] = Counter()
    errors: Counter[str | None] = Counter()
    rows = iter_table(file, columns=[column], encoding=encoding)
    done, start = 0, time.perf_counter()
    with _open_sink(file, out, survey.columns, columns) as sink:
        while window := list(islice(rows, batch_size * WINDOW)):
            for row in _labelled(model, window, column, columns, batch_size):
                sink.write(row)
                counts[row[columns.label]] += 1
                errors[row[columns.error]] += 1
            done += len(window)
            progress(done, survey.rows)
    seconds = time.perf_counter() - start
    return PredictReport(
        student=model.card.name,
        file=str(file),
        out=str(out),
        input=column,
        rows=done,
        labels={label: counts[label] for label in model.labels},
        errors={why: n for why, n in errors.items() if why is not None},
        renamed=columns.instead_of(usual),
        seconds=seconds,
        rows_per_second=done / seconds,
    )


def _labelled(
    model: Student,
    rows: Sequence[dict[str, Any]],
    column: str,
    columns: _Columns,
    batch_size: int,
) -> Iterator[dict[str, Any]]:
    errors = [_why_no_text(row[column]) for row in rows]
    texts = [row[column] for row, error in zip(rows, errors, strict=True) if error is None]
    answers = iter(model.predict_proba(texts, batch_size))
    for row, error in zip(rows, errors, strict=True):
        added: dict[str, Any] = dict.fromkeys(columns.all)
        if error is None:
            probabilities = next(answers)
            best = int(np.argmax(probabilities))
            added[columns.label] = model.labels[best]
            added[columns.confidence] = float(probabilities[best])
            if columns.probabilities:
                shares = map(float, probabilities)
                added.update(zip(columns.probabilities, shares, strict=True))
        added[columns.error] = error
        yield {**row, **added}


def _why_no_text(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return "empty input"
    return None if isinstance(value, str) else f"input is not a text but {type(value).__name__}"


def _default_out(file: Path) -> Path:
    zipped = ".gz" if file.name.lower().endswith(".gz") else ""
    name = Path(file.name[: len(file.name) - len(zipped)])
    return file.with_name(f"{name.stem}.predictions{name.suffix}{file.name[len(name.name) :]}")


def _checked_out(file: Path, out: Path | None) -> Path:
    out = _default_out(file) if out is None else out
    if out == STDOUT:
        return out
    table_format(out)
    if out.resolve() == file.resolve():
        raise DataError(
            str(out), "is the input itself", "name another file; the input is never overwritten"
        )
    return out


@dataclass(frozen=True)
class _Survey:
    """What a first reading found: rows in all, by column, and by column with a text."""

    rows: int
    present: Counter[str]
    texts: Counter[str]
    empty: Counter[str]

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.present)


def _survey(file: Path, columns: Sequence[str], encoding: str) -> _Survey:
    survey = _Survey(0, Counter(), Counter(), Counter())
    n_rows = 0
    for row in iter_table(file, columns=columns, encoding=encoding):
        n_rows += 1
        survey.present.update(row.keys())
        survey.texts.update(name for name, value in row.items() if isinstance(value, str))
        survey.empty.update(name for name, value in row.items() if value is None)
    return replace(survey, rows=n_rows)


def _choose_input(file: Path, wanted: str | None, survey: _Survey, encoding: str) -> str:
    listed = ", ".join(map(repr, survey.columns))
    usual = (name for name in USUAL_INPUTS if name in survey.present)
    column = wanted if wanted is not None else next(usual, None)
    if column is None:
        texts = [
            name
            for name, n_texts in survey.texts.items()
            if n_texts + survey.empty[name] == survey.present[name]
        ]
        if len(texts) != 1:
            several = "several columns of texts" if texts else "no column of texts"
            raise DataError(
                str(file), f"has {several}", f"name one with --input; columns there: {listed}"
            )
        column = texts[0]
    if survey.present[column] < survey.rows:
        for _ in iter_table(file, columns=[column], encoding=encoding):
            pass  # raises at the row that lacks it
    if not survey.texts[column]:
        raise DataError(
            str(file),
            f"its column {column!r} holds no text",
            f"name another with --input; columns there: {listed}",
        )
    return column


def _added_columns(labels: Sequence[str], taken: Sequence[str]) -> _Columns:
    names: list[str] = []
    for usual in ("label", "confidence", *(f"p({label})" for label in labels), "error"):
        name = usual
        while name in taken:
            name = PREFIX + name
        names.append(name)
    return _Columns(names[0], names[1], tuple(names[2:-1]), names[-1])


def _open_sink(
    file: Path, out: Path, columns: Sequence[str], added: _Columns
) -> AbstractContextManager[_Sink]:
    if out == STDOUT:
        return nullcontext(_JsonLines(sys.stdout))
    return TableWriter(
        out,
        columns=[*columns, *added.all],
        schema=_known_schema(file, added) if table_format(out)[0] == "parquet" else None,
    )


def _known_schema(file: Path, added: _Columns) -> Any:
    """Arrow fields known beforehand: all of a Parquet input's, and those that are added."""
    import pyarrow as pa

    known = [pa.field(name, pa.float64()) for name in (added.confidence, *added.probabilities)]
    known += [pa.field(name, pa.string()) for name in (added.label, added.error)]
    if table_format(file)[0] == "parquet":
        known += list(parquet_schema(file))
    return pa.schema(known)
