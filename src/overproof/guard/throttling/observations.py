"""What the experiment writes down of every request of the community, and the tables made of it.

Shapes: N attempts, W windows of a round, F watched accounts.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from overproof.errors import DataError
from overproof.guard.throttling.design import Design

__all__ = ["Index", "Observations", "first_attempts", "watched_loads"]

Floats = npt.NDArray[np.float64]
MOST = 5_000_000  # attempts kept, 105 MB


@dataclass
class Observations:
    """Every attempt by an account of the community, refused or not, in order of time.

    Attempts are counted, not answers: what was served depends on the throttle itself.

    Attributes:
        at: seconds since the epoch.
        account: index into ``Design.order``.
        prompt: keyed fingerprint of the whole request (``Sketch.prompt``), 0 where unknown.
        refused: 1 where the experiment answered 429.
        cut: the record was full; there is no analysis of half a record.
    """

    at: array[float] = field(default_factory=lambda: array("d"))
    account: array[int] = field(default_factory=lambda: array("i"))
    prompt: array[int] = field(default_factory=lambda: array("Q"))
    refused: array[int] = field(default_factory=lambda: array("b"))
    cut: bool = False

    def add(self, at: float, account: int, prompt: int, refused: bool) -> None:
        """Note one attempt."""
        if len(self.at) >= MOST:
            self.cut = True
            return
        self.at.append(at)
        self.account.append(account)
        self.prompt.append(prompt)
        self.refused.append(refused)

    def state(self) -> Any:
        """Plain values for a snapshot."""
        columns = (self.at, self.account, self.prompt, self.refused)
        return [self.cut, *(column.tobytes() for column in columns)]

    def restore(self, state: Any) -> None:
        """Take back what `state` gave."""
        self.cut = bool(state[0])
        for name, code, raw in zip(
            ("at", "account", "prompt", "refused"), "diQb", state[1:], strict=True
        ):
            column: array[Any] = array(code)
            column.frombytes(raw)
            setattr(self, name, column)

    def check(self) -> None:
        """Refuse a record that an analysis must not use.

        Raises:
            DataError: the record was cut off.
        """
        if self.cut:
            raise DataError(
                "the record of the throttling experiment",
                f"is full at {MOST:,} attempts and was cut off",
                "plan shorter windows or fewer accounts",
            )


@dataclass(frozen=True)
class Index:
    """The first attempt of one throttled account in one window: the one followed further."""

    window: int
    at: float
    prompt: int


def watched_loads(design: Design, seen: Observations, round_: int) -> tuple[Floats, Floats]:
    """Attempts of the watched accounts in every window of a round and in its baseline.

    Returns:
        Two tables of counts, W x F.
    """
    watched = design.watched(round_)
    column = np.full(len(design.order), -1)
    column[[design.order.index(name) for name in watched]] = np.arange(len(watched))
    at, account = np.asarray(seen.at, dtype=np.float64), np.asarray(seen.account, dtype=np.int64)
    loads = np.zeros((design.per_round, len(watched)))
    before = np.zeros_like(loads)
    for w in range(design.per_round):
        start = design.window_start(round_ * design.per_round + w)
        for table, low in ((loads, start), (before, start - design.window_s)):
            first, last = np.searchsorted(at, [low, low + design.window_s])
            columns = column[account[first:last]]
            table[w] = np.bincount(columns[columns >= 0], minlength=len(watched))
    return loads, before


def first_attempts(design: Design, seen: Observations) -> list[Index]:
    """The first attempt of every throttled account in every window, on or off, in order of time.

    Only the first: before it nothing of this window's coin has reached the account, so that under
    the null hypothesis it is the same whichever way the coin fell.
    """
    found: list[Index] = []
    done: set[tuple[int, int]] = set()
    halves = [{i for i, name in enumerate(design.order) if name in half} for half in design.halves]
    for at, account, prompt in zip(seen.at, seen.account, seen.prompt, strict=True):
        window = design.window_at(at)
        if window is None or account not in halves[window // design.per_round]:
            continue
        if (window, account) not in done:
            done.add((window, account))
            if prompt:
                found.append(Index(window, at, prompt))
    return found
