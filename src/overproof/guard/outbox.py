"""What guard has found and nobody has fetched yet: verdicts, and communities to be drawn."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import msgspec

from overproof.records.traffic import TrafficVerdict

__all__ = ["Outbox"]


class Outbox:
    """Grows until it is emptied; whoever puts in or takes out holds guard's lock."""

    def __init__(self) -> None:
        self._verdicts: list[TrafficVerdict] = []
        self._drawn: list[dict[str, Any]] = []

    def put(self, verdict: TrafficVerdict) -> None:
        """One more verdict."""
        self._verdicts.append(verdict)

    def draw(self, communities: list[dict[str, Any]]) -> None:
        """Communities of a pass, as plain values."""
        self._drawn += communities

    def settled(self, until: float) -> list[TrafficVerdict]:
        """Take out the verdicts up to ``until``, event time, in order of it."""
        self._verdicts.sort(key=attrgetter("decided_at"))  # stable
        ready = [verdict for verdict in self._verdicts if verdict.decided_at <= until]
        self._verdicts = self._verdicts[len(ready) :]
        return ready

    def drawn(self) -> list[dict[str, Any]]:
        """Take out the communities."""
        drawn, self._drawn = self._drawn, []
        return drawn

    def state(self) -> dict[str, Any]:
        """Plain values for a snapshot."""
        verdicts = [msgspec.to_builtins(verdict) for verdict in self._verdicts]
        return {"verdicts": verdicts, "found": list(self._drawn)}

    def restore(self, state: Any) -> None:
        """Take a snapshot's values."""
        self._verdicts = [msgspec.convert(one, TrafficVerdict) for one in state["verdicts"]]
        self._drawn = list(state["found"])
