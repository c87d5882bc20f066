"""Per-key volume rules, as gateways ship them: so many requests a minute, an hour, a day.

The limits are not of one product but of their kind: 60 a minute, 1,000 an hour, 10,000 a day,
counted in clock minutes, hours and days. The score is the largest ratio of a count to its limit.
"""

from __future__ import annotations

from overproof.records.traffic import Event
from peers.traffic_tracks import Tracks

LIMITS = ((60.0, 60), (3600.0, 1_000), (86_400.0, 10_000))
DEFAULT = 1.0 + 1e-9  # more than the limit


class Volume:
    """Feed events in order of time; ``tracks`` holds the scores."""

    def __init__(self) -> None:
        self.tracks = Tracks("volume rules")
        self._counts: dict[str, list[list[int]]] = {}

    def add(self, event: Event) -> None:
        counts = self._counts.setdefault(event.account, [[-1, 0] for _ in LIMITS])
        score = 0.0
        for (length, limit), count in zip(LIMITS, counts, strict=True):
            bucket = int(event.ts // length)
            if count[0] != bucket:
                count[0], count[1] = bucket, 0
            count[1] += 1
            score = max(score, count[1] / limit)
        self.tracks.note(event.account, event.ts, score)

    def finish(self) -> None:
        """Nothing is left over."""
