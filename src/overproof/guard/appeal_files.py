"""Decided appeals in a file: added, read, and sorted out for a calibration."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from overproof.errors import ConfigError, DataError
from overproof.guard.appeals import Appeal, AppealOutcome, honest_weights
from overproof.guard.row_files import numbered_rows
from overproof.guard.verdict_files import naming
from overproof.records.files import atomically
from overproof.records.traffic_checks import time_problem

__all__ = ["add_appeal", "audit_weights", "read_appeals", "without_weight"]

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


def add_appeal(path: Path, appeal: Appeal) -> int:
    """Add one decided appeal to a file: all of it or nothing, whatever happens meanwhile.

    The file is made where there is none, its folder is not. Who adds at the same time waits.

    Returns:
        How many appeals the file holds now.

    Raises:
        ConfigError: the folder is missing, or the name is that of something else.
        DataError: a line that is there already is no appeal; nothing was added.
        OSError: a full disk, a missing permission; it names the file, which is as it was.
    """
    target = path.resolve()
    if path.name.lower().endswith((".gz", ".zst")):
        raise ConfigError(str(path), "is compressed: nothing can be added", "name a plain .jsonl")
    if path.is_dir() or not target.parent.is_dir():
        what = "is a directory" if path.is_dir() else "its folder is not there"
        raise ConfigError(str(path), what, "name a file in a folder that exists")
    with naming(path), _alone_in(target.parent):
        many = len(read_appeals(path)) if path.exists() else 0
        before = target.read_bytes() if many else b""
        gap = b"\n" if before and not before.endswith(b"\n") else b""
        with atomically(target) as partial:
            partial.write_bytes(before + gap + msgspec.json.encode(appeal) + b"\n")
            if target.exists():
                shutil.copymode(target, partial)
    return many + 1


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One at a time; the file itself cannot be locked, as another takes its name."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def audit_weights(appeals: Iterable[Appeal], share: float) -> dict[str, float]:
    """How many honest accounts each appeal stands for that was upheld, of an audited account.

    Args:
        appeals: in any order; of several about one account the last counts.
        share: of all accounts, that the draw had picked when they were decided.

    Raises:
        ConfigError: a share outside (0, 1].
    """
    return honest_weights(appeals, share)


def without_weight(appeals: Iterable[Appeal], trusted: Collection[str] = ()) -> Counter[str]:
    """How many appeals stand for nobody in a calibration, by why; the first reason counts.

    Args:
        appeals: in any order.
        trusted: accounts that are in the pool as they are.
    """
    found: Counter[str] = Counter()
    decided: set[str] = set()
    for one in sorted(appeals, key=lambda one: one.at, reverse=True):
        if one.account in decided:
            found["decided anew later"] += 1
        elif one.outcome is not AppealOutcome.UPHELD:
            found["not upheld"] += 1
        elif not one.audited:
            found["not in the audit"] += 1
        elif one.account in trusted:
            found["trusted, and in the pool as such"] += 1
        decided.add(one.account)
    return found
