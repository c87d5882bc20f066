"""What a gateway hands in: wrong clocks, impossible times, repeats, appeals."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from guard_logs import START, BusyJudge, rows

from overproof import api
from overproof.config.guard import GuardConfig
from overproof.guard import ordering
from overproof.guard.appeals import AppealOutcome, Appeals
from overproof.guard.engine import Guard
from overproof.guard.intake import Intake
from overproof.guard.parts import Decision, Family, Finding
from overproof.records.traffic import Action, Event, Evidence, Sketch

DAY = 86_400.0
CONFIG = GuardConfig()


def event(number: int, ts: float, **more: Any) -> Event:
    fields = {"account": f"a{number % 5}", "model": "m", "endpoint": "messages"} | more
    return Event(ts=START + ts, request_id=f"r{number}", **fields)


def opened() -> Guard:
    return Guard(CONFIG, judge=BusyJudge(), intake=Intake())  # type: ignore[arg-type]


def drive(guard: Guard, events: list[Event]) -> None:
    """As a gateway does: every event's own time is asked about, wrong ones too."""
    for one in events:
        while guard.due(one.ts):
            guard.run_pass()
        guard.observe(one)


def steady(first: int, count: int, after: float = 0.0) -> list[Event]:
    return [event(first + i, after + 60.0 * i) for i in range(count)]


@pytest.mark.parametrize("where", [0, 1, 10, 50])
@pytest.mark.parametrize("days", [1.5, 400, 20_000])
def test_one_wrong_clock_blinds_nobody(
    where: int, days: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overproof.guard.waiting.MOST_HELD", 200)
    guard, stream = opened(), steady(0, 3_000)
    stream.insert(where, event(9_999, days * DAY, account="wrong"))
    drive(guard, stream)
    assert guard.counts["passes"] == 8  # one in six hours, of fifty
    assert guard.counts["events"] + guard.counts["put aside"] >= 3_001
    assert guard.counts["events"] >= 3_000
    assert len(guard._waiting.held) == 0
    learnt_in_its_time = where > 0 and days < 2
    assert (guard.accounts.find("wrong") is not None) == learnt_in_its_time


def test_an_event_put_aside_is_answered() -> None:
    guard = opened()
    drive(guard, steady(0, 300))
    known = guard.observe(event(300, 300 * 60.0))
    assert known.action is Action.WATCH
    assert guard.observe(event(305, 400 * DAY)) == known


def test_a_true_gap_is_believed_and_all_of_it_learnt() -> None:
    guard = opened()
    drive(guard, steady(0, 100))
    drive(guard, steady(100, 31, after=5 * DAY))
    assert guard.counts["events"] == 100
    drive(guard, steady(131, 200, after=5 * DAY + 31 * 60))
    assert guard.counts["events"] == 331
    assert guard.accounts.find("a1").last_seen > START + 5 * DAY  # type: ignore[union-attr]


def test_a_wrong_leap_is_undone() -> None:
    guard = opened()
    drive(guard, steady(0, 500))
    drive(guard, steady(500, 40, after=400 * DAY))
    drive(guard, steady(540, 2_000, after=500 * 60.0))
    assert guard.counts["turned back"] == 1
    assert guard.intake is not None
    assert guard.intake.newest == START + 2_499 * 60.0
    assert guard.counts["passes"] >= 7
    assert len(guard._waiting.held) == 0


def test_a_gateway_with_a_wrong_clock_among_others() -> None:
    chance = random.Random(3)
    stream = [
        event(i, 30.0 * i + (400 * DAY if chance.random() < 0.3 else 0.0)) for i in range(6_000)
    ]
    guard = opened()
    drive(guard, stream)
    guard.finish()
    assert guard.counts["events"] == 6_000
    assert guard.counts["passes"] == 8
    assert guard.counts["skewed"] == guard.counts["put aside"] > 1_500
    assert max(account.last_seen for account in guard.accounts) < START + DAY * 3


@pytest.mark.parametrize("ts", [math.nan, math.inf, -math.inf, -1.0, 1e15])
def test_no_time_at_all_is_refused(ts: float) -> None:
    guard = opened()
    first = event(0, 0.0)
    wrong = msgspec.structs.replace(first, ts=ts, request_id="w")
    assert guard.observe(wrong) == Decision()
    assert not guard.due(ts)
    guard.observe(first)
    assert not guard.due(ts)
    assert guard.observe(wrong) == Decision()
    assert guard.observe(msgspec.structs.replace(first, account="")) == Decision()
    assert (guard.counts["refused"], guard.counts["events"]) == (3, 1)


def test_turns_that_are_none_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG.key_env, "a key of the tests, long enough")
    guard = api.open_guard()
    said = {"role": "user", "content": "what is the capital of France?"}
    for number, messages in enumerate(([None, 5], [None, said, "x"], [])):
        guard.observe(event(number, 0.0, messages=messages))
    assert (guard.counts["events"], guard.counts["sketched here"]) == (3, 3)


