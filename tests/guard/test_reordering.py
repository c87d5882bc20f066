"""Events into the order of their time: late ones, duplicates, wrong clocks, snapshots."""

from __future__ import annotations

import random
from itertools import pairwise

import msgspec
import pytest

from overproof.guard import ordering
from overproof.guard.ordering import ReorderBuffer
from overproof.records.traffic import Event, Sketch

START = 1.7e9
DAY = 86_400.0


def event(ts: float, name: str = "", account: str = "a") -> Event:
    return Event(
        ts=START + ts,
        request_id=name or f"{ts:.3f}",
        account=account,
        model="m",
        endpoint="messages",
        text_sketch=Sketch(system=3, shingles=(1, 2)),
    )


def run(buffer: ReorderBuffer, events: list[Event]) -> list[Event]:
    out = [due for one in events for due in buffer.add(one)]
    return out + buffer.flush()


def jittered(count: int, late: float, seed: int) -> list[Event]:
    draw = random.Random(seed)
    arrivals = [(i * 1.7 + draw.uniform(0, late), i * 1.7, i) for i in range(count)]
    return [event(ts, f"r{i}") for _, ts, i in sorted(arrivals)]


@pytest.mark.parametrize("seed", range(5))
def test_events_up_to_five_minutes_late_find_their_place(seed: int):
    buffer = ReorderBuffer(300.0)
    out = run(buffer, jittered(2_000, 300.0, seed))
    assert [e.request_id for e in out] == [f"r{i}" for i in range(2_000)]
    assert (buffer.counts.late, buffer.counts.duplicates, buffer.counts.skewed) == (0, 0, 0)
    assert len(buffer) == 0


@pytest.mark.parametrize("late_s", [0.0, 10.0, 300.0])
def test_what_comes_out_never_goes_back_in_time(late_s: float):
    buffer = ReorderBuffer(late_s)
    out = run(buffer, jittered(2_000, 900.0, 1))
    assert len(out) == 2_000
    assert all(a.ts <= b.ts for a, b in pairwise(out))
    assert buffer.counts.late > 0


def test_equal_times_are_ordered_by_request():
    names = ["b", "c", "a"]
    out = run(ReorderBuffer(), [event(5.0, name) for name in names])
    assert [e.request_id for e in out] == ["a", "b", "c"]


def test_order_of_arrival_within_the_slack_changes_nothing():
    events = jittered(500, 100.0, 3)
    orders = []
    for seed in range(4):
        mixed = jittered(500, 250.0, seed)
        orders.append([e.request_id for e in run(ReorderBuffer(), mixed)])
    assert all(order == orders[0] for order in orders)
    assert len(events) == len(orders[0])


def test_a_very_late_event_is_delivered_as_of_the_frontier():
    buffer = ReorderBuffer(300.0)
    out = [d for i in range(2_000) for d in buffer.add(event(float(i)))]
    frontier = out[-1].ts
    late = event(3.0, "late")
    out += buffer.add(late) + buffer.flush()
    assert buffer.counts.late == 1
    assert frontier <= late.ts <= frontier + 1.0
    assert len(out) == 2_001
    assert all(a.ts <= b.ts for a, b in pairwise(out))


def test_duplicates_are_dropped_but_not_those_of_another_account():
    buffer = ReorderBuffer()
    out = run(buffer, [event(1, "r"), event(1, "r"), event(2, "r"), event(3, "r", "b")])
    assert [(e.account, e.request_id) for e in out] == [("a", "r"), ("b", "r")]
    assert buffer.counts.duplicates == 2


def test_duplicates_are_remembered_in_bounded_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ordering, "MOST_IDS", 100)
    buffer = ReorderBuffer()
    for i in range(1_000):
        buffer.add(event(float(i), f"r{i}"))
        buffer.add(event(float(i), f"r{max(i - 99, 0)}"))
        assert len(buffer._seen) <= 200
    assert buffer.counts.duplicates == 1_000


