"""Retrying: what is worth another attempt, how long to wait, and who else must wait.

Exponential backoff with full jitter; ``Retry-After`` (RFC 9110, section 10.2.3) is honoured in
both of its forms and holds back every request to the same teacher, not only the one refused.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from overproof.errors import TeacherError
from overproof.records.exchange import Completion

__all__ = ["Attempt", "Pacer", "RetryPolicy", "is_retryable", "retry_after_s", "with_retries"]

Sleep = Callable[[float], Awaitable[None]]
Now = Callable[[], float]

_RETRYABLE = frozenset({408, 409, 425, 429})


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently to try. Times are in seconds.

    A server that asks for more than ``longest_wait_s`` is not waited for: the request fails and
    says so, and the run can be resumed later.
    """

    max_attempts: int = 6
    base_s: float = 0.5
    cap_s: float = 30.0
    longest_wait_s: float = 600.0

    def backoff_s(self, attempt: int, rng: random.Random) -> float:
        """Wait after the attempt of that number (from 1): uniform up to a doubling bound."""
        return rng.uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** (attempt - 1)))


@dataclass(frozen=True)
class Attempt:
    """One attempt: what came of it, whether another may help, and how long the server wants."""

    completion: Completion
    retry: bool = False
    wait_s: float | None = None
    unreachable: bool = False


class Pacer:
    """Spaces requests evenly and holds all of them back while the server asks for it."""

    def __init__(
        self,
        per_minute: float | None = None,
        *,
        sleep: Sleep = asyncio.sleep,
        now: Now = time.monotonic,
    ) -> None:
        self.interval_s = 60.0 / per_minute if per_minute else 0.0
        self._sleep, self._now = sleep, now
        self._next_turn = float("-inf")
        self._held_until = float("-inf")

    async def turn(self) -> None:
        """Wait for this request's place in the pace."""
        if self.interval_s:
            now = self._now()
            turn = max(now, self._next_turn)
            self._next_turn = turn + self.interval_s
            if turn > now:
                await self._sleep(turn - now)

    def hold(self, seconds: float) -> None:
        """Start no request for that long."""
        self._held_until = max(self._held_until, self._now() + seconds)

    @property
    def held_s(self) -> float:
        """Seconds for which no request may start; 0 where one may."""
        return max(0.0, self._held_until - self._now())


def is_retryable(status: int) -> bool:
    """Whether an HTTP status says that the same request may succeed later."""
    return status in _RETRYABLE or status >= 500


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the server asks to wait, ``None`` where it does not say or not readably.

    Reads ``retry-after-ms``, then ``Retry-After`` as seconds or as an HTTP date.
    """
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * scale
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        when = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())


async def with_retries(
    attempt: Callable[[], Awaitable[Attempt]],
    policy: RetryPolicy,
    *,
    rng: random.Random,
    pacer: Pacer,
    sleep: Sleep = asyncio.sleep,
) -> tuple[Completion, bool]:
    """Try until it works, cannot work, or was tried often enough.

    Returns:
        The last completion with its number of attempts, and whether nobody answered any of them.

    Raises:
        TeacherError: the server asks to wait longer than the policy's longest wait: going on
            with other requests would not honour that.
    """
    nobody_answered = True
    for number in range(1, policy.max_attempts + 1):
        result = await attempt()
        nobody_answered = nobody_answered and result.unreachable
        completion = result.completion.model_copy(update={"attempts": number})
        if not result.retry or number == policy.max_attempts:
            break
        if result.wait_s is None:
            await sleep(policy.backoff_s(number, rng))
        elif result.wait_s <= policy.longest_wait_s:
            pacer.hold(result.wait_s)
        else:
            raise TeacherError(
                "the teacher",
                f"{completion.error}; the server asks to wait {result.wait_s:.0f} s",
                "run the same command again after that: every answer so far is kept",
            )
    return completion, nobody_answered
