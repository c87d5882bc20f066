"""Rows of a log file, each with the line it stands on; a bad row does not end the reading."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn, cast

from overproof.errors import DataError

__all__ = ["LogRow", "check_text", "delimited_rows", "json_rows", "parquet_rows"]

SURROGATE = re.compile("[\ud800-\udfff]")
LARGEST_FIELD = 16 * 1024 * 1024


class LogRow(NamedTuple):
    """A row, or why it cannot be read. ``where`` is FILE:LINE, or FILE:LINE:COLUMN of a fault."""

    where: str
    row: dict[str, Any] | None
    reason: str = ""


@contextmanager
def _text(path: Path, encoding: str) -> Iterator[IO[str]]:
    """The file as text. Bytes that are none come back as surrogates and are found by row."""
    zipped = path.name.lower().endswith(".gz")
    plain = encoding.lower().replace("_", "-") in ("utf-8", "utf8")
    codec = "utf-8-sig" if plain else encoding
    try:
        codecs.lookup(codec)
        raw = cast(IO[bytes], gzip.open(path) if zipped else path.open("rb"))  # noqa: SIM115
        with io.TextIOWrapper(raw, codec, errors="surrogateescape", newline="") as stream:
            yield stream
    except LookupError as error:
        raise DataError(str(path), str(error), "the usual ones are utf-8 and latin-1") from error
    except UnicodeError as error:
        raise DataError(
            str(path), f"is not {encoding}: {error}", "say which encoding it has"
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            str(path), f"is damaged or not gzipped: {error}", "compress it again, or drop the .gz"
        ) from error
    except OSError as error:
        raise DataError(
            str(path), f"cannot be read: {error.strerror or error}", "check the path"
        ) from error


def check_text(path: Path, encoding: str) -> None:
    """Read a text file to its end, so that a damaged one is refused before half is imported.

    Raises:
        DataError: it is cut off, not gzipped, or not in that encoding at all.
    """
    with _text(path, encoding) as stream:
        while stream.read(1 << 20):
            pass


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def json_rows(path: Path, encoding: str) -> Iterator[LogRow]:
    """One JSON object a line; blank lines are skipped.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    with _text(path, encoding) as stream:
        for number, line in enumerate(_lines(stream), start=1):
            if line.strip():
                yield _json_row(f"{path}:{number}", line, encoding)


def _lines(stream: IO[str]) -> Iterator[str]:
    """Lines by line feed alone: a text may hold any other separator."""
    held = ""
    for piece in stream:  # newline="" also ends a piece at a lone carriage return
        held += piece
        if held.endswith("\n"):
            yield held
            held = ""
    if held:
        yield held


def _json_row(where: str, line: str, encoding: str) -> LogRow:
    if bad := SURROGATE.search(line):
        byte = ord(bad[0]) & 0xFF
        return LogRow(f"{where}:{bad.start() + 1}", None, f"byte 0x{byte:02x} is not {encoding}")
    try:
        row = json.loads(line, parse_constant=_refuse_constant)
        if "\\ud" in line.lower():
            json.dumps(row, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        return LogRow(f"{where}:{error.colno}", None, f"is not JSON: {error.msg}")
    except UnicodeEncodeError:
        return LogRow(where, None, "holds half of a surrogate pair")
    except (ValueError, RecursionError) as error:
        return LogRow(where, None, f"is not usable JSON: {error}")
    if not isinstance(row, dict):
        reason = "is not a JSON object"
        if isinstance(row, list):
            reason += "; one object a line is expected, not an array"
        return LogRow(f"{where}:1", None, reason)
    return LogRow(where, row)


def delimited_rows(
    path: Path, delimiter: str, columns: tuple[str, ...], encoding: str
) -> Iterator[LogRow]:
    """Records of a CSV or TSV with a header (RFC 4180), by the line that each starts on.

    Raises:
        DataError: the file as a whole cannot be read, or lacks one of ``columns``.
    """
    csv.field_size_limit(LARGEST_FIELD)
    with _text(path, encoding) as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            where = f"{path}:{reader.line_num + 1}"
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield LogRow(where, None, f"the record that starts here cannot be read: {error}")
                continue
            if header is None:
                header = fields
                _check_columns(where, header, columns)
            elif fields:
                yield _delimited_row(where, header, fields, encoding)


def _check_columns(where: str, header: list[str], columns: tuple[str, ...]) -> None:
    for name in columns:
        if header.count(name) != 1:
            reason = "twice" if name in header else "not"
            raise DataError(
                where,
                f"its header names the column {name!r} {reason}",
                "name the columns with --input and --label; those there: "
                + ", ".join(map(repr, header)),
            )


def _delimited_row(where: str, header: list[str], fields: list[str], encoding: str) -> LogRow:
    if len(fields) != len(header):
        return LogRow(where, None, f"has {len(fields)} fields, its header {len(header)}")
    for name, value in zip(header, fields, strict=True):
        if bad := SURROGATE.search(value):
            byte = ord(bad[0]) & 0xFF
            return LogRow(where, None, f"byte 0x{byte:02x} in column {name!r} is not {encoding}")
    return LogRow(where, dict(zip(header, fields, strict=True)))


def parquet_rows(path: Path) -> Iterator[LogRow]:
    """Rows of a Parquet file; columns of JSON objects as text become objects.

    Raises:
        DataError: it is not a readable Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield _parquet_row(f"{path}: row {number}", row)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            str(path), f"is not a readable Parquet file: {error}", "check the path"
        ) from error


def _parquet_row(where: str, row: dict[str, Any]) -> LogRow:
    for name in ("request", "response", "error", "overproof"):
        if isinstance(text := row.get(name), str):
            try:
                row[name] = json.loads(text, parse_constant=_refuse_constant)
            except (ValueError, RecursionError) as error:
                return LogRow(where, None, f"column {name!r} is not JSON: {error}")
    return LogRow(where, row)
