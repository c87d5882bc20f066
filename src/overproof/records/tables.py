"""Tables on disk: CSV, TSV, JSONL and Parquet, told by the file's ending.

The text formats may be gzipped (``.csv.gz``). Rows are dicts in file order; the values of CSV and
TSV are strings, JSONL and Parquet keep their types. Every error names FILE:LINE[:COLUMN]. CSV
follows RFC 4180 with a header; JSONL is one JSON object a line. Blank lines are skipped.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from overproof.errors import DataError
from overproof.records.table_format import BATCH, DELIMITERS, table_format, to_json_line
from overproof.records.table_writer import TableWriter

__all__ = [
    "TableWriter",
    "iter_table",
    "parquet_schema",
    "read_table",
    "table_format",
    "to_json_line",
    "write_table",
]

# An unclosed quote swallows the rest of the file: stop long before memory does.
LARGEST_FIELD = 16 * 1024 * 1024


def read_table(
    path: Path, *, columns: Sequence[str] = (), encoding: str = "utf-8"
) -> list[dict[str, Any]]:
    """All rows of a table; see ``iter_table``."""
    return list(iter_table(path, columns=columns, encoding=encoding))


def iter_table(
    path: Path, *, columns: Sequence[str] = (), encoding: str = "utf-8"
) -> Iterator[dict[str, Any]]:
    """Rows of a table one after another, in bounded memory.

    Args:
        path: the file; its ending tells the format.
        columns: columns that must be there (others are kept too).
        encoding: of the text formats; a byte order mark is understood.

    Raises:
        DataError: at once where the file cannot be opened at all, and from the iterator at the
            first row that cannot be read, or where there is no row.
    """
    _check_readable(path)
    kind, _ = table_format(path)
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise DataError(
            str(path),
            f"there is no encoding {encoding!r}",
            "the usual ones are 'utf-8', 'latin-1', 'cp1252' and 'utf-16'",
        ) from None
    if kind == "parquet":
        return _iter_parquet(path, columns)
    if kind == "jsonl":
        return _iter_jsonl(path, columns, encoding)
    return _iter_delimited(path, columns, encoding, DELIMITERS[kind])


def parquet_schema(path: Path) -> Any:
    """The Arrow schema of a Parquet file.

    Raises:
        DataError: when it is not a Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(path, error) from error


def _check_readable(path: Path) -> None:
    if path.is_dir():
        raise DataError(str(path), "is a folder", "name a file in it")
    if path.exists():
        return
    folder = path.parent
    if not folder.is_dir():
        raise DataError(str(path), "there is no such file", f"its folder {folder} is missing too")
    there = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    near = difflib.get_close_matches(path.name, there, n=1, cutoff=0.5)
    way_out = f"did you mean {folder / near[0]}?" if near else "check the path"
    raise DataError(str(path), "there is no such file", way_out)


