"""What a gateway hands in, put right without waiting: wrong times, repeats, wrong clocks.

A replay puts a log into order before guard sees it. A gateway asks for a decision at once, so
nothing can be held up here; what can be told of one event after another is told by the same rules.
An event without a possible time or name is refused, as a line of a log would be. A request that
was seen before is not learnt from again. An event more than a day ahead of the newest is put aside
until as many in a row agree that time has leapt as in a log; then they are learnt from after all.
One more than a day behind is learnt from as of a day ago. A leap (or a first clock) that as many in
a row contradict, all of them more than a day behind it, is undone; of the very first events one
does. Every such event is counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from overproof.guard.events import placeable
from overproof.guard.ordering import AGREE, DAY_S, FIRST, FarAhead, SeenRequests
from overproof.records.traffic import Event

__all__ = ["Intake"]


class Intake:
    """Events in, one at a time, those to be learnt from out.

    Args:
        counts: of what is done, by name: refused, duplicates, put aside, skewed, late, turned
            back. A guard puts its own in the place of these.

    Attributes:
        newest: the latest time seen, wrong clocks aside; seconds since the epoch.
        news: is there something in ``released`` or ``back``? Whoever has heeded it says False.
        released: those that were aside and are to be learnt from now.
        back: was time turned back to ``newest``?
    """

    def __init__(self, counts: Counter[str] | None = None) -> None:
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.newest = -math.inf
        self.news = False
        self.released: list[Event] = []
        self.back = False
        self._before = -math.inf  # the newest before the last leap: it is undone no further
        self._behind = 0  # how many of the last that came are far behind
        self._ahead = FarAhead()
        self._seen = SeenRequests()

    def admit(self, event: Event, light: Callable[[Event], Event]) -> Event | None:
        """Take one event in.

        Args:
            event: as the gateway made it; it is not changed.
            light: takes its text off, for one that has to wait.

        Returns:
            The event, with a time that it can be learnt from at; None where it shall not be.
        """
        if not placeable(event):
            self.counts["refused"] += 1
            return None
        if self._seen.again(event):
            self.counts["duplicates"] += 1
            return None
        ts, newest, ahead = event.ts, self.newest, self._ahead
        if ts > newest:
            if ts - newest > DAY_S and newest >= 0.0:
                self._put_aside(light(event))
                return None
            self.newest = ts
            if ahead.nearest <= ts:  # not before its time: guard would wait for it
                self._release(ahead.near(ts - DAY_S))
        elif newest - ts > DAY_S:
            ahead.agreeing = 0
            return self._far_behind(event)
        ahead.agreeing = self._behind = 0
        return event

    def believes(self, now: float) -> bool:
        """Is ``now`` no more than a day ahead of the newest event?"""
        return now - self.newest <= DAY_S

    def finish(self) -> None:
        """Nothing will follow: those aside that nothing contradicted are released."""
        believed, refused = self._ahead.end(self.newest)
        self.counts["skewed"] += len(refused)
        if believed:
            self.newest = max(self.newest, believed[-1].ts)
        self._release(believed + [self._as_of(one, self.newest) for one in refused])

    def _put_aside(self, event: Event) -> None:
        ahead = self._ahead
        self.counts["put aside"] += 1
        self._behind = 0
        ahead.put(event)
        agreed = ahead.agreed()
        if agreed is not None:
            self._leap(*agreed)
        elif (refused := ahead.refused()) is not None:
            self.counts["skewed"] += 1
            self._release([self._as_of(refused, self.newest)])

    def _leap(self, believed: list[Event], later: list[Event]) -> None:
        self._before, self.newest = self.newest, believed[-1].ts
        self._release(believed)
        for event in later:
            if event.ts - self.newest > DAY_S:
                self._ahead.put(event)
            else:
                self.newest = max(self.newest, event.ts)
                self._release([event])

    def _far_behind(self, event: Event) -> Event:
        self._behind += 1
        enough = 1 if len(self._seen) <= FIRST else AGREE
        if self._behind >= enough and event.ts >= self._before - DAY_S:
            self.counts["turned back"] += 1
            self.newest, self._behind = event.ts, 0
            self.news = self.back = True
            return event
        self.counts["late"] += 1
        return self._as_of(event, self.newest - DAY_S)

    def _release(self, events: list[Event]) -> None:
        self.released += events
        self.news = self.news or bool(events)

    def _as_of(self, event: Event, ts: float) -> Event:
        return msgspec.structs.replace(event, ts=ts)

    def state(self) -> dict[str, Any]:
        """Plain values for a snapshot, taken between two events."""
        return {
            "times": [self.newest, self._before, self._behind],
            **self._ahead.state(),
            **self._seen.state(),
        }

    def restore(self, state: Any) -> None:
        """Take a snapshot's values."""
        self.newest, self._before, self._behind = state["times"]
        self._ahead.restore(state)
        self._seen.restore(state)
