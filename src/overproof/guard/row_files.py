"""Files of one kind of row a line: verdicts, truths, appeals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from overproof.errors import DataError
from overproof.guard.reading import raw_lines

__all__ = ["numbered_rows"]

Row = TypeVar("Row")


def numbered_rows(
    path: Path, kind: type[Row], *, what: str, remedy: str
) -> Iterator[tuple[int, Row]]:
    """The rows of a file of JSON Lines, plain, gz or zst, with their line numbers from 1.

    Args:
        path: the file; blank lines in it are passed over.
        kind: of row.
        what: a row, in words.
        remedy: what to do where a line is none.

    Raises:
        DataError: no such file, or a line that is no such row; the culprit is FILE:LINE.
    """
    if not path.is_file():
        raise DataError(str(path), "there is no such file", "check the path")
    decode = msgspec.json.Decoder(kind).decode
    for number, line in enumerate(raw_lines(path), 1):
        if line is not None and not line.strip():
            continue
        try:
            row = decode(line or b"")  # None stands for a line beyond all bounds
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DataError(f"{path}:{number}", f"is no {what}: {error}", remedy) from None
        yield number, row