def _missing_column(where: str, wanted: str, there: Sequence[str]) -> DataError:
    near = difflib.get_close_matches(wanted, there, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    listed = ", ".join(repr(name) for name in there) or "none"
    return DataError(where, f"has no column {wanted!r}", f"{hint}columns there: {listed}")


def _not_parquet(path: Path, error: Exception) -> DataError:
    return DataError(
        str(path),
        f"is not a readable Parquet file: {str(error).splitlines()[0]}",
        "check that it was written to its end",
    )


def _open_bytes(path: Path) -> IO[bytes]:
    if path.name.lower().endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def _decoding(encoding: str) -> str:
    """The codec that also takes a byte order mark away."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


@contextmanager
def _lines(path: Path, encoding: str) -> Iterator[Iterator[str]]:
    """Decoded lines with their ends; errors of reading become ``DataError``."""
    try:
        # newline="": the csv module must see the line ends inside quotes as they are.
        with io.TextIOWrapper(_open_bytes(path), _decoding(encoding), newline="") as stream:
            yield _without_nul(path, stream)
    except UnicodeError as error:
        raise _undecodable(path, encoding, error) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            str(path), f"is damaged or not gzipped: {error}", "compress it again, or drop the .gz"
        ) from error
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror or error}") from error


def _without_nul(path: Path, stream: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        if "\0" in line:
            raise DataError(
                f"{path}:{number}:{line.index(chr(0)) + 1}",
                "holds a NUL byte, so it is not text in this encoding",
                "if it was saved as UTF-16, say encoding = 'utf-16'",
            )
        yield line


def _undecodable(path: Path, encoding: str, error: UnicodeError) -> DataError:
    """Find the line and byte column again: the decoder works in chunks and does not know them."""
    codec = _decoding(encoding)
    where = str(path)
    with _open_bytes(path) as stream:
        start = stream.read(2)
        stream.seek(0)
        if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return DataError(f"{path}:1:1", f"is not {encoding}", "say encoding = 'utf-16'")
        # A UTF-16 or UTF-32 file cannot be cut at line ends byte by byte.
        for number, line in enumerate(stream if "\n".encode(encoding) == b"\n" else (), start=1):
            try:
                line.decode(codec if number == 1 else encoding)
            except UnicodeDecodeError as bad:
                where = f"{path}:{number}:{bad.start + 1}"
                byte = bad.object[bad.start]
                return DataError(
                    where,
                    f"byte 0x{byte:02x} is not {encoding}",
                    "if the file comes from a spreadsheet or is old, say encoding = 'latin-1'",
                )
    return DataError(where, f"is not {encoding}: {error}", "say which encoding it has")


def _empty(path: Path, reason: str = "is empty") -> DataError:
    return DataError(str(path), reason, "name a file with at least one row")


def _iter_delimited(
    path: Path, columns: Sequence[str], encoding: str, delimiter: str
) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(LARGEST_FIELD)
    with _lines(path, encoding) as lines:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        n_rows = 0
        for line, fields in _records(path, reader):
            if header is None:
                header = fields
                _check_header(f"{path}:{line}", header, columns)
                continue
            if len(fields) != len(header):
                raise DataError(
                    f"{path}:{line}",
                    f"has {len(fields)} fields, its header {len(header)}",
                    'put quotes "…" around a value that holds the delimiter, a quote or a line '
                    "break",
                )
            n_rows += 1
            yield dict(zip(header, fields, strict=True))
        if header is None:
            raise _empty(path)
        if not n_rows:
            raise _empty(path, "has a header and no rows")


def _records(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Non-blank records with the physical line that each starts on."""
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{path}:{line}",
                f"the record that starts here cannot be read: {error}",
                'close its quotes, and write a quote inside quotes twice ("")',
            ) from error
        if fields:
            yield line, fields


def _check_header(where: str, header: list[str], columns: Sequence[str]) -> None:
    for name in header:
        if header.count(name) > 1:
            raise DataError(where, f"names the column {name!r} twice", "rename one of them")
    for wanted in columns:
        if wanted not in header:
            raise _missing_column(where, wanted, header)


def _iter_jsonl(path: Path, columns: Sequence[str], encoding: str) -> Iterator[dict[str, Any]]:
    n_rows = 0
    with _lines(path, encoding) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            row = _json_object(path, number, line)
            for wanted in columns:
                if wanted not in row:
                    raise _missing_column(f"{path}:{number}", wanted, list(row))
            n_rows += 1
            yield row
    if not n_rows:
        raise _empty(path)


def _json_object(path: Path, number: int, line: str) -> dict[str, Any]:
    way_out = "put one JSON object on each line"
    try:
        row = json.loads(line)
        # Half a surrogate pair is valid JSON and no valid text: nothing downstream can encode it.
        if "\\ud" in line.lower():
            to_json_line(row).encode()
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{number}:{error.colno}", f"is not JSON: {error.msg}", way_out
        ) from (error)
    except UnicodeEncodeError as error:
        raise DataError(
            f"{path}:{number}", "holds half of a surrogate pair", "write the character itself"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{number}", f"is not usable JSON: {error}", way_out) from error
    if not isinstance(row, dict):
        kind = {list: "an array", str: "a string", type(None): "null"}.get(type(row), "a value")
        raise DataError(f"{path}:{number}:1", f"is {kind}, not a JSON object", way_out)
    return row


def _iter_parquet(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    n_rows = 0
    try:
        with pq.ParquetFile(path) as file:
            _check_header(str(path), list(file.schema_arrow.names), columns)
            for batch in file.iter_batches(batch_size=BATCH):
                n_rows += batch.num_rows
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(path, error) from error
    if not n_rows:
        raise _empty(path, "has no rows")


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows in the format of the path's ending; the columns are the first row's.

    Raises:
        DataError: for an ending that is none of ours, a row that does not fit the first, or a
            path that cannot be written. The old file, if there was one, is then left as it was.
    """
    with TableWriter(path) as writer:
        for row in rows:
            writer.write(row)
