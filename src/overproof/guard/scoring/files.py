"""Reading verdicts and truth: JSON Lines, plain or compressed as their names say."""

from __future__ import annotations

from pathlib import Path

from overproof.errors import DataError
from overproof.guard.row_files import numbered_rows
from overproof.records.traffic import TrafficVerdict, Truth
from overproof.records.traffic_checks import verdict_problem

__all__ = ["read_truth", "read_verdicts"]

FORMATS = "the formats are described in docs/traffic.md"


def read_verdicts(path: Path) -> list[TrafficVerdict]:
    """All verdicts of a replay, in order of event time. An empty file is no verdicts.

    Raises:
        DataError: no such file, a line that is no verdict, or one with a field that cannot be true.
    """
    rows = []
    for number, verdict in numbered_rows(path, TrafficVerdict, what="verdict", remedy=FORMATS):
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
    for _, row in numbered_rows(path, Truth, what="truth", remedy=FORMATS):
        if row.account in truth:
            raise DataError(
                str(path), f"account {row.account!r} is told twice", "keep one line of each"
            )
        truth[row.account] = row
    if not truth:
        raise DataError(str(path), "holds no account", "score against a labelled log")
    return truth
