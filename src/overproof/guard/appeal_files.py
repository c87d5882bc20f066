"""Decided appeals from a file, and how many honest accounts each stands for in a calibration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from overproof.errors import DataError
from overproof.guard.appeals import Appeal, honest_weights
from overproof.guard.row_files import numbered_rows
from overproof.records.traffic_checks import time_problem

__all__ = ["audit_weights", "read_appeals"]

FIELDS = "write account, at, outcome, action, decided_by, reason and audited, as Appeal has them"


def read_appeals(path: Path) -> list[Appeal]:
    """Appeals as they were decided: one a line, with the fields of `Appeal`; others are let be.

    Raises:
        DataError: the file cannot be read, or a line is no appeal; the culprit is FILE:LINE.
    """
    found = []
    for place, appeal in numbered_rows(path, Appeal, what="appeal", remedy=FIELDS):
        if not appeal.account:
            raise DataError(f"{path}:{place}", "names no account", FIELDS)
        if problem := time_problem(appeal.at):
            raise DataError(f"{path}:{place}", f"at {problem}", FIELDS)
        found.append(appeal)
    return found


def audit_weights(appeals: Iterable[Appeal], share: float) -> dict[str, float]:
    """How many honest accounts each appeal stands for that was upheld, of an audited account.

    Of several decisions about one account the last counts: who was believed and then found out
    teaches nothing.

    Args:
        appeals: in any order.
        share: of all accounts, that the draw had picked when they were decided.

    Raises:
        ConfigError: a share outside (0, 1].
    """
    last = {one.account: one for one in sorted(appeals, key=lambda one: one.at)}
    return honest_weights(last.values(), share)
