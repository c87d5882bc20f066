"""How many may be in flight, and how many may start."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from overproof.clients.pacing import Limiter, Pacer


async def test_a_hold_only_grows(clock: Any) -> None:
    pacer = Pacer(now=clock.now)
    assert pacer.held_s == 0.0
    pacer.hold(5.0)
    pacer.hold(1.0)
    assert pacer.held_s == 5.0
    clock.seconds = 6.0
    assert pacer.held_s == 0.0


async def test_without_caps_nobody_waits(clock: Any) -> None:
    pacer = Pacer(sleep=clock.sleep, now=clock.now)
    assert [await pacer.turn(10**9) for _ in range(3)] == [None] * 3
    assert not clock.slept


def most_in_a_window(times: list[float], weights: list[float] | None = None) -> float:
    """Of all half-open windows of a minute that begin with a start."""
    weights = weights or [1.0] * len(times)
    return max(
        sum(w for t, w in zip(times, weights, strict=True) if begin <= t < begin + 60.0)
        for begin in times
    )


@pytest.mark.parametrize("cap", [1, 7, 59, 60, 61, 100, 600])
async def test_no_window_of_a_minute_holds_more_requests_than_the_cap(clock: Any, cap: int) -> None:
    pacer = Pacer(cap, sleep=clock.sleep, now=clock.now)
    rng = random.Random(cap)
    times = []
    for _ in range(3 * cap + 2):
        await pacer.turn()
        times.append(clock.seconds)
        if rng.random() < 0.02:  # now and then there is nothing to do, and then too much
            clock.seconds += rng.uniform(0.0, 90.0)
    assert most_in_a_window(times) <= cap


@pytest.mark.parametrize("cap", [59, 60, 90, 600, 6000])
async def test_the_cap_is_used_and_the_first_second_is_not_lost(clock: Any, cap: int) -> None:
    pacer = Pacer(cap, sleep=clock.sleep, now=clock.now)
    times = []
    while clock.seconds < 60.0:
        await pacer.turn()
        times.append(clock.seconds)
    in_first_minute = sum(time < 60.0 for time in times)
    assert cap - 1 <= in_first_minute <= cap
    # What one second may have is there at once; and it is refilled in that second.
    assert sum(time < 1.0 for time in times) >= max(1, cap // 60)


async def test_less_than_one_request_a_minute(clock: Any) -> None:
    pacer = Pacer(0.5, sleep=clock.sleep, now=clock.now)
    times = []
    for _ in range(3):
        await pacer.turn()
        times.append(clock.seconds)
    assert times == pytest.approx([0.0, 120.0, 240.0], abs=1e-3)


async def test_no_window_of_a_minute_holds_more_tokens_than_the_cap(clock: Any) -> None:
    rng = random.Random(0)
    pacer = Pacer(tokens_per_minute=1000, sleep=clock.sleep, now=clock.now)
    times: list[float] = []
    used: list[float] = []
    for _ in range(120):
        most = rng.randint(50, 400)
        entry = await pacer.turn(most)
        times.append(clock.seconds)
        real = rng.randint(1, most)
        used.append(real)
        clock.seconds += rng.uniform(0.0, 0.5)
        pacer.settle(entry, real)
    assert most_in_a_window(times, used) <= 1000
    # What is settled makes room: far more went out than reservations would have let.
    assert sum(used) / clock.seconds * 60 > 800


async def test_a_request_larger_than_the_cap_goes_out_alone(clock: Any) -> None:
    pacer = Pacer(tokens_per_minute=100, sleep=clock.sleep, now=clock.now)
    await pacer.turn(50)
    await pacer.turn(500)
    assert clock.seconds == pytest.approx(60.0, abs=0.1)
    await pacer.turn(1)
    assert clock.seconds == pytest.approx(120.0, abs=0.2)


async def test_places_start_at_the_cap_and_are_handed_on_in_order(clock: Any) -> None:
    limiter = Limiter(2, now=clock.now)
    order = []
    doors = [asyncio.Event() for _ in range(5)]

    async def work(number: int) -> None:
        async with limiter:
            order.append(number)
            await doors[number].wait()

    tasks = [asyncio.create_task(work(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert order == [0, 1]
    doors[0].set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert order == [0, 1, 2]
    for door in doors:
        door.set()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert limiter.in_flight == 0


async def test_overload_halves_once_a_round_trip_and_never_below_one(clock: Any) -> None:
    limiter = Limiter(16, now=clock.now)
    clock.seconds = 10.0
    for _ in range(16):  # all of them were in flight together
        limiter.overloaded(started_at=9.0)
    assert limiter.limit == 8
    clock.seconds = 11.0
    limiter.overloaded(started_at=10.5)
    assert limiter.limit == 4
    for _ in range(5):
        clock.seconds += 1.0
        limiter.overloaded(started_at=clock.seconds)
    assert limiter.limit == 1


async def test_a_round_trip_of_successes_adds_one_place_up_to_the_cap(clock: Any) -> None:
    limiter = Limiter(6, now=clock.now)
    limiter.overloaded(started_at=1.0)
    assert limiter.limit == 3
    for _ in range(3):
        limiter.succeeded()
    assert limiter.limit == pytest.approx(4, abs=0.2)
    for _ in range(100):
        limiter.succeeded()
    assert limiter.limit == 6


async def test_fixed_pacing_stays_at_the_cap(clock: Any) -> None:
    limiter = Limiter(6, adaptive=False, now=clock.now)
    limiter.overloaded(started_at=1.0)
    assert limiter.limit == 6


async def test_who_is_cancelled_loses_no_place(clock: Any) -> None:
    limiter = Limiter(1, now=clock.now)
    entered = []

    async def work(number: int) -> None:
        async with limiter:
            entered.append(number)

    async with limiter:
        tasks = [asyncio.create_task(work(number)) for number in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
    # The place goes to the second in this very moment, and it is cancelled, too.
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert entered == [2]
    assert limiter.in_flight == 0
