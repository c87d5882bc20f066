"""Guard in a gateway: several threads, passes that fail, saved and started again."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from guard_logs import START, BusyJudge, rows

from overproof import api
from overproof.config.guard import GuardConfig
from overproof.errors import DataError, RunError
from overproof.guard import saving
from overproof.guard.engine import Guard
from overproof.guard.intake import Intake
from overproof.guard.saving import restore_guard
from overproof.guard.snapshots import write_snapshot
from overproof.records.traffic import Action, Event

CONFIG = GuardConfig()
HOUR = 3600.0
FIRST = (START // (6 * HOUR) + 1) * 6 * HOUR  # when the first pass is due


def opened(*, passes: bool = True) -> Guard:
    return Guard(CONFIG, judge=BusyJudge(), intake=Intake(), passes=passes)  # type: ignore[arg-type]


def stream(count: int = 3000) -> list[Event]:
    return [msgspec.convert(row, Event) for row in rows(count=count)]


def before_and_after(events: list[Event], at: float = FIRST) -> tuple[list[Event], list[Event]]:
    """Those before a pass, and those from then on."""
    return [one for one in events if one.ts < at], [one for one in events if one.ts >= at]


class Blocked:
    """A pass that waits until it may go on."""

    def __init__(self, guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.may_go_on = threading.Event(), threading.Event()
        self._run = guard._pass
        monkeypatch.setattr(guard, "_pass", self)

    def __call__(self, at: float) -> None:
        self.begun.set()
        assert self.may_go_on.wait(10)
        self._run(at)


def aside(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


# ---------------------------------------------------------------- passes


def test_others_are_answered_while_a_request_runs_its_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guard, (early, late) = opened(), before_and_after(stream())
    for event in early:
        guard.observe(event)
    blocked = Blocked(guard, monkeypatch)
    first = aside(lambda: guard.observe(late[0]))
    assert blocked.begun.wait(10)
    others = aside(lambda: [guard.observe(event) for event in late[1:40]])
    others.join(5)
    assert not others.is_alive()
    assert first.is_alive()
    assert guard.counts["events"] == len(early)
    blocked.may_go_on.set()
    first.join(10)
    assert guard.counts["events"] == len(early) + 1  # its own; the others as more come
    for event in late[40:]:
        guard.observe(event)
    guard.finish()
    assert guard.counts["events"] == len(early) + len(late)


@pytest.mark.parametrize("strict", [True, False])
def test_a_pass_that_fails_does_not_cost_the_request_it_met(
    strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = FIRST + 24 * HOUR  # when there is enough to look at
    guard, (early, late) = opened(), before_and_after(stream(), later)
    for event in early:
        guard.observe(event)
    known = guard.observe(msgspec.structs.replace(late[0], request_id="x", ts=later - 1))
    assert known.action is Action.WATCH

    def fails(_: float) -> None:
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(guard, "_pass", fails)
        if strict:
            with pytest.raises(RuntimeError, match="no memory"):
                guard.observe(late[0])
        else:
            assert guard.observe(late[0], strict=False) == known
            assert guard.counts["faults"] == 1
    for event in late[1:]:
        guard.observe(event)
    assert guard.counts["events"] == len(early) + 1 + len(late)
    assert guard.counts["passes"] > 5


def test_of_two_workers_who_see_a_pass_due_one_runs_it() -> None:
    guard, (early, late) = opened(passes=False), before_and_after(stream())
    for event in early:
        guard.observe(event)
    now = late[0].ts
    assert not guard.run_pass(FIRST - 1.0)
    assert guard.run_pass(now)
    guard.observe(late[0])
    assert not guard.run_pass(now)
    assert guard.counts["passes"] == 1
    assert guard.due(FIRST + 6 * HOUR)


def test_no_verdict_is_lost_between_two_threads() -> None:
    guard, events = opened(), stream()
    whole = opened()
    for event in events:
        whole.observe(event)
    fetched: list[Any] = []
    done = threading.Event()

    def fetch() -> None:
        while not done.is_set():
            fetched.extend(guard.verdicts())

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        fetcher = aside(fetch)
        for event in events:
            guard.observe(event)
        done.set()
        fetcher.join()
    finally:
        sys.setswitchinterval(usual)
    guard.finish()
    whole.finish()
    assert fetched + guard.verdicts() == whole.verdicts() != []
    assert list(guard.communities()) == list(whole.communities()) != []


# ---------------------------------------------------------------- saved and started again


def test_a_gateway_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    path, events = tmp_path / "folder" / "snapshot", stream()
    whole, first, second = opened(), opened(), opened()
    for event in events:
        whole.observe(event)
    for event in events[:1700]:
        first.observe(event)
    assert first.save(path) == path.stat().st_size
    restore_guard(second, path)
    assert second.observe(events[5]).action is Action.WATCH
    assert second.counts["duplicates"] == 1
    for event in events[1700:]:
        second.observe(event)
    whole.finish()
    second.finish()
    assert second.verdicts() == whole.verdicts()
    assert list(second.communities()) == list(whole.communities()) != []
    assert second.counts == whole.counts | {"duplicates": 1}


def test_a_guard_is_saved_while_requests_come(tmp_path: Path) -> None:
    guard, events, done = opened(), stream(), threading.Event()
    failed: list[Exception] = []

    def save() -> None:
        try:
            while not done.is_set():
                guard.save(tmp_path / "snapshot")
        except (RuntimeError, OSError, RunError) as error:
            failed.append(error)

    saver = aside(save)
    for event in events:
        guard.observe(event)
    done.set()
    saver.join()
    assert not failed
    guard.save(tmp_path / "snapshot")
    again, whole = opened(), opened()
    restore_guard(again, tmp_path / "snapshot")
    for event in events:
        whole.observe(event)
    for one in (again, whole):
        one.finish()
    assert again.counts["events"] == len(events)
    assert again.verdicts() == whole.verdicts()


def test_requests_that_come_while_one_saves_wait_and_are_in_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, events = opened(), stream()
    for event in events[:100]:
        guard.observe(event)

    def write(path: Path, identity: Any, state: Any) -> int:
        for event in events[100:110]:
            guard.observe(event)
        with pytest.raises(RunError, match="in the midst"):
            guard.save(path)
        return write_snapshot(path, identity, state)

    monkeypatch.setattr(saving, "write_snapshot", write)
    guard.save(tmp_path / "snapshot")
    assert guard.counts["events"] == 100
    guard.observe(events[110])
    guard.finish()
    assert guard.counts["events"] == 111
    again = opened()
    restore_guard(again, tmp_path / "snapshot")
    again.finish()
    assert (again.counts["events"], again.counts["duplicates"]) == (100, 0)


def test_a_save_waits_for_a_pass_and_loses_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, (early, late) = opened(), before_and_after(stream())
    for event in early:
        guard.observe(event)
    blocked = Blocked(guard, monkeypatch)
    first = aside(lambda: guard.observe(late[0]))
    assert blocked.begun.wait(10)
    guard.observe(late[1])
    assert guard.verdicts() == []
    saver = aside(lambda: guard.save(tmp_path / "snapshot"))
    saver.join(0.2)
    assert saver.is_alive()
    blocked.may_go_on.set()
    saver.join(10)
    first.join(10)
    again = opened()
    restore_guard(again, tmp_path / "snapshot")
    again.finish()
    guard.finish()
    assert again.counts["events"] == guard.counts["events"] == len(early) + 2
    assert again.verdicts() == guard.verdicts() != []
    assert list(again.communities()) == list(guard.communities()) != []


@pytest.mark.parametrize("where", ["_pass", "_take"])
def test_a_signal_handler_cannot_save_half_an_event(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, (early, late) = opened(), before_and_after(stream())
    for event in early:
        guard.observe(event)

    def interrupted(_: object) -> None:
        guard.save(tmp_path / "snapshot")

    monkeypatch.setattr(guard, where, interrupted)
    with pytest.raises(RunError, match="signal handler"):
        guard.observe(msgspec.structs.replace(late[0], ts=FIRST + (1 if where == "_pass" else -1)))
    monkeypatch.undo()
    guard.save(tmp_path / "snapshot")


def test_a_full_disk_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard, events = opened(), stream()

    def full(*_: object) -> Iterator[None]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("overproof.guard.snapshots.atomically", full)
    guard.observe(events[0])
    with pytest.raises(OSError, match="No space"):
        guard.save(tmp_path / "snapshot")
    guard.observe(events[1])
    assert guard.counts["events"] == 2


def test_opening_with_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG.key_env, "Zq8rT3vK1pX7mW5nB2cL9dF4")
    path = tmp_path / "snapshot"
    guard = api.open_guard(snapshot=path)  # a first start: there is none yet
    said = [{"role": "user", "content": "What is the capital of France?"}]
    event = Event(
        ts=START, request_id="r1", account="a", model="m", endpoint="messages", messages=said
    )
    guard.observe(event)
    guard.save(path)
    again = api.open_guard(snapshot=path)
    again.observe(event)
    assert (again.counts["events"], again.counts["duplicates"]) == (1, 1)

    settings = tmp_path / "guard.toml"
    settings.write_text(
        '[[exemptions]]\norg = "o"\nuse = "tests"\nuntil = "2030-01-01"\n'
        'signed_by = "Ada"\nsignature = "none"\n'
    )
    assert api.open_guard(settings, snapshot=path).counts["events"] == 1
    settings.write_text("forget_days = 40.0\n")
    with pytest.raises(RunError, match="another configuration"):
        api.open_guard(settings, snapshot=path)
    monkeypatch.setenv(CONFIG.key_env, "another4Key9of2The7tests5aB")
    with pytest.raises(RunError, match="another key"):
        api.open_guard(snapshot=path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="begin anew"):
        api.open_guard(snapshot=path)


def test_a_replays_snapshot_is_none_of_a_gateway(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    guard = opened()
    identity = saving._identity(guard)
    del identity["program (a replay or a gateway)"]
    write_snapshot(path, identity, {"key": "", "guard": guard.state()})
    with pytest.raises(RunError, match="another program"):
        restore_guard(guard, path)
