"""The loop: clients ask, the provider answers, clients react to the answer.

Every actor is a generator that yields its next request and is sent the provider's reply, so that
what it asks next may depend on it: a client alone waits, a shared queue moves the request to
another account. Requests are answered in order of event time, one pending request an actor, which
is why a log of ten million events never lies in memory.

    reply = yield event        # event.ts is when it is sent; reply says whether it was served

A `Throttle` sees each request before it is admitted and may refuse it, as a gateway would: that is
how an experiment drives the same clients that the open log is made of.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from overproof.records.traffic import Event

__all__ = ["SERVED", "Actor", "Provider", "Reply", "Stream", "Throttle", "run"]


class Reply(NamedTuple):
    """What the provider answered; ``retry_after`` in seconds, infinite for a closed account."""

    status: int
    retry_after: float


SERVED = Reply(200, 0.0)

Stream = Generator[Event, Reply, None]
Throttle = Callable[[Event], float | None]
"""Asked before a request is admitted: ``None`` admits it, a number is its Retry-After (s)."""

# Requests a minute that a plan allows one account.
A_MINUTE = {"free": 15, "pro": 90, "team": 600, "enterprise": 6_000}


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who sends requests, not begun before ``starts`` (seconds since the epoch)."""

    starts: float
    stream: Callable[[], Stream]


class Provider:
    """Answers requests: limits a minute by plan, failures now and then, a throttle if there is one.

    Args:
        rng: of the failures.
        throttle: asked first, in order of event time.
        failures: share of requests that end with 500 or 529.
    """

    def __init__(
        self, rng: Random, throttle: Throttle | None = None, failures: float = 0.002
    ) -> None:
        self._random = rng.random
        self._throttle = throttle
        self._failures = failures
        self._minute = 0
        self._asked: dict[str, int] = {}
        self.events = 0

    def answer(self, event: Event) -> Reply:
        """Fill in what the log knows of the answer: request id, status, tokens, reason of end."""
        self.events += 1
        event.request_id = f"req_{self.events:010x}"
        if event.status is not None:  # the account was closed; its owner's stream says so
            return self._refused(event, Reply(event.status, math.inf))
        if self._throttle is not None:
            wait = self._throttle(event)
            if wait is not None:
                return self._refused(event, Reply(429, wait))
        minute = int(event.ts // 60)
        if minute != self._minute:
            self._minute = minute
            self._asked.clear()
        asked = self._asked[event.account] = self._asked.get(event.account, 0) + 1
        if asked > A_MINUTE.get(event.plan or "free", 60):
            return self._refused(event, Reply(429, 60.0 - event.ts % 60 + 1.0))
        if self._random() < self._failures:
            status = 529 if self._random() < 0.5 else 500
            return self._refused(event, Reply(status, 2.0 + 6.0 * self._random()))
        event.status = 200
        return SERVED

    @staticmethod
    def _refused(event: Event, reply: Reply) -> Reply:
        event.status = reply.status
        event.output_tokens = 0
        event.reasoning_tokens = None
        event.finish_reason = None
        event.refused = None
        return reply


def run(actors: Iterable[Actor], provider: Provider, end: float) -> Iterator[Event]:
    """Every request in order of event time, answered, until ``end``.

    Args:
        actors: in order of ``starts``; taken one by one, as their time comes.
        provider: answers.
        end: seconds since the epoch; what would be sent later is not.
    """
    upcoming = iter(actors)
    waiting = next(upcoming, None)
    heap: list[tuple[float, int, Event, Stream]] = []
    order = 0
    while True:
        while waiting is not None and (not heap or waiting.starts <= heap[0][0]):
            if waiting.starts < end:
                stream = waiting.stream()
                event = next(stream, None)
                if event is not None and event.ts < end:
                    heapq.heappush(heap, (event.ts, order, event, stream))
                order += 1
            waiting = next(upcoming, None)
        if not heap:
            return
        _, mine, event, stream = heap[0]
        reply = provider.answer(event)
        yield event
        try:
            following = stream.send(reply)
        except StopIteration:
            heapq.heappop(heap)
            continue
        if following.ts < end:
            heapq.heapreplace(heap, (following.ts, mine, following, stream))
        else:
            stream.close()
            heapq.heappop(heap)
