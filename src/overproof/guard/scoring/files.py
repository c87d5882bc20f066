"""Reading verdicts and truth: JSON Lines, plain or compressed as their names say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from overproof.errors import DataError
from overproof.guard.reading import raw_lines
from overproof.records.traffic import TrafficVerdict, Truth
from overproof.records.traffic_checks import verdict_problem

__all__ = ["read_truth", "read_verdicts"]

Row = TypeVar("Row", TrafficVerdict, Truth)


def read_verdicts(path: Path) -> list[TrafficVerdict]:
    """All verdicts of a replay, in order of event time. An empty file is no verdicts.

    Raises:
        DataError: no such file, a line that is no verdict, or one with a field that cannot be true.
    """
    rows = []
    for number, verdict in _numbered(path, TrafficVerdict):
        if problem := verdict_problem(verdict):
            raise DataError(f"{path}:{number}", problem, "replay again: no replay writes this")
        rows.append(verdict)
    rows.sort(key=lambda verdict: verdict.decided_at)
    return rows


def read_truth(path: Path) -> dict[str, Truth]:
    """What every account is, by account.

    Raises:
        DataError: no such file, a line that is no truth, an account told twice, or no line at all.
    """
    truth: dict[str, Truth] = {}
    for _, row in _numbered(path, Truth):
        if row.account in truth:
            raise DataError(
                str(path), f"account {row.account!r} is told twice", "keep one line of each"
            )
        truth[row.account] = row
    if not truth:
        raise DataError(str(path), "holds no account", "score against a labelled log")
    return truth


def _numbered(path: Path, kind: type[Row]) -> Iterator[tuple[int, Row]]:
    if not path.is_file():
        raise DataError(str(path), "there is no such file", "check the path")
    decode = msgspec.json.Decoder(kind).decode
    for number, line in enumerate(raw_lines(path), 1):
        if line is not None and not line.strip():
            continue
        try:
            row = decode(line or b"")  # None stands for a line beyond all bounds
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise DataError(
                f"{path}:{number}",
                f"is no {'verdict' if kind is TrafficVerdict else 'truth'}: {error}",
                "the formats are described in docs/traffic.md",
            ) from None
        yield number, row
