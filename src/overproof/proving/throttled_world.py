"""Small closed worlds for the throttling experiment: who reacts to whose refusals, and how.

Clients here answer to 429 in closed loop; nothing else of an API is simulated. Seeded, in event
time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

__all__ = ["World", "WorldKind", "accounts_of", "run_world"]

Floats = npt.NDArray[np.float64]
Ask = Callable[[str, float, int], float | None]
DAY_S = 86_400.0
_FLAT, _MOVED_S = 60.0, 3.0
Queued = tuple[float, int, int, int]  # when, sequence, account, prompt


class WorldKind(StrEnum):
    """Who is behind the accounts."""

    SHARED_QUEUE = "shared queue"  # one operator; refused work goes to another account
    DECLARED_COMPANY = "declared company"  # as that, in office hours, and allowed to
    PER_ACCOUNT = "per account"  # one operator; every account waits out its own refusals
    UNRELATED = "unrelated"  # many customers who wait, hammer or give up
    SAME_BENCHMARK = "same benchmark"  # many customers working through one public list
    COMMON_SHOCKS = "common shocks"  # many customers hit by the same outages and news


@dataclass(frozen=True)
class World:
    """One community.

    Attributes:
        size: accounts.
        rate: requests a day and account, on average.
        hours: how long it sends.
        seed: of everything.
        start: seconds since the epoch.
        cv: coefficient of variation of the gaps between requests (ServeGen: 1.25 to 1.5).
        drift: the rate at the end over that at the start.
    """

    kind: WorldKind
    size: int
    rate: float
    hours: float
    seed: int
    start: float = 0.0
    cv: float = 1.4
    drift: float = 1.5


def accounts_of(size: int) -> tuple[str, ...]:
    """The names of a world's accounts."""
    return tuple(f"account-{i:04d}" for i in range(size))


def run_world(world: World, ask: Ask) -> int:
    """Send a world's requests through ``ask``, which may answer with seconds to wait.

    Returns:
        How many attempts were made.
    """
    return _Run(world, ask).run()


class _Run:
    def __init__(self, world: World, ask: Ask) -> None:
        self.world, self.ask = world, ask
        self.rng = np.random.default_rng(world.seed)
        self.names = accounts_of(world.size)
        self.clock = self._clock()
        self.until = [-math.inf] * world.size  # refused until then, as the client remembers it
        self.shared = world.kind in {WorldKind.SHARED_QUEUE, WorldKind.DECLARED_COMPANY}
        if self.shared or world.kind is WorldKind.PER_ACCOUNT:
            self.habits = np.zeros(world.size, dtype=np.int64)
        else:
            self.habits = self.rng.integers(0, 3, size=world.size)
        self.queue: list[Queued] = []
        self.made = 0

    def run(self) -> int:
        work = self._work()
        heapq.heapify(work)
        self.queue = work
        self.made = len(work)
        attempts = 0
        end = self.world.start + self.world.hours * 3600
        while self.queue:
            at, _, account, prompt = heapq.heappop(self.queue)
            if at > end:
                continue
            if self.shared:
                account = self._free(account, at)
            elif self.until[account] > at:
                self._wait(at, account, prompt)
                continue
            attempts += 1
            wait = self.ask(self.names[account], at, prompt)
            if wait is not None:
                self._refused(at, account, prompt, wait)
        return attempts

    def _refused(self, at: float, account: int, prompt: int, wait: float) -> None:
        if self.shared:
            self.until[account] = at + wait
            self._push(at + _MOVED_S, account, prompt)
        elif self.habits[account] == 0:  # waits as told, then works off what has piled up
            self.until[account] = at + wait
            self._wait(at, account, prompt)
        elif self.habits[account] == 1:  # hammers
            self._push(at + 45.0 + 30.0 * self.rng.random(), account, prompt)
        elif self.rng.random() < 0.3:  # gives up, sometimes for hours
            self.until[account] = at + 3 * 3600

    def _wait(self, at: float, account: int, prompt: int) -> None:
        if self.habits[account] == 0:
            later = max(self.until[account], at) + 20.0 * self.rng.random()
            self._push(later, account, prompt)

    def _push(self, at: float, account: int, prompt: int) -> None:
        self.made += 1
        heapq.heappush(self.queue, (at, self.made, account, prompt))

    def _free(self, account: int, at: float) -> int:
        """A random account that is not known to be refused, or the one that soonest will not be."""
        if self.until[account] <= at:
            return account
        free = [i for i, until in enumerate(self.until) if until <= at]
        return free[int(self.rng.integers(len(free)))] if free else account

    def _work(self) -> list[Queued]:
        world, rng = self.world, self.rng
        work: list[Queued] = []
        if self.shared:
            times = self._arrivals(world.rate * world.size)
            to = rng.integers(0, world.size, size=len(times))
            prompts = rng.integers(1, 1 << 62, size=len(times))
            return [
                (float(at), i, int(account), int(prompt))
                for i, (at, account, prompt) in enumerate(zip(times, to, prompts, strict=True))
            ]
        spread = rng.gamma(4.0, 0.25, size=world.size)
        if world.kind is WorldKind.PER_ACCOUNT:
            spread = np.ones(world.size)
        listed = rng.integers(1, 1 << 62, size=4096)
        for account in range(world.size):
            times = self._arrivals(world.rate * float(spread[account]))
            if world.kind is WorldKind.SAME_BENCHMARK:
                # All began within the hour and go through one list in one order.
                prompts = listed[(int(rng.integers(0, 3)) + np.arange(len(times))) % len(listed)]
            else:
                prompts = rng.integers(1, 1 << 62, size=len(times))
            first = len(work)
            work += [
                (float(at), first + i, account, int(prompt))
                for i, (at, prompt) in enumerate(zip(times, prompts, strict=True))
            ]
        return work

    def _arrivals(self, rate: float) -> Floats:
        """A renewal process with gamma gaps, warped by the hours of the day, drift and shocks."""
        days = self.world.hours / 24
        shape = 1 / self.world.cv**2
        n = int(rate * days * 1.5 + 20 + 8 * self.world.cv * math.sqrt(rate * days + 1))
        gaps = self.rng.gamma(shape, 1 / (shape * rate), size=n)
        # A random phase: without it every account's first request would come at the start.
        elapsed = np.cumsum(gaps) - gaps[0] * self.rng.random()
        into = np.interp(elapsed[elapsed < days], *self.clock)
        times: Floats = self.world.start + into * DAY_S
        return times

    def _clock(self) -> tuple[Floats, Floats]:
        """Work done by a time of day, and the time: operational days to days."""
        world, days = self.world, self.world.hours / 24
        t = np.linspace(0, days, int(world.hours * _FLAT) + 1)
        swing = 0.2 if world.kind in {WorldKind.SHARED_QUEUE, WorldKind.PER_ACCOUNT} else 0.7
        intensity = 1 + swing * np.sin(2 * np.pi * (t + self.rng.random()))
        intensity *= 1 + (world.drift - 1) * t / days
        if world.kind is WorldKind.COMMON_SHOCKS:
            for _ in range(max(2, int(world.hours / 3))):
                begins = self.rng.random() * days
                factor = float(self.rng.choice([0.1, 3.0, 6.0]))
                intensity[(t >= begins) & (t < begins + 0.02)] *= factor
        done = np.concatenate([[0.0], np.cumsum((intensity[1:] + intensity[:-1]) / 2)])
        return done * (days / done[-1]), t
