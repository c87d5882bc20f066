"""Guard inline and in a replay: the same decisions; and what goes wrong stays inside."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from guard_fitted import fitted
from guard_logs import START, BusyJudge, rows, write_log

from overproof.config.guard import GuardConfig
from overproof.errors import ConfigError, DataError
from overproof.guard import waiting
from overproof.guard.engine import Guard
from overproof.guard.instruments import FILES, Instruments
from overproof.guard.judging import Judge
from overproof.guard.parts import Decision
from overproof.guard.replay import replay
from overproof.guard.scoring import read_verdicts
from overproof.records.traffic import Action, Event, TrafficVerdict

CONFIG = GuardConfig()


def events(**options: Any) -> list[Event]:
    return [msgspec.convert(row, Event) for row in rows(**options)]


def driven(guard: Guard, stream: list[Event], waits: int) -> list[TrafficVerdict]:
    """As a gateway drives it: the pass is run only some events after it was due."""
    found, late = [], 0
    for event in stream:
        guard.observe(event)
        if guard.due(event.ts):
            late += 1
            if late > waits:
                guard.run_pass()
                late = 0
        found += guard.verdicts()
    guard.finish()
    return found + guard.verdicts()


def test_a_guard_that_runs_its_own_passes_needs_nobody_to_ask(tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    replay(write_log(tmp_path / "log.jsonl", rows()), out, CONFIG, judge=BusyJudge())  # type: ignore[arg-type]
    guard = Guard(CONFIG, judge=BusyJudge(), passes=True)  # type: ignore[arg-type]
    for event in events():
        guard.observe(event)
    assert guard.counts["held"] == guard.counts["passes"]
    assert guard.counts["passes"] > 0
    guard.finish()
    assert guard.verdicts() == read_verdicts(out)


def test_events_that_come_during_a_pass_wait_whatever_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = events()
    guard = Guard(CONFIG, judge=BusyJudge())  # type: ignore[arg-type]
    begun, go_on = threading.Event(), threading.Event()
    look = guard._pass

    def slow(at: float) -> None:
        begun.set()
        assert go_on.wait(10)
        look(at)

    monkeypatch.setattr(guard, "_pass", slow)
    for event in stream[:200]:
        guard.observe(event)
    # By the wall clock a pass may be begun before an event of an earlier time comes.
    running = threading.Thread(target=guard.run_pass)
    running.start()
    assert begun.wait(10)
    before = guard.counts["events"]
    for event in stream[200:260]:
        guard.observe(event)
    assert guard.counts["events"] == before
    assert guard.counts["held"] == 60
    guard.run_pass()  # a second one at the same time does nothing
    go_on.set()
    running.join()
    assert guard.counts["passes"] == 1
    for event in stream[260:]:
        guard.observe(event)
        if guard.due(event.ts):
            monkeypatch.undo()
            guard.run_pass()
    guard.finish()
    assert guard.counts["events"] == len(stream)


def test_waiting_events_are_bounded_during_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST_HELD", 10)
    stream = events()
    guard = Guard(CONFIG, judge=BusyJudge())  # type: ignore[arg-type]
    for event in stream[:50]:
        guard.observe(event)
    monkeypatch.setattr(guard, "_pass", lambda at: [guard.observe(e) for e in stream[50:100]])
    guard.run_pass()
    assert guard.counts["dropped"] == 40
    guard.observe(stream[100])
    assert guard.counts["events"] + len(guard._waiting.held) == 50 + 10 + 1


@pytest.fixture(scope="module")
def instruments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted(tmp_path_factory.mktemp("fitted"))


@pytest.mark.parametrize("waits", [0, 1, 30])
def test_a_pass_that_is_run_late_changes_nothing(waits: int, tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    replay(write_log(tmp_path / "log.jsonl", rows()), out, CONFIG, judge=BusyJudge())  # type: ignore[arg-type]
    guard = Guard(CONFIG, judge=BusyJudge())  # type: ignore[arg-type]
    found = driven(guard, events(), waits)
    assert found == read_verdicts(out)
    assert guard.counts["events"] == 3000
    assert guard.counts["held"] >= guard.counts["passes"] > 0


def test_nobody_runs_the_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overproof.guard.waiting.MOST_HELD", 50)
    guard = Guard(CONFIG, judge=BusyJudge())  # type: ignore[arg-type]
    for event in events():
        guard.observe(event)
    assert guard.counts["passes missed"] > 3
    assert guard.counts["events"] > 2800


def test_decisions_follow_the_looks() -> None:
    guard = Guard(CONFIG, judge=BusyJudge())  # type: ignore[arg-type]
    stream = events(accounts=2, count=400, hours=12)
    first = stream[0].ts
    for event in stream:
        while guard.due(event.ts):
            guard.run_pass()
        decision = guard.observe(event)
        if event.account == stream[0].account:
            looked_at = event.ts >= first + 2 * 3600
            assert decision.action is (Action.WATCH if looked_at else Action.LOG)
            assert decision.since == (first + 2 * 3600 if looked_at else None)


def test_a_fault_never_reaches_the_gateway(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    guard = Guard(CONFIG)

    def breaks(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(guard.shared, "add", breaks)
    stream = events(count=30, hours=0.1)
    with caplog.at_level(logging.ERROR):
        assert [guard.observe(event, strict=False) for event in stream] == [Decision()] * 30
    assert guard.counts["faults"] == 30
    assert len(caplog.records) == 10
    with pytest.raises(RuntimeError, match="a defect"):
        guard.observe(stream[0])


def test_looks_that_come_due_together_are_spread() -> None:
    guard = Guard(CONFIG, judge=BusyJudge())  # type: ignore[arg-type]
    base = events(count=1)[0]
    for number in range(25 * 60):
        account, ts = f"a{number % 60}", START + 0.001 * number
        guard.observe(msgspec.structs.replace(base, ts=ts, account=account))
    later = START + 2 * 3600 + 100
    while guard.due(later):
        guard.run_pass()  # takes those due by then
    done = guard.counts["looks"]
    most = 0
    for number in range(60):
        guard.observe(
            msgspec.structs.replace(base, ts=later + number, account="someone else entirely")
        )
        most = max(most, guard.counts["looks"] - done)
        done = guard.counts["looks"]
    assert guard.counts["looks"] == 60
    assert most <= 4


def test_accounts_that_are_forgotten_leave_nothing_behind() -> None:
    config = CONFIG.model_copy(update={"most_accounts": 10})
    judge = BusyJudge()
    guard = Guard(config, judge=judge)  # type: ignore[arg-type]
    for event in events():
        while guard.due(event.ts):
            guard.run_pass()
        guard.observe(event)
    assert len(guard.accounts) == 10
    assert guard.counts["forgotten"] == guard.counts["accounts"] - 10
    assert judge.gone


def test_the_real_judge_finds_the_pool_and_spares_the_rest(
    instruments: Path, tmp_path: Path
) -> None:
    judge = Judge(CONFIG, Instruments(instruments))
    out = tmp_path / "verdicts.jsonl"
    log = write_log(tmp_path / "log.jsonl", rows(60, 60.0, 3_600, seed=9))
    replay(log, out, CONFIG, judge=judge)
    found = read_verdicts(out)
    assert found
    named = [int(name[1:]) for verdict in found for name in verdict.subject.members]
    assert sum(who % 5 == 0 for who in named) > 0.8 * len(named)
    assert {who for who in named if who % 5 == 0} == set(range(0, 60, 5))
    for verdict in found:
        assert verdict.evidence
        assert verdict.n_calibration > 0
        assert verdict.assumption


def test_the_real_judge_goes_on_from_a_snapshot(instruments: Path) -> None:
    stream = events(count=2500, accounts=40, seed=9)
    whole = Guard(CONFIG, judge=Judge(CONFIG, Instruments(instruments)))
    expected = driven(whole, stream, 0)
    first = Guard(CONFIG, judge=Judge(CONFIG, Instruments(instruments)))
    found = []
    for event in stream[:1500]:
        while first.due(event.ts):
            first.run_pass()
        first.observe(event)
        found += first.verdicts()
    plain = msgspec.msgpack.decode(msgspec.msgpack.encode(listed(first.state())))
    second = Guard(CONFIG, judge=Judge(CONFIG, Instruments(instruments)))
    second.restore(plain)
    found += driven(second, stream[1500:], 0)
    assert found == expected
    assert second.counts["events"] == 2500


def listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items()}
    if hasattr(value, "__next__"):
        return [*value]
    return value


def test_instruments_that_do_not_belong_together_are_refused(
    instruments: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no directory"):
        Instruments(tmp_path / "none")
    for name in FILES:
        (tmp_path / name).write_bytes((instruments / name).read_bytes())
    (tmp_path / FILES[2]).unlink()
    with pytest.raises(DataError, match=FILES[2]):
        Instruments(tmp_path)
    (tmp_path / FILES[2]).write_bytes((instruments / FILES[3]).read_bytes())
    with pytest.raises(DataError, match="not a guard calibration of accounts"):
        Instruments(tmp_path)
    looks = CONFIG.looks.model_copy(update={"ages_h": (1.0, 2.0)})
    with pytest.raises(ConfigError, match="ages_h"):
        Judge(CONFIG.model_copy(update={"looks": looks}), Instruments(instruments))
