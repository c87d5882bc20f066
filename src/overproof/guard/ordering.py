"""Putting events into the order of their time, in bounded memory.

Three things go wrong with the order of a log. Events are a little late, because several gateways
write it: they wait here until the newest time seen is ``late_s`` ahead. Events are very late: they
are delivered as of the frontier, that is with ``ts`` set to the end of what was already released,
so that nothing downstream ever sees time run back; they are counted. A clock is wrong: an event
more than a day ahead of all others waits aside until 32 in a row agree that so much time has
passed, or until events near the old time show that it has not; it then is delivered as of the
frontier when the log ends, and counted. One wrong line can therefore neither flush the buffer nor
make the rest of the log late.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from heapq import heappop, heappush
from operator import attrgetter
from typing import Any

import msgspec

from overproof.records.traffic import Event

__all__ = ["AGREE", "DAY_S", "FIRST", "FarAhead", "OrderCounts", "ReorderBuffer", "SeenRequests"]

DAY_S = 86_400.0
AGREE = 32  # events in a row after a leap ahead, before it is believed
LONGEST_GAP_S = 45 * DAY_S  # believed of fewer events, where the log ends right after them
FIRST = 16  # events that wait for each other, so that the first may have a wrong clock
MOST_ASIDE = 1_000
MOST_IDS = 100_000  # duplicates are found among the last so many requests, at least
MOST_HELD = 250_000

_in_order = attrgetter("ts", "request_id")


@dataclass
class OrderCounts:
    """What was put right.

    Attributes:
        received: all events.
        duplicates: dropped, because the account's request id was seen before.
        late: delivered as of the frontier.
        skewed: of a clock far ahead, delivered as of the frontier.
        hurried: released early, because too many were waiting.
    """

    received: int = 0
    duplicates: int = 0
    late: int = 0
    skewed: int = 0
    hurried: int = 0


class SeenRequests:
    """The last ``MOST_IDS`` requests, at least, and twice as many at most."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], None] = {}
        self._old_ids: dict[tuple[str, str], None] = {}

    def __len__(self) -> int:
        return len(self._ids) + len(self._old_ids)

    def again(self, event: Event) -> bool:
        """Was the account's request id seen before? From now on it was."""
        key = (event.account, event.request_id)
        ids = self._ids
        if key in ids or key in self._old_ids:
            return True
        ids[key] = None
        if len(ids) >= MOST_IDS:
            self._old_ids, self._ids = ids, {}
        return False

    def state(self) -> dict[str, Any]:
        """Plain values for a snapshot."""
        return {
            "ids": [list(key) for key in self._ids],
            "old_ids": [list(key) for key in self._old_ids],
        }

    def restore(self, state: Any) -> None:
        """Take a snapshot's values."""
        self._ids = dict.fromkeys((str(a), str(r)) for a, r in state["ids"])
        self._old_ids = dict.fromkeys((str(a), str(r)) for a, r in state["old_ids"])


