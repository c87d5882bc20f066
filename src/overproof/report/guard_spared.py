"""Who was spared an action in a replay, by why: a permission, or conduct that does not stand out.

The two are not alike. A permission is somebody's word for an account; conduct that does not stand
out is what a member of a community is spared for without anybody having asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from overproof.errors import DataError
from overproof.records.traffic_checks import time_problem
from overproof.report import facts
from overproof.report.guard_words import plain_values, when

__all__ = ["INCONSPICUOUS", "SparedTable", "checked_replay", "dated", "spared_tables"]

INCONSPICUOUS = "its own conduct does not stand out"  # as a replay writes it
TIMES = ("since", "until")


class SparedTable(NamedTuple):
    """Headings, at most so many rows, and how many there are."""

    titles: list[str]
    rows: list[list[facts.Fact]]
    total: int


def checked_replay(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A replay's report with its times and its ``spared`` in the shape that the page takes.

    Raises:
        DataError: they are not; the culprit is ``where`` with the field.
    """
    spared = record.get("spared", [])
    if not isinstance(spared, list):
        raise DataError(f"{where}: spared", "is no list", "replay again")
    times = [(name, record.get(name)) for name in TIMES]
    for place, row in enumerate(spared):
        if not isinstance(row, dict):
            raise DataError(f"{where}: spared[{place}]", "is no object", "replay again")
        times.append((f"spared[{place}].at", row.get("at")))
    for name, value in times:
        if value is not None and (problem := time_problem(value)):
            raise DataError(f"{where}: {name}", problem, "replay again")
    return dict(record)


def dated(record: Mapping[str, Any], names: Sequence[str] = TIMES) -> dict[str, Any]:
    """The record with those of its fields that are times as dates."""
    return {
        name: when(value)
        if name in names and isinstance(value, int | float) and not isinstance(value, bool)
        else value
        for name, value in record.items()
    }


def spared_tables(rows: Sequence[Mapping[str, Any]], most: int) -> tuple[SparedTable, SparedTable]:
    """Those permitted, and those whose own conduct does not stand out, as tables.

    Args:
        rows: of any keys; ``at`` is a time, ``reason`` tells the two apart.
        most: rows of each table.
    """
    permitted = [row for row in rows if row.get("reason") != INCONSPICUOUS]
    quiet = [row for row in rows if row.get("reason") == INCONSPICUOUS]
    return _table(permitted, most), _table(quiet, most)


def _table(rows: Sequence[Mapping[str, Any]], most: int) -> SparedTable:
    shown = [plain_values(dated(row, ("at",))) for row in rows[:most]]
    return SparedTable(*facts.table(shown), len(rows))
