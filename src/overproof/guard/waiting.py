"""Events that wait for a community pass, and when the next pass is due.

From the time that a pass is due, in event time, until it was run, events are held back, so that it
sees what came before it and nothing else; afterwards they are taken, a few with each event that
follows. At most ``MOST_HELD`` are held.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import msgspec

from overproof.guard.gate import Gate
from overproof.records.traffic import Event

__all__ = ["Waiting"]

MOST_HELD = 100_000
MOST_CAUGHT_UP = 8


class Waiting:
    """The queue before the next pass; whoever calls a method holds the gate's lock.

    Args:
        every_s: seconds of event time between two passes.
        take: learns from an event whose turn has come.
        gate: while it is closed nothing is taken.
        counts: of what is done, by name: held, dropped, passes missed.

    Attributes:
        held: in the order in which they came.
        next_pass: seconds since the epoch; infinite until the first event.
    """

    def __init__(
        self, every_s: float, take: Callable[[Event], object], gate: Gate, counts: Counter[str]
    ) -> None:
        self.held: deque[Event] = deque()
        self.next_pass = float("inf")
        self._every, self._take, self._gate, self._counts = every_s, take, gate, counts

    def set_pass(self, now: float) -> None:
        """The next pass is at the first whole multiple of the interval after ``now``."""
        self.next_pass = (now // self._every + 1.0) * self._every

    def hold(self, event: Event) -> None:
        """Keep an event, without its text, until the pass that is due was run.

        Where too many wait already, the pass is missed, and the first one, if it is still in the
        others' way, is dropped: its clock is ahead of theirs, by less than a day. While the gate is
        closed nothing can be taken, and the first one is dropped.
        """
        held, closed = self.held, self._gate.closed
        if len(held) >= MOST_HELD:
            if held[-1].ts >= self.next_pass and not closed:  # nobody runs the passes
                self._counts["passes missed"] += 1
                self.set_pass(held[-1].ts)
            if held[0].ts >= self.next_pass or closed:
                held.popleft()
                self._counts["dropped"] += 1
            self.catch_up()
        held.append(event)
        self._counts["held"] += 1

    def catch_up(self, most: int = MOST_CAUGHT_UP) -> None:
        """Take those whose turn has come, ``most`` of them at most."""
        held = self.held
        while held and most and not self._gate.closed and held[0].ts < self.next_pass:
            self._take(held.popleft())
            most -= 1

    def turn_back(self, now: float, believes: Callable[[float], bool]) -> None:
        """A clock was wrong: what was held as of later than ``now`` would wait in vain."""
        self.set_pass(now)
        kept = deque(event for event in self.held if believes(event.ts))
        self._counts["dropped"] += len(self.held) - len(kept)
        self.held = kept

    def state(self) -> dict[str, Any]:
        """Plain values for a snapshot."""
        held = [msgspec.to_builtins(event) for event in self.held]
        return {"held": held, "next pass": self.next_pass}

    def restore(self, state: Any) -> None:
        """Take a snapshot's values."""
        self.held = deque(msgspec.convert(event, Event) for event in state["held"])
        self.next_pass = state["next pass"]