@pytest.mark.parametrize("where", [0, 1, 500, 999])
@pytest.mark.parametrize("years", [1, 70])
def test_one_wrong_clock_flushes_nothing(where: int, years: int):
    events = [event(float(i), f"r{i:04}") for i in range(1_000)]
    wrong = event(years * 365 * DAY, "wrong")
    events.insert(where, wrong)
    buffer = ReorderBuffer()
    out = run(buffer, events)
    assert [e.request_id for e in out] == [f"r{i:04}" for i in range(1_000)] + ["wrong"]
    assert (buffer.counts.late, buffer.counts.skewed) == (0, 1)
    assert wrong.ts <= START + 1_001


def test_a_gateway_with_a_wrong_clock_flushes_nothing():
    draw = random.Random(4)
    events = [
        event(float(i) + (400 * DAY if draw.random() < 0.3 else 0.0), f"r{i:05}")
        for i in range(20_000)
    ]
    wrong = sum(e.ts > START + DAY for e in events)
    buffer = ReorderBuffer()
    out = run(buffer, events)
    assert buffer.counts.skewed == wrong
    assert len(out) == 20_000
    assert max(e.ts for e in out) < START + 21_000


def test_a_first_clock_that_is_wrong_makes_nothing_late():
    events = [event(-30 * 365 * DAY, "old"), *(event(float(i)) for i in range(100))]
    buffer = ReorderBuffer()
    out = run(buffer, events)
    assert out[0].request_id == "old"
    assert (buffer.counts.late, buffer.counts.skewed) == (0, 0)
    assert [e.ts for e in out[1:]] == [START + i for i in range(100)]


def test_a_true_gap_of_a_weekend_is_believed():
    first = [event(float(i), f"a{i:03}") for i in range(100)]
    later = [event(3 * DAY + i, f"b{i:03}") for i in range(500)]
    buffer = ReorderBuffer()
    out = run(buffer, first + later)
    assert [e.ts - START for e in out] == [e.ts - START for e in first + later]
    assert (buffer.counts.late, buffer.counts.skewed) == (0, 0)


@pytest.mark.parametrize("count", [1, 5, 15, 16, 17, 60])
def test_a_log_of_one_rare_account_keeps_its_times(count: int):
    times = [2 * DAY * i for i in range(count)]
    buffer = ReorderBuffer()
    out = run(buffer, [event(ts) for ts in times])
    assert [e.ts - START for e in out] == times
    assert (buffer.counts.late, buffer.counts.skewed) == (0, 0)


def test_too_many_waiting_are_released_early():
    buffer = ReorderBuffer(300.0, most_held=50)
    out = []
    for i in range(1_000):
        out += buffer.add(event(i / 10, f"r{i:04}"))
        assert len(buffer) <= 51 + ordering.FIRST
    out += buffer.flush()
    assert [e.request_id for e in out] == [f"r{i:04}" for i in range(1_000)]
    assert buffer.counts.hurried > 900


def test_many_wrong_clocks_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ordering, "MOST_ASIDE", 20)
    buffer, out = ReorderBuffer(), []
    for i in range(500):
        out += buffer.add(event(float(i), f"r{i}"))
        out += buffer.add(event((400 + i) * DAY, f"w{i}"))
        assert len(buffer._ahead.events) <= 20
    out += buffer.flush()
    assert len(out) == 1_000
    assert buffer.counts.skewed == 500


def test_no_events_flush_to_none():
    assert ReorderBuffer().flush() == []


@pytest.mark.parametrize("stop", [3, 16, 700, 1_400])
def test_a_snapshot_gives_the_same(stop: int):
    def log() -> list[Event]:
        events = jittered(1_500, 600.0, 7)
        events.insert(650, event(500 * DAY, "wrong"))
        return [*events, *events[-20:]]

    whole = ReorderBuffer()
    expected = [(e.ts, e.request_id) for e in run(whole, log())]
    first, events = ReorderBuffer(), log()
    out = [(due.ts, due.request_id) for one in events[:stop] for due in first.add(one)]
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(first.state()))
    second = ReorderBuffer()
    second.restore(state)
    assert len(second) == len(first)
    out += [(due.ts, due.request_id) for due in run(second, events[stop:])]
    assert out == expected
    assert second.counts == whole.counts
