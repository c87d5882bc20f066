"""How patient a run is with a batch API: how often it looks, how long it tries."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from overproof.clients.retry import RetryPolicy
from overproof.errors import TeacherUnreachableError

__all__ = ["PICKS_UP", "Dark", "Patience"]

SLOWEST_POLL = 10.0
POLL_GROWTH = 1.3
POLICY = RetryPolicy(base_s=1.0, cap_s=60.0, longest_wait_s=3600.0)
PICKS_UP = "run the same command again: batches go on at the provider and are picked up"


@dataclass(frozen=True)
class Patience:
    """How often to look and how long to try. Times are in seconds.

    The wait between two looks grows from ``poll_s`` to ten times that. A provider that nobody
    could reach for ``dark_s`` ends the run, not the batch.
    """

    poll_s: float = 30.0
    max_attempts: int = 6
    dark_s: float = 3600.0
    policy: RetryPolicy = POLICY

    def slower(self, interval_s: float, rng: random.Random) -> float:
        """The wait after one of ``interval_s``."""
        grown = interval_s * POLL_GROWTH * rng.uniform(0.9, 1.1)
        return min(grown, SLOWEST_POLL * self.poll_s)


class Dark:
    """How long a provider has not answered.

    Args:
        shown: its address.
        limit_s: for how long that is borne.
    """

    def __init__(self, shown: str, limit_s: float) -> None:
        self._shown, self._limit_s = shown, limit_s
        self._since: float | None = None

    def answered(self) -> None:
        """It answered."""
        self._since = None

    def failed(self, why: str) -> None:
        """It did not.

        Raises:
            TeacherUnreachableError: not for too long.
        """
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since >= self._limit_s:
            raise TeacherUnreachableError(self._shown, f"nobody answers ({why})", PICKS_UP)
