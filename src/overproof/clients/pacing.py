"""Pacing: how many requests may be in flight, and how many may start.

``Limiter`` is AIMD (additive increase, multiplicative decrease; Chiu and Jain, 1989, as TCP does
it): it starts at the cap, so that no time is lost where a server can take it; halves where the
server is overloaded, at most once a round trip; and gains about one place a round trip's worth of
successes. ``Pacer`` keeps the caps of requests and tokens a minute, and holds everything back for
as long as the server asks (``Retry-After``).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType

__all__ = ["Limiter", "Now", "Pacer", "Sleep", "TokenEntry"]

Sleep = Callable[[float], Awaitable[None]]
Now = Callable[[], float]

MINUTE_S = 60.0
DECREASE = 0.5
LOOK_AGAIN_S = 0.05
LEAST_WAIT_S = 1e-6


class Limiter:
    """Places for requests in flight: at most ``cap``, and fewer while the server is overloaded.

    Use it with ``async with``; whoever waits longest is next.

    Args:
        cap: the most places there are; also the number to start with.
        adaptive: whether overload lowers it. ``False`` keeps it at the cap.
        now: clock in seconds.
    """

    def __init__(self, cap: int, *, adaptive: bool = True, now: Now = time.monotonic) -> None:
        self.cap = cap
        self.limit = float(cap)
        self.in_flight = 0
        self._adaptive = adaptive
        self._now = now
        self._lowered_at = float("-inf")
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __aenter__(self) -> None:
        if self.in_flight < int(self.limit) and not self._waiting:
            self.in_flight += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            # The place may have been handed over in the moment of the cancellation.
            if turn.done() and not turn.cancelled():
                self._leave()
            else:
                self._waiting.remove(turn)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def succeeded(self) -> None:
        """One request went well: a round trip's worth of these adds one place."""
        if self.limit < self.cap:
            self.limit = min(float(self.cap), self.limit + 1.0 / self.limit)
            self._wake()

    def overloaded(self, started_at: float) -> None:
        """A request started at that time met overload: halve, at most once a round trip.

        Requests sent before the last decrease tell nothing about what it brought.
        """
        if self._adaptive and started_at >= self._lowered_at:
            self.limit = max(1.0, self.limit * DECREASE)
            self._lowered_at = self._now()

    def _leave(self) -> None:
        self.in_flight -= 1
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self.in_flight < int(self.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)


class TokenEntry:
    """Tokens that count from ``at`` on for a minute; ``settle`` puts the real number in place."""

    __slots__ = ("at", "tokens")

    def __init__(self, at: float, tokens: float) -> None:
        self.at = at
        self.tokens = tokens


class Pacer:
    """Starts at most so many requests, and so many tokens, in any window of a minute.

    Requests go through a token bucket, full at the beginning: it holds one second's worth beside
    the one that may always start, so that the first second is not lost, and refills by what the
    cap leaves: with a bucket of ``1 + b`` and a refill of ``cap - b`` a minute, less than
    ``1 + cap`` start in a minute. A log of the last starts holds that also where a clock wakes
    late.

    Tokens are kept in a log of the last minute. A request enters it with the most that it can
    take, and the real usage replaces that as soon as it is known. One that alone is larger than
    the cap goes out when nothing else is in the log.

    Windows are half-open and begin with a start, as this machine's clock has it.

    Args:
        per_minute: cap of requests.
        tokens_per_minute: cap of tokens, in and out together.
        sleep: awaited instead of ``asyncio.sleep``.
        now: clock in seconds.
    """

    def __init__(
        self,
        per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        *,
        sleep: Sleep = asyncio.sleep,
        now: Now = time.monotonic,
    ) -> None:
        self._sleep, self._now = sleep, now
        spare = per_minute // MINUTE_S if per_minute else 0.0
        self._interval_s = MINUTE_S / (per_minute - spare) if per_minute else 0.0
        self._burst_s = spare * self._interval_s
        # When the bucket would be full again; a generic cell rate algorithm (ITU-T I.371).
        self._full_at = float("-inf")
        self._starts: deque[float] = deque(maxlen=max(1, int(per_minute or 1)))
        # Below one a minute the window is longer.
        self._window_s = max(MINUTE_S, self._interval_s)
        self._tokens_per_minute = tokens_per_minute
        self._log: deque[TokenEntry] = deque()
        self._logged = 0.0
        self._line = asyncio.Lock()
        self._held_until = float("-inf")
        self._is_held = False
        self.is_free = not per_minute and tokens_per_minute is None

    async def turn(self, tokens: int = 0) -> TokenEntry | None:
        """Wait for a request's place in the pace; it starts right afterwards.

        Args:
            tokens: the most that it can take, prompt and answer together.

        Returns:
            What to ``settle`` with the real usage; ``None`` without a cap on tokens.
        """
        if self.is_free:
            return None
        async with self._line:  # first come, first served: a large one is not overtaken for ever
            while wait_s := self._wait_s(tokens):
                await self._sleep(wait_s)
            now = self._now()
            if self._interval_s:
                self._full_at = max(self._full_at, now) + self._interval_s
                self._starts.append(now)
            if self._tokens_per_minute is None:
                return None
            entry = TokenEntry(now, tokens)
            self._log.append(entry)
            self._logged += tokens
            return entry

    def settle(self, entry: TokenEntry | None, tokens: int) -> None:
        """Put the real number of tokens in place of what was reserved."""
        if entry is not None and entry.at + MINUTE_S > self._now():
            self._logged += tokens - entry.tokens
            entry.tokens = tokens

    def hold(self, seconds: float) -> None:
        """Start no request for that long."""
        self._is_held = True
        self._held_until = max(self._held_until, self._now() + seconds)

    @property
    def held_s(self) -> float:
        """Seconds for which no request may start; 0 where one may."""
        if not self._is_held:
            return 0.0
        left_s = max(0.0, self._held_until - self._now())
        self._is_held = left_s > 0
        return left_s

    def _wait_s(self, tokens: int) -> float:
        """Seconds until it is worth looking again; 0 where a request may start now."""
        now = self._now()
        wait_s = 0.0
        if self._interval_s:
            wait_s = self._full_at - self._burst_s - now
            if len(self._starts) == self._starts.maxlen:
                wait_s = max(wait_s, self._starts[0] + self._window_s - now)
        if self._tokens_per_minute is not None:
            while self._log and self._log[0].at + MINUTE_S <= now:
                self._logged -= self._log.popleft().tokens
            if self._log and self._logged + tokens > self._tokens_per_minute:
                # The oldest leaves then; but a settlement may make room before.
                until = self._log[0].at + MINUTE_S - now
                wait_s = max(wait_s, min(until, LOOK_AGAIN_S))
        # Sums of floats may never reach their end in steps that are smaller.
        return max(wait_s, LEAST_WAIT_S) if wait_s > 0 else 0.0