class FarAhead:
    """Events more than a day ahead of all others: of a wrong clock, or the first after a leap.

    Attributes:
        events: that are aside, in the order in which they came.
        agreeing: how many of the last that came are aside; whoever takes in an event that is not
            far ahead sets it to 0.
        nearest: the earliest time among those aside.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.agreeing = 0
        self.nearest = math.inf

    def put(self, event: Event) -> None:
        """One more; now see whether they have ``agreed``."""
        self.events.append(event)
        self.nearest = min(self.nearest, event.ts)
        self.agreeing += 1

    def agreed(self) -> tuple[list[Event], list[Event]] | None:
        """Enough in a row agree that time has leapt, and are taken out; None where they do not.

        Returns:
            The earliest of them with those up to a day behind it, which are to be believed, and
            the ones far after it, of which the same is to be asked anew; both in order.
        """
        if self.agreeing < AGREE:
            return None
        agreeing = sorted(self.events[-self.agreeing :], key=_in_order)
        believed = [one for one in agreeing if one.ts - agreeing[0].ts <= DAY_S]
        self.events = self.events[: -self.agreeing]
        self.agreeing = 0
        self._find_nearest()
        return believed, agreeing[len(believed) :]

    def refused(self) -> Event | None:
        """The first of too many, taken out; None where there is room."""
        return self.events.pop(0) if len(self.events) > MOST_ASIDE else None

    def near(self, newest: float) -> list[Event]:
        """Those whose time has nearly come, taken out."""
        near = [event for event in self.events if event.ts - newest <= DAY_S]
        self.events = [event for event in self.events if event.ts - newest > DAY_S]
        self.agreeing = 0
        self._find_nearest()
        return near

    def end(self, newest: float) -> tuple[list[Event], list[Event]]:
        """Nothing will follow: those to be believed, in order, and the others."""
        uncontradicted = len(self.events) - self.agreeing
        refused, believed = self.events[:uncontradicted], []
        for event in sorted(self.events[uncontradicted:], key=_in_order):
            if event.ts - newest <= LONGEST_GAP_S:
                newest = max(newest, event.ts)
                believed.append(event)
            else:
                refused.append(event)
        self.events, self.agreeing, self.nearest = [], 0, math.inf
        return believed, refused

    def state(self) -> dict[str, Any]:
        """Plain values for a snapshot."""
        return {"aside": _written(self.events), "agreeing": self.agreeing}

    def restore(self, state: Any) -> None:
        """Take a snapshot's values."""
        self.events, self.agreeing = _read(state["aside"]), state["agreeing"]
        self._find_nearest()

    def _find_nearest(self) -> None:
        self.nearest = min((event.ts for event in self.events), default=math.inf)


