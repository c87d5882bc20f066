"""Retrying: what is worth another attempt, and how long to wait before it.

Exponential backoff with full jitter; ``Retry-After`` (RFC 9110, section 10.2.3) is honoured in
both of its forms and holds back every request to the same teacher, not only the one refused. The
retry itself comes after that time and a backoff.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from overproof.clients.pacing import Pacer, Sleep
from overproof.errors import OverproofError, TeacherError
from overproof.records.exchange import Completion

__all__ = [
    "Attempt",
    "Pacer",
    "RetryPolicy",
    "is_retryable",
    "may_be_billed",
    "means_overload",
    "retry_after_s",
    "with_retries",
]

_RETRYABLE = frozenset({408, 409, 425, 429})
_OVERLOAD = frozenset({429, 503, 529})
# Refused before anything was generated: not implemented, unavailable, overloaded.
_UNBILLED = frozenset({501, 503, 529})


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
        return rng.uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 62)))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: what came of it, whether another may help, and how long the server wants.

    ``more`` are the further choices of a call that drew several. ``completion`` counts the attempt
    in ``uncertain_attempts`` where it may have been billed though nobody counted its tokens.
    ``unreachable`` says that it never left this machine, ``overloaded`` that the server had too
    much to do, ``fatal`` that no other request will fare better.
    """

    completion: Completion
    more: Sequence[Completion] = ()
    retry: bool = False
    wait_s: float | None = None
    unreachable: bool = False
    overloaded: bool = False
    fatal: OverproofError | None = None


def is_retryable(status: int) -> bool:
    """Whether an HTTP status says that the same request may succeed later."""
    return status in _RETRYABLE or status >= 500


def means_overload(status: int) -> bool:
    """Whether an HTTP status says that the server has too much to do."""
    return status in _OVERLOAD


def may_be_billed(status: int) -> bool:
    """Whether something may have been generated, and billed, before the server gave that status.

    What a server refuses (4xx, or for want of room) it did not start. A request that it gave up
    itself (408), and an error in the middle (500, a gateway's 502 and 504), may have cost tokens.
    """
    return status == 408 or (status >= 500 and status not in _UNBILLED)


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the server asks to wait, ``None`` where it does not say or not readably.

    Reads ``retry-after-ms``, then ``Retry-After`` as seconds or as an HTTP date.
    """
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        said = headers.get(name)
        if said is None:
            continue
        try:
            seconds = float(said) * scale
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    said = headers.get("retry-after")
    if said is None:
        return None
    try:
        when = parsedate_to_datetime(said)
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
) -> tuple[list[Completion], bool]:
    """Try until it works, cannot work, or was tried often enough.

    Returns:
        The completions of the last attempt, the first choice first, with the number of attempts
        that reached the server and of those of uncertain billing; and whether none reached it.

    Raises:
        OverproofError: the attempt says that no other request will fare better.
        TeacherError: the server asks to wait longer than the policy's longest wait: going on
            with other requests would not honour that.
    """
    reached = uncertain = 0
    number = 1
    while True:
        result = await attempt()
        reached += not result.unreachable
        uncertain += result.completion.uncertain_attempts
        if result.fatal is not None:
            raise result.fatal
        if not result.retry or number >= policy.max_attempts:
            break
        wait_s = result.wait_s or 0.0
        if wait_s <= policy.longest_wait_s:
            pacer.hold(wait_s)
            # Jitter on top: a server that says 0 is not hammered, and one that said the same to
            # all is not asked by all at once.
            await sleep(wait_s + policy.backoff_s(number, rng))
        else:
            raise TeacherError(
                "the teacher",
                f"{result.completion.error}; the server asks to wait {result.wait_s:.0f} s",
                "run the same command again after that: every answer so far is kept",
            )
        number += 1
    completions = [result.completion, *result.more]
    if reached > 1 or uncertain:
        counted = {"attempts": max(1, reached), "uncertain_attempts": uncertain}
        completions = [one.model_copy(update=counted) for one in completions]
    return completions, reached == 0
