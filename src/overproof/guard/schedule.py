"""When each account is looked at: preset ages, in event time.

An account is looked at with what it had done by that age. Its own next event is the first that
could change this, so a look may wait for that event and still come to the same result: this is
what lets a gateway spread looks that come due together over the requests that follow.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["LookSchedule"]

HOUR_S = 3600.0
OVER = 255


class LookSchedule:
    """The next look of every account, by account index; about 130 bytes an account.

    Args:
        ages_h: preset ages in hours, rising; at most 254.
    """

    def __init__(self, ages_h: Sequence[float]) -> None:
        self._ages = tuple(age * HOUR_S for age in ages_h)
        self._next = bytearray()
        self._first = array("d")
        self._heap: list[tuple[float, int]] = []

    def start(self, index: int, first_seen: float) -> None:
        """A new account, or another one under the index of a forgotten one."""
        missing = index + 1 - len(self._next)
        if missing > 0:
            self._next.extend(bytes([OVER]) * missing)
            self._first.extend([0.0] * missing)
        self._next[index] = 0
        self._first[index] = first_seen
        heapq.heappush(self._heap, (first_seen + self._ages[0], index))

    def forget(self, index: int) -> None:
        """No more looks at this account."""
        if index < len(self._next):
            self._next[index] = OVER

    def waits(self, index: int, now: float) -> bool:
        """Is a look at this account due?"""
        look = self._next[index]
        return look != OVER and now >= self._first[index] + self._ages[look]

    def own(self, index: int, now: float) -> Iterator[tuple[int, float]]:
        """The looks at this account that are due: (which, when), oldest first."""
        while self.waits(index, now):
            yield self._advance(index)

    def due(self, now: float, most: int | None = None) -> Iterator[tuple[int, int, float]]:
        """Looks that are due by ``now``: (account index, which, when), oldest first."""
        heap, given = self._heap, 0
        while heap and heap[0][0] <= now and (most is None or given < most):
            at, index = heapq.heappop(heap)
            look = self._next[index]
            if look == OVER or self._first[index] + self._ages[look] != at:
                continue  # taken before its turn, or of a forgotten account
            given += 1
            yield (index, *self._advance(index))

    @property
    def next_due(self) -> float:
        """No look is due before this time; cheaper than ``earliest``, and perhaps too early."""
        return self._heap[0][0] if self._heap else float("inf")

    @property
    def earliest(self) -> float:
        """When the oldest look that was not taken is due; infinite where there is none."""
        heap = self._heap
        while heap:
            at, index = heap[0]
            look = self._next[index]
            if look != OVER and self._first[index] + self._ages[look] == at:
                return at
            heapq.heappop(heap)
        return float("inf")

    def _advance(self, index: int) -> tuple[int, float]:
        look, first = self._next[index], self._first[index]
        if look + 1 < len(self._ages):
            self._next[index] = look + 1
            heapq.heappush(self._heap, (first + self._ages[look + 1], index))
        else:
            self._next[index] = OVER
        return look, first + self._ages[look]

    def state(self) -> dict[str, Any]:
        """Plain values for a snapshot."""
        return {"next": bytes(self._next), "first": self._first.tobytes()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take a snapshot's values; the heap follows from them."""
        self._next = bytearray(state["next"])
        self._first = array("d")
        self._first.frombytes(state["first"])
        self._heap = [
            (self._first[index] + self._ages[look], index)
            for index, look in enumerate(self._next)
            if look != OVER
        ]
        heapq.heapify(self._heap)
