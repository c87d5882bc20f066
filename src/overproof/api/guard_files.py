"""Small files beside a log: lists of accounts, records and drawings of a replay."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from overproof.errors import ConfigError, DataError

__all__ = ["converted", "read_json", "read_names", "read_rows"]

S = TypeVar("S")
T = TypeVar("T")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(str(path), f"is no JSON: {error}", "write it again") from error
    if not isinstance(found, dict):
        raise DataError(str(path), "is no JSON object", "write it again")
    return found


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """JSON Lines; none where there is no such file.

    Raises:
        DataError: a line is no JSON.
    """
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        yield converted(path, line, json.loads)


def converted(path: Path, value: S, convert: Callable[[S], T]) -> T:
    """What ``convert`` makes of a value from the file at ``path``.

    Raises:
        DataError: it raised a ValueError.
    """
    try:
        return convert(value)
    except (ValueError, RecursionError) as error:
        raise DataError(str(path), f"holds no community: {error}", "replay again") from error


def read_names(path: Path) -> set[str]:
    """One account a line; blank lines and lines that begin with # do not count.

    Raises:
        DataError: the file cannot be read.
        ConfigError: it names nobody.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(str(path), "there is no such file", "list one account a line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), f"cannot be read: {error}", "list one account a line") from error
    names = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    if not names:
        raise ConfigError(str(path), "names no account", "list one trusted account a line")
    return names