class ReorderBuffer:
    """Events in, events out in the order of (ts, request_id).

    Args:
        late_s: how many seconds late an event may be and still find its place.
        most_held: events that may wait; beyond, the oldest are released early.

    Text is heavy: let events in only once they are sketched, with ``messages`` taken off.
    """

    def __init__(self, late_s: float = 300.0, *, most_held: int = MOST_HELD) -> None:
        self.counts = OrderCounts()
        self._late_s = late_s
        self._most_held = most_held
        self._first: list[Event] | None = []
        self._newest = -math.inf
        self._frontier = -math.inf  # everything before is released
        self._edge = -math.inf  # the next whole second at which some may be released
        self._seconds: dict[int, list[Event]] = {}
        self._order: list[int] = []
        self._held = 0
        self._ahead = FarAhead()
        self._seen = SeenRequests()

    def __len__(self) -> int:
        """Events that wait."""
        return self._held + len(self._ahead.events) + len(self._first or ())

    def add(self, event: Event) -> list[Event]:
        """Take one event in.

        Returns:
            Those that are due now, in order; mostly none.
        """
        self.counts.received += 1
        if self._seen.again(event):
            self.counts.duplicates += 1
            return []
        if self._first is not None:
            self._first.append(event)
            return self._begin() if len(self._first) >= FIRST else []
        return self._place(event)

    def flush(self) -> list[Event]:
        """The end of the log: all that still wait, in order."""
        out = self._begin() if self._first is not None else []
        believed, refused = self._ahead.end(self._newest)
        for event in believed:
            self._hold(event)
        out += self._release(math.inf)
        for event in refused:
            self.counts.skewed += 1
            event.ts = max(self._frontier, 0.0)
        return out + sorted(refused, key=_in_order)

    def _begin(self) -> list[Event]:
        """Place the first few by their time, so that it does not matter which came first."""
        first, self._first = sorted(self._first or (), key=_in_order), None
        if not first:
            return []
        self._newest = first[0].ts
        self._edge = math.floor(self._newest - self._late_s) + 1.0
        return [due for event in first for due in self._place(event)]

    def _place(self, event: Event) -> list[Event]:
        ts = event.ts
        if ts > self._newest:
            if ts - self._newest > DAY_S:
                return self._put_aside(event)
            self._newest = ts
        elif ts < self._frontier:
            self.counts.late += 1
            event.ts = self._frontier
        self._ahead.agreeing = 0
        second = int(event.ts)
        waiting = self._seconds.get(second)
        if waiting is None:
            self._seconds[second] = [event]
            heappush(self._order, second)
        else:
            waiting.append(event)
        self._held += 1
        if ts - self._late_s >= self._edge:
            return self._advance()
        if self._held > self._most_held:
            return self._hurry()
        return []

    def _hold(self, event: Event) -> None:
        """Into its second, believed; time moves on."""
        self._newest = max(self._newest, event.ts)
        event.ts = max(event.ts, self._frontier)
        second = int(event.ts)
        if second not in self._seconds:
            self._seconds[second] = []
            heappush(self._order, second)
        self._seconds[second].append(event)
        self._held += 1

    def _advance(self) -> list[Event]:
        """Time has moved: admit those whose time has nearly come, and release what is due."""
        while self._ahead.nearest - self._newest <= DAY_S:
            for event in self._ahead.near(self._newest):
                self._hold(event)
        due = math.floor(self._newest - self._late_s)
        self._edge = due + 1.0
        return self._release(due)

    def _release(self, until: float) -> list[Event]:
        """All of the whole seconds before ``until``."""
        out: list[Event] = []
        while self._order and self._order[0] < until:
            second = heappop(self._order)
            events = self._seconds.pop(second)
            self._held -= len(events)
            if len(events) > 1:
                events.sort(key=_in_order)
            out += events
            self._frontier = max(self._frontier, second + 1.0)
        return out

    def _hurry(self) -> list[Event]:
        out = self._release(self._order[0] + 1.0)
        self.counts.hurried += len(out)
        return out

    def _put_aside(self, event: Event) -> list[Event]:
        """A leap of more than a day: believe it once enough in a row agree."""
        ahead = self._ahead
        ahead.put(event)
        agreed = ahead.agreed()
        if agreed is not None:
            return self._believe(*agreed)
        refused = ahead.refused()
        if refused is None:
            return []
        self.counts.skewed += 1
        agreeing = ahead.agreeing
        refused.ts = max(self._frontier, self._newest)
        out = self._place(refused)
        ahead.agreeing = agreeing
        return out

    def _believe(self, believed: list[Event], later: list[Event]) -> list[Event]:
        """Time has leapt to the earliest of those that agree; the ones far after it wait on."""
        for one in believed:
            self._hold(one)
        out = self._advance()
        for one in later:
            out += self._place(one)
        return out

    def state(self) -> dict[str, Any]:
        """Everything that waits, for a snapshot."""
        return {
            "counts": asdict(self.counts),
            "first": _written(self._first) if self._first is not None else None,
            "times": [self._newest, self._frontier, self._edge],
            "held": [[s, _written(self._seconds[s])] for s in sorted(self._seconds)],
            **self._ahead.state(),
            **self._seen.state(),
        }

    def restore(self, state: Any) -> None:
        """Take up where ``state`` was taken."""
        self.counts = OrderCounts(**state["counts"])
        self._first = _read(state["first"]) if state["first"] is not None else None
        self._newest, self._frontier, self._edge = state["times"]
        self._seconds = {second: _read(events) for second, events in state["held"]}
        self._order = sorted(self._seconds)  # a sorted list is a heap
        self._held = sum(map(len, self._seconds.values()))
        self._ahead.restore(state)
        self._seen.restore(state)


def _written(events: list[Event]) -> list[Any]:
    return [msgspec.to_builtins(event) for event in events]


def _read(rows: list[Any]) -> list[Event]:
    return [msgspec.convert(row, Event) for row in rows]