@pytest.mark.parametrize("head", [5, 23])
def test_no_more_are_held_than_the_limit(head: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overproof.guard.waiting.MOST_HELD", 50)
    for guard in (opened(), Guard(CONFIG)):
        ahead = [event(10_000 + i, head * 3600.0 + i) for i in range(60)]
        for number, one in enumerate(steady(0, 2_000)):
            drive(guard, [one] if number % 30 else [one, ahead[number // 30 % 60]])
            assert len(guard._waiting.held) <= 50
    for one in steady(2_000, 3_000, after=2 * DAY):  # nobody runs the passes
        guard.observe(one)
        assert len(guard._waiting.held) <= 50
    assert guard.counts["passes missed"] > 3


def test_what_is_in_the_others_way_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overproof.guard.waiting.MOST_HELD", 50)
    guard = opened()
    guard.observe(event(0, 0.0))
    guard.observe(event(1, 20 * 3600.0))
    for one in steady(2, 100):
        guard.observe(one)
    assert guard.counts["dropped"] == 1
    assert guard.counts["passes missed"] == 0
    assert guard.counts["events"] == 101


def test_a_request_is_learnt_once() -> None:
    guard = opened()
    for _ in range(30):
        guard.observe(event(1, 0.0))
    other = msgspec.structs.replace(event(1, 1.0), account="b")
    guard.observe(other)
    assert guard.accounts.find("a1").requests == 1  # type: ignore[union-attr]
    assert guard.accounts.find("b").requests == 1  # type: ignore[union-attr]
    assert guard.counts["duplicates"] == 29


def test_requests_are_remembered_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "MOST_IDS", 100)
    intake = Intake()
    for one in steady(0, 1_000):
        intake.admit(one, lambda event: event)
        assert len(intake._seen) <= 200


def test_an_orderly_stream_is_the_same_with_an_intake_and_without() -> None:
    stream = [msgspec.convert(row, Event) for row in rows()]
    plain, guard = Guard(CONFIG, judge=BusyJudge()), opened()  # type: ignore[arg-type]
    drive(plain, stream)
    drive(guard, stream)
    plain.finish()
    guard.finish()
    assert guard.verdicts() == plain.verdicts() != []
    assert guard.counts == plain.counts


def test_a_snapshot_gives_the_same() -> None:
    stream = steady(0, 600)
    stream[200:200] = [event(9_000 + i, 400 * DAY) for i in range(20)]
    stream += stream[-30:]
    whole, first, second = opened(), opened(), opened()
    drive(whole, stream)
    drive(first, stream[:210])
    assert first.intake is not None
    assert second.intake is not None
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(first.intake.state()))
    second.intake.restore(plain)
    for one in stream[210:]:
        second.intake.admit(one, lambda event: event)
    assert whole.intake is not None
    assert second.intake.state() == whole.intake.state()
    assert second.counts["duplicates"] == whole.counts["duplicates"] == 30


def test_an_upheld_appeal_spares_the_account() -> None:
    appeals = Appeals(b"sixteen bytes and more")
    guard = api.open_guard(appeals=appeals)
    sketch = Sketch(prompt=1, turn=2)
    guard.observe(event(1, 0.0, text_sketch=sketch))
    account = guard.accounts.find("a1")
    assert guard.judge is not None
    assert account is not None
    why = (Evidence("hours", "use", "24 of 24 hours", 0.01),)
    families = {Family.USE: 1e-9, Family.TEXT: 1e-9}
    finding = Finding("account", (account.index,), START, 9.0, 1e-9, 50.0, 10**9, families, why)
    finding = replace(finding, p_now=1e-9)
    guard.judge.ladder.account(finding, account)
    decision = guard.observe(event(6, 60.0))
    assert decision.action.rung >= Action.SOFTEN.rung
    appeals.decide(
        "a1", START + 90.0, outcome=AppealOutcome.UPHELD, action=decision.action,
        decided_by="Ada", reason="a benchmark",
    )  # fmt: skip
    assert guard.observe(event(11, 120.0)).action is Action.LOG
    later = guard.observe(event(16, 31 * DAY))
    assert later.action is Action.LOG
