"""The closed loop: order, refusals, and how each kind of client takes them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest

from overproof.proving.traffic.closed_loop import Actor, Provider, run
from overproof.proving.traffic.identity import Client, Job
from overproof.proving.traffic.queues import Roster, alone, asked_at, shared_queue
from overproof.records.traffic import Event


def client(name: str, plan: str = "team") -> Client:
    return Client(name, None, None, plan, None, None, 64_512, ("10.0.0.1",), ("sdk",))


def numbered() -> object:
    """Jobs whose prompt is their number."""
    n = 0

    def ask(ts: float) -> Job:
        nonlocal n
        n += 1
        return Job("m", [{"role": "user", "content": f"prompt {n}"}], {}, 5, 5)

    return ask


def said(event: Event) -> str:
    assert event.messages is not None
    return str(event.messages[0]["content"])


def every(step: float, n: int, begin: float = 1_000.0) -> Iterator[float]:
    return (begin + step * k for k in range(n))


def pool(
    names: str, n: int = 400, step: float = 5.0, bans: object = (), begin: float = 1_000.0
) -> Actor:
    roster = Roster([(0.0, client(name)) for name in names], bans)  # type: ignore[arg-type]
    rng = Random(1)
    return Actor(0.0, lambda: shared_queue(roster, every(step, n, begin), numbered(), rng))  # type: ignore[arg-type]


def quiet(throttle: object = None) -> Provider:
    return Provider(Random(0), throttle, failures=0.0)  # type: ignore[arg-type]


def test_a_shared_queue_balances_and_asks_everything_once() -> None:
    events = list(run([pool("abcde")], quiet(), 1e9))
    assert len({said(event) for event in events}) == len(events) == 400
    counts = [sum(event.account == name for event in events) for name in "abcde"]
    assert max(counts) - min(counts) < 40


def test_what_one_account_is_refused_resurfaces_on_another() -> None:
    def throttle(event: Event) -> float | None:
        return 60.0 if event.account == "a" and 1_500 < event.ts < 2_500 else None

    events = list(run([pool("abcde")], quiet(throttle), 1e9))
    refused = [event for event in events if event.status == 429]
    assert len(refused) > 5
    served = {said(event): event for event in events if event.status == 200}
    for event in refused:
        assert event.output_tokens == 0
        taken = served[said(event)]
        assert taken.account != "a"
        assert 0 < taken.ts - event.ts < 10
    assert len(served) == 400
    # The load of the refused account goes to the others while it rests.
    others = sum(event.account != "a" for event in events if 1_500 < event.ts < 2_500)
    before = sum(event.account != "a" for event in events if event.ts <= 1_500)
    assert others / 1_000 > 1.1 * before / 500


def test_somebody_alone_waits_as_long_as_told_and_gives_up_in_the_end() -> None:
    asked: list[float] = []

    def throttle(event: Event) -> float | None:
        asked.append(event.ts)
        return 100.0 if event.ts < 1_250 else None

    stream = alone(client("a"), asked_at(every(5.0, 3), numbered()), Random(3))  # type: ignore[arg-type]
    events = list(run([Actor(0.0, lambda: stream)], quiet(throttle), 1e9))
    gaps = [late - early for early, late in pairwise(asked) if early < 1_250]
    assert min(gaps) >= 100.0
    assert [event.status for event in events].count(200) == 3
    assert {event.account for event in events} == {"a"}

    never = alone(client("a"), asked_at(every(5.0, 2), numbered()), Random(3), patience=3)  # type: ignore[arg-type]
    events = list(run([Actor(0.0, lambda: never)], quiet(lambda _: 10.0), 1e9))
    assert [event.status for event in events] == [429] * 6


def test_banned_accounts_are_tried_twice_and_the_rest_takes_over() -> None:
    events = list(run([pool("abc", bans=[(2_000.0, "a"), (2_000.0, "b")])], quiet(), 1e9))
    closed = [event for event in events if event.status == 403]
    assert sorted(event.account for event in closed) == ["a", "a", "b", "b"]
    assert {event.account for event in events if event.ts > 2_100} == {"c"}
    assert len({said(event) for event in events if event.status == 200}) == 400


def test_a_pool_that_is_closed_whole_ends() -> None:
    events = list(run([pool("ab", bans=[(1_500.0, "a"), (1_500.0, "b")])], quiet(), 1e9))
    assert events[-1].status == 403
    assert events[-1].ts < 1_700


def test_events_come_in_order_of_time_and_end_with_the_log() -> None:
    actors = [pool("ab", step=7.0), Actor(1_300.0, pool("cd", step=3.0, begin=1_300.0).stream)]
    times = [event.ts for event in run(actors, quiet(), 2_000.0)]
    assert times == sorted(times)
    assert times[-1] < 2_000.0
    ids = [event.request_id for event in run([pool("ab")], quiet(), 1e9)]
    assert len(set(ids)) == len(ids)


def test_nothing_is_asked_before_its_time() -> None:
    """One pending request an actor, and actors begun only when they are due."""
    begun: list[float] = []

    def actors() -> Iterator[Actor]:
        for n in range(100_000):
            starts = 1_000.0 + n

            def stream(starts: float = starts) -> object:
                begun.append(starts)
                return alone(client("a"), asked_at([starts], numbered()), Random(0))  # type: ignore[arg-type]

            yield Actor(starts, stream)  # type: ignore[arg-type]

    events = run(actors(), quiet(), 1e9)
    for _ in range(50):
        next(events)
    assert len(begun) <= 52


def test_a_plan_has_a_limit_a_minute_and_failures_are_seeded() -> None:
    asked = asked_at(every(0.1, 300), numbered())  # type: ignore[arg-type]
    stream = alone(client("a", "free"), asked, Random(0), patience=1)
    statuses = [e.status for e in run([Actor(0.0, lambda: stream)], quiet(), 1e9)]
    assert 429 in statuses

    def failing() -> list[int | None]:
        provider = Provider(Random(7), failures=0.1)
        return [event.status for event in run([pool("abcdefgh")], provider, 1e9)]

    assert failing() == failing()
    assert set(failing()) == {200, 500, 529}


@pytest.mark.parametrize("names", ["a", "ab"])
def test_small_pools_survive_a_throttle_on_everybody(names: str) -> None:
    def throttle(event: Event) -> float | None:
        return 30.0 if event.ts < 1_400 else None

    events = list(run([pool(names, n=50)], quiet(throttle), 1e9))
    assert len({said(event) for event in events if event.status == 200}) == 50
