"""Who was spared an action in a replay, by why: a permission, or conduct that did not stand out.

The two are not alike. A permission is somebody's word for an account; conduct that did not stand
out is what a member of a community is spared for without anybody having asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from overproof.errors import DataError
from overproof.records.traffic_checks import time_problem
from overproof.report import facts
from overproof.report.guard_words import plain_values, when

__all__ = ["INCONSPICUOUS", "SparedTable", "checked_replay", "dated", "spared_tables"]

INCONSPICUOUS = "its own conduct did not stand out at that time"  # as a replay writes it
QUIET = frozenset({INCONSPICUOUS, "its own conduct does not stand out"})  # and as one wrote it
TIMES = ("since", "until")


class SparedTable(NamedTuple):
    """Headings, at most so many rows, and how many there are.

    Attributes:
        total: rows that there are, shown or not.
        held: how many more were left out, as their accounts were acted on at another time.
        cut: how many more the replay's report counts and does not hold.
    """

    titles: list[str]
    rows: list[list[facts.Fact]]
    total: int
    held: int = 0
    cut: int = 0


def checked_replay(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A replay's report with its times and whom it spared in the shape that the page takes.

    Raises:
        DataError: they are not; the culprit is ``where`` with the field.
    """
    spared = record.get("spared", [])
    if not isinstance(spared, list):
        raise DataError(f"{where}: spared", "is no list", "replay again")
    in_all = record.get("spared_in_all", {})
    sound = isinstance(in_all, dict) and all(type(n) is int and n >= 0 for n in in_all.values())
    if not sound:
        raise DataError(f"{where}: spared_in_all", "is no count by reason", "replay again")
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


def spared_tables(
    rows: Sequence[Mapping[str, Any]],
    most: int,
    *,
    held: Collection[str] = (),
    in_all: Mapping[str, int] | None = None,
) -> tuple[SparedTable, SparedTable]:
    """Those permitted, and those whose own conduct did not stand out, as tables.

    Args:
        rows: of any keys; ``at`` is a time, ``reason`` tells the two apart.
        most: rows of each table; every reason has its share of them.
        held: accounts that were acted on at some time: of those who were not permitted, they are
            only counted.
        in_all: how many rows there were of each reason of which ``rows`` hold but some.
    """
    quiet = [row for row in rows if row.get("reason") in QUIET]
    never = [row for row in quiet if row.get("account") not in held]
    permitted = [row for row in rows if row.get("reason") not in QUIET]
    table = _table(never, most, _cut(quiet, in_all or {}, quiet=True))
    acted = len(quiet) - len(never)
    return _table(permitted, most, _cut(permitted, in_all or {})), table._replace(held=acted)


def _cut(rows: Sequence[Mapping[str, Any]], in_all: Mapping[str, int], quiet: bool = False) -> int:
    """How many rows there were beside these, where reasons say more than there are."""
    here = Counter(str(row.get("reason")) for row in rows)
    return sum(max(0, many - here[why]) for why, many in in_all.items() if (why in QUIET) is quiet)


def _table(rows: Sequence[Mapping[str, Any]], most: int, cut: int) -> SparedTable:
    shown = [plain_values(dated(row, ("at",))) for row in _shared(rows, most)]
    return SparedTable(*facts.table(shown), len(rows), cut=cut)


def _shared(rows: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """At most so many rows in their order: the first of each reason, the second, and so on."""
    met: Counter[str] = Counter()
    turns = []
    for place, row in enumerate(rows):
        why = str(row.get("reason"))
        turns.append((met[why], place))
        met[why] += 1
    return [rows[place] for place in sorted(place for _, place in sorted(turns)[:most])]
