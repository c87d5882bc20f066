"""The log without its text: messages and tool names out, keyed fingerprints in.

What guard finds on the rewritten log is what it finds on the full one. Fields that no event has
are kept as they are, and named in the counts: if one of them holds text, it still does.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from overproof.errors import DataError, MissingExtraError
from overproof.guard.events import BadLine, BadReason, decode_row, line_fields
from overproof.guard.fingerprints import Fingerprinter
from overproof.guard.merging import FileMerge
from overproof.guard.reading import (
    JUDGED_FROM,
    ReadCounts,
    log_files,
    parquet_rows,
    raw_lines,
)
from overproof.records.files import atomically
from overproof.records.traffic import Event

__all__ = ["RewriteCounts", "rewrite_log"]

TARGETS = (".jsonl", ".jsonl.gz", ".jsonl.zst")
TEXT = ("messages", "tools", "text_sketch")
LONGEST_PARAM = 64  # characters; longer parameters are text
MOST_NAMES = 100
KNOWN = frozenset(Event.__struct_fields__)

_Line = tuple[dict[str, Any], Event | BadLine]


@dataclass
class RewriteCounts:
    """What became of a log.

    Attributes:
        read: lines, events, and bad lines, which are left out.
        sketched: events that had text and now have a sketch.
        kept: events that had a sketch already, or neither.
        unknown: how often a field that guard does not know was kept, by name.
        params_dropped: parameters left out because they may hold text.
    """

    read: ReadCounts = field(default_factory=ReadCounts)
    sketched: int = 0
    kept: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    params_dropped: int = 0


def rewrite_log(
    source: Path,
    target: Path,
    key: bytes,
    *,
    most_bad_lines: float = 0.01,
    progress: Callable[[int], None] | None = None,
) -> RewriteCounts:
    """Write the log at ``source`` to ``target`` without its text.

    Args:
        source: a file, or a directory whose files are one log, in the order of time.
        target: a ``.jsonl``, ``.jsonl.gz`` or ``.jsonl.zst``; its old content, if any, stays until
            the new one is complete.
        key: of the fingerprints, at least 16 bytes.
        most_bad_lines: share of lines that may be no events; they are left out of the target,
            since nobody knows what they hold.
        progress: called with the number of lines done, every 10,000.

    Raises:
        DataError: either cannot be read or written, or too many lines are bad. Nothing is then
            left under the target's name that was not there before.
        SecretError: the key is too short.
    """
    _check_target(source, target)
    counts = RewriteCounts()
    fingerprinter = Fingerprinter(key)
    with _written(target) as stream:
        for fields, event in _lines(source, lax=most_bad_lines >= 1):
            counts.read.lines += 1
            if progress is not None and counts.read.lines % 10_000 == 0:
                progress(counts.read.lines)
            if isinstance(event, BadLine):
                counts.read.add_bad(event)
                if counts.read.lines >= JUDGED_FROM:
                    counts.read.judge(most_bad_lines)
                continue
            counts.read.events += 1
            row = _without_text(fields, event, fingerprinter, counts)
            stream.write(msgspec.json.encode(row, enc_hook=str) + b"\n")
        counts.read.judge(most_bad_lines)
    return counts


def _check_target(source: Path, target: Path) -> None:
    if not target.name.lower().endswith(TARGETS):
        raise DataError(
            str(target), "its ending does not say how to write it", "use " + ", ".join(TARGETS)
        )
    whole, written = source.resolve(), target.resolve()
    if whole == written or (source.is_dir() and whole in written.parents):
        raise DataError(
            str(target), "would become part of the log it is made from", "write it elsewhere"
        )


def _lines(source: Path, *, lax: bool) -> Iterator[_Line]:
    """Each line's fields, unknown ones included, beside the event that it is, by time."""
    files = log_files(source)
    if len(files) == 1:
        yield from _file_lines(files[0], lax)
        return

    def items(number: int, skip: int) -> Generator[_Line, None, None]:
        yield from islice(_file_lines(files[number], lax), skip, None)

    for _, line in FileMerge([str(file) for file in files], items, _time):
        yield line


def _time(line: _Line) -> float | None:
    return None if isinstance(line[1], BadLine) else line[1].ts


def _file_lines(file: Path, lax: bool) -> Iterator[_Line]:
    """A file's lines; where ``lax``, one that is damaged gives what it has, as in a replay."""
    last = 0
    try:
        for number, line in _numbered_lines(file):
            last = number
            yield line
    except DataError:
        if not lax:
            raise
        yield {}, BadLine(str(file), last + 1, BadReason.CUT_OFF)


def _numbered_lines(file: Path) -> Iterator[tuple[int, _Line]]:
    where = str(file)
    if where.lower().endswith(".parquet"):
        for number, row in enumerate(parquet_rows(file), start=1):
            present = {name: value for name, value in row.items() if value is not None}
            yield number, (present, decode_row(row, where, number))
        return
    for number, line in enumerate(raw_lines(file), start=1):
        if line is None:
            yield number, ({}, BadLine(where, number, BadReason.TOO_LONG))
        elif not line.isspace():
            fields = line_fields(line, where, number)
            if isinstance(fields, BadLine):
                yield number, ({}, fields)
            else:
                yield number, (fields, decode_row(fields, where, number))


def _without_text(
    row: dict[str, Any], event: Event, fingerprinter: Fingerprinter, counts: RewriteCounts
) -> dict[str, Any]:
    for name in row:
        if name in KNOWN:
            continue
        if name in counts.unknown or len(counts.unknown) < MOST_NAMES:
            counts.unknown[name] = counts.unknown.get(name, 0) + 1
    out = {name: value for name, value in row.items() if name not in TEXT}
    if "params" in row:
        out["params"] = {
            name: value
            for name, value in event.params.items()
            if isinstance(value, int | float | None)
            or (isinstance(value, str) and len(value) <= LONGEST_PARAM)
        }
        counts.params_dropped += len(event.params) - len(out["params"])
    if event.messages is None and event.text_sketch is None and not event.tools:
        counts.kept += 1
        return out
    counts.kept += event.text_sketch is not None
    counts.sketched += event.text_sketch is None
    out["text_sketch"] = msgspec.to_builtins(fingerprinter.sketch(event))
    return out


@contextmanager
def _written(target: Path) -> Iterator[IO[bytes]]:
    """A stream into a hidden neighbour, which takes the target's name when all went well.

    Raises:
        DataError: the disk is full, or the directory does not let us write.
    """
    try:
        with (
            atomically(target) as partial,
            partial.open("wb") as file,
            _compressed(file, target.name.lower()) as stream,
        ):
            yield stream
    except OSError as error:
        raise DataError(
            str(target), f"cannot be written: {error.strerror or error}", "nothing was changed"
        ) from error


@contextmanager
def _compressed(file: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    if name.endswith(".gz"):
        # No name and no time in the header: equal logs are equal files.
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as zipped:
            yield cast(IO[bytes], zipped)
    elif name.endswith(".zst"):
        try:
            import pyarrow as pa
        except ImportError as error:
            raise MissingExtraError("pyarrow", "guard") from error
        with pa.CompressedOutputStream(pa.PythonFile(file, "w"), "zstd") as squeezed:
            yield cast(IO[bytes], squeezed)
    else:
        yield file
