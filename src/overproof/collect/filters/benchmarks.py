"""Reading benchmark files: which texts of them must not be in a training set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from overproof.collect.filters.ngrams import Items
from overproof.config.filters import BenchmarkFile
from overproof.errors import DataError
from overproof.records.tables import read_table

__all__ = ["read_benchmark", "read_lines"]

USUAL = ("question", "prompt", "problem", "text", "input", "instruction", "query", "sentence")


def read_benchmark(file: BenchmarkFile, home: Path) -> Items:
    """The texts of a benchmark.

    A ``.txt`` has an item a line. Of a table, the columns named are read, or the first of the usual
    names; a value that is no text is read by the strings in it (choices, chats).

    Raises:
        DataError: the file cannot be read, holds no such column, or no text at all.
    """
    path = home / file.path
    name = file.name or path.name
    if path.suffix.lower() == ".txt":
        return _some(Items(name, read_lines(path)), path)
    rows = read_table(path, columns=file.columns)
    columns = file.columns or tuple(column for column in USUAL if column in rows[0])[:1]
    if not columns:
        raise DataError(
            str(path),
            f"has no column of a usual name: {', '.join(USUAL)}",
            f"name the columns to keep out in columns; there are {', '.join(map(repr, rows[0]))}",
        )
    texts = [text for row in rows for column in columns for text in _strings(row.get(column))]
    return _some(Items(name, texts), path)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that hold something.

    Raises:
        DataError: it cannot be read as UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), f"cannot be read: {error}", "name a UTF-8 text file") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _some(items: Items, path: Path) -> Items:
    if not items.texts:
        raise DataError(str(path), "holds no text", "check the file, and the columns named for it")
    return items


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, dict):
        if isinstance(value.get("content"), str):  # a message of a chat
            return _strings(value["content"])
        value = list(value.values())
    if isinstance(value, list):
        return [text for part in value for text in _strings(part)]
    return []
