"""A replay: deterministic, resumable, and clear about what it was given."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from guard_logs import START, BusyJudge, rows, shuffled, write_log

from overproof.config.guard import GuardConfig
from overproof.errors import ConfigError, DataError, RunError, SecretError
from overproof.guard.recording import LookRecorder
from overproof.guard.replay import SnapshotPlan, communities_path, replay
from overproof.guard.signals.accounts import ACCOUNT_SIGNALS
from overproof.guard.signals.communities import COMMUNITY_SIGNALS
from overproof.guard.sketching import EnvironmentSketcher
from overproof.guard.stopping import Stopping
from overproof.guard.verdict_files import GrowingFile

MORTAL = Path(__file__).parent.parent / "support" / "mortal_replay.py"
CONFIG = GuardConfig()
KEY = "7d1c90b24ea6f3585b07e9d4c2a81f36"


def run(events: Path, out: Path, **options: Any) -> Any:
    options = {"judge": BusyJudge()} | options
    return replay(events, out, CONFIG, **options)


def verdicts(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log") / "events.jsonl", shuffled(rows(), 200.0))


@pytest.fixture(scope="module")
def expected(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    out = tmp_path_factory.mktemp("whole") / "verdicts.jsonl"
    run(log, out)
    return out.read_bytes(), communities_path(out).read_bytes()


def test_verdicts_in_order_of_event_time(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    report = run(log, out)
    found = verdicts(out)
    times = [verdict["decided_at"] for verdict in found]
    assert times == sorted(times)
    assert report.verdicts == {"watch": len(found)}
    assert {verdict["subject"]["kind"] for verdict in found} == {"account", "community"}
    assert report.events == report.lines == report.guard["events"] == 3000
    assert report.accounts == 40
    assert report.guard["passes"] == 10
    drawn = [json.loads(line) for line in communities_path(out).read_bytes().splitlines()]
    assert {"id", "at", "members", "edges"} == drawn[-1].keys()
    pool = {f"a{who}" for who in range(0, 40, 5)}
    assert all(set(one["members"]) <= pool for one in drawn)
    assert all({a, b} <= pool and weight > 0 for a, b, _, weight in drawn[-1]["edges"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "verdicts.communities.jsonl", "verdicts.jsonl", "verdicts.replay.json",
    ]  # fmt: skip


def test_a_look_sees_the_account_as_it_was_at_that_age(tmp_path: Path) -> None:
    events = rows(accounts=3, count=600)
    out = tmp_path / "verdicts.jsonl"
    run(write_log(tmp_path / "events.jsonl", events), out)
    looks = [v for v in verdicts(out) if v["subject"]["kind"] == "account"]
    assert looks
    for verdict in looks:
        mine = [row for row in events if row["account"] == verdict["subject"]["id"]]
        age = verdict["decided_at"] - mine[0]["ts"]
        assert min(abs(age - hours * 3600) for hours in CONFIG.looks.ages_h) < 1e-3
        before = [row for row in mine if row["ts"] < verdict["decided_at"]]
        assert verdict["evidence"][0]["detail"].endswith(f" {len(before)} requests")
        assert verdict["tokens_before"] == 50 * len(before)


def test_the_order_of_lines_within_five_minutes_changes_nothing(
    expected: tuple[bytes, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "verdicts.jsonl"
    run(write_log(tmp_path / "sorted.jsonl", rows()), out)
    assert (out.read_bytes(), communities_path(out).read_bytes()) == expected


@pytest.mark.parametrize("every", [97, 1000])
def test_snapshots_change_nothing(
    every: int, log: Path, expected: tuple[bytes, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "verdicts.jsonl"
    run(log, out, snapshots=SnapshotPlan(every_events=every))
    assert (out.read_bytes(), communities_path(out).read_bytes()) == expected


@pytest.mark.parametrize("stops", [(1,), (700, 1500), (2999,), (400, 900, 2000, 2900)])
def test_ctrl_c_and_resume_give_the_same_bytes(
    stops: tuple[int, ...],
    log: Path,
    expected: tuple[bytes, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "verdicts.jsonl"
    from overproof.guard.reading import LogReader

    whole = LogReader.__iter__
    place = 0

    def interrupted(self: LogReader) -> Any:
        for event in whole(self):
            if self.counts.events == place:
                signal.raise_signal(signal.SIGINT)
            yield event

    monkeypatch.setattr(LogReader, "__iter__", interrupted)
    for number, place in enumerate(stops):  # noqa: B007 - read by the function above
        with pytest.raises(KeyboardInterrupt, match="stopped after"):
            run(log, out, snapshots=SnapshotPlan(resume=number > 0))
        assert not out.exists()
    place = 0
    report = run(log, out, snapshots=SnapshotPlan(resume=True))
    assert report.resumed_at == stops[-1]
    assert report.events == 3000
    assert (out.read_bytes(), communities_path(out).read_bytes()) == expected


@pytest.mark.slow
def test_kill_9_anywhere_and_resume_give_the_same_bytes(
    log: Path, expected: tuple[bytes, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "verdicts.jsonl"
    for turn, after in enumerate((100, 400, 1, 777, 1000)):
        resume = "resume" if turn else "anew"
        done = mortal(log, out, after, resume)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not out.exists()
    done = mortal(log, out, 10**9, "resume")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    assert (out.read_bytes(), communities_path(out).read_bytes()) == expected


def mortal(log: Path, out: Path, after: int, resume: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(MORTAL), str(log), str(out), str(after), resume],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_stopped_between_the_last_renames(
    stage: int,
    log: Path,
    expected: tuple[bytes, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, left, finish = tmp_path / "verdicts.jsonl", stage, GrowingFile.finish

    def dies(self: GrowingFile) -> None:
        nonlocal left
        if left == 0:
            raise OSError(28, "No space left on device")
        left -= 1
        finish(self)

    with monkeypatch.context() as patch:
        patch.setattr(GrowingFile, "finish", dies)
        if stage == 2:
            patch.setattr(Path, "unlink", no_unlink)
        with pytest.raises(OSError, match="No space left"):
            run(log, out)
    report = run(log, out, snapshots=SnapshotPlan(resume=True))
    assert report.events == 3000
    assert (out.read_bytes(), communities_path(out).read_bytes()) == expected
    assert len(list(tmp_path.iterdir())) == 3


def no_unlink(self: Path, missing_ok: bool = False) -> None:
    if self.exists() and not self.name.endswith(".partial"):
        raise OSError(28, "No space left on device")


def stopped(log: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """A replay that was stopped after its first event."""
    with monkeypatch.context() as patch:
        patch.setattr(Stopping, "asked", property(lambda _: True, lambda *_: None), raising=False)
        with pytest.raises(KeyboardInterrupt):
            run(log, out, **options)


def test_another_judge_or_configuration_is_refused(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "verdicts.jsonl"
    stopped(log, out, monkeypatch)
    plan = SnapshotPlan(resume=True)
    with pytest.raises(RunError, match="another calibration"):
        run(log, out, judge=BusyJudge("other"), snapshots=plan)
    with pytest.raises(RunError, match="another configuration"):
        replay(log, out, GuardConfig(late_s=10.0), judge=BusyJudge(), snapshots=plan)
    other = write_log(tmp_path / "other.jsonl", rows(count=20))
    with pytest.raises(DataError, match="not the log"):
        run(other, out, snapshots=plan)


@pytest.mark.parametrize("damage", [b"", b'{"b":1}\n', b'{"a"'])
def test_verdicts_that_were_tampered_with_are_refused(damage: bytes, tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    with GrowingFile(out) as file:
        file.write([{"a": 1}])
        state = file.state()
        file.write([{"later": 2}])
    with GrowingFile(out, state) as file:
        file.write([{"c": 3}])
    assert file.partial.read_bytes() == b'{"a":1}\n{"c":3}\n'
    file.partial.write_bytes(damage)
    with pytest.raises(RunError, match="not what it was"):
        GrowingFile(out, state)


def test_resume_without_a_snapshot_begins_at_the_start(
    log: Path, expected: tuple[bytes, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "verdicts.jsonl"
    report = run(log, out, snapshots=SnapshotPlan(resume=True))
    assert report.resumed_at == 0
    assert out.read_bytes() == expected[0]


def test_two_replays_never_write_one_file(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    with GrowingFile(out) as first:
        first.write([{"a": 1}])
        with pytest.raises(RunError, match="another process"):
            run(log, out)
        first.finish()
    assert out.read_bytes() == b'{"a":1}\n'
    run(log, out)
    assert len(verdicts(out)) > 50


def test_text_and_its_sketch_come_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write_log(tmp_path / "text.jsonl", rows(count=500, hours=20, text=True))
    with pytest.raises(SecretError, match="OVERPROOF_TEST_KEY"):
        run(log, tmp_path / "none.jsonl", sketcher=EnvironmentSketcher("OVERPROOF_TEST_KEY"))
    monkeypatch.setenv("OVERPROOF_TEST_KEY", KEY)
    out = tmp_path / "verdicts.jsonl"
    report = run(log, out, sketcher=EnvironmentSketcher("OVERPROOF_TEST_KEY"))
    assert report.guard["sketched here"] == 500
    blind = run(log, tmp_path / "blind.jsonl")
    assert blind.guard["texts passed over"] == 500
    assert any("passed over" in note for note in blind.notes)


def test_another_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = write_log(tmp_path / "text.jsonl", rows(count=100, text=True))
    out, sketcher = tmp_path / "verdicts.jsonl", EnvironmentSketcher("OVERPROOF_TEST_KEY")
    monkeypatch.setenv("OVERPROOF_TEST_KEY", KEY)
    stopped(log, out, monkeypatch, sketcher=sketcher)
    plan = SnapshotPlan(resume=True)
    monkeypatch.setenv("OVERPROOF_TEST_KEY", "e1409bd27cf85a36d0b7264f91ca83e5")
    with pytest.raises(RunError, match="another key"):
        run(log, out, sketcher=EnvironmentSketcher("OVERPROOF_TEST_KEY"), snapshots=plan)
    monkeypatch.setenv("OVERPROOF_TEST_KEY", KEY)
    report = run(log, out, sketcher=EnvironmentSketcher("OVERPROOF_TEST_KEY"), snapshots=plan)
    assert report.events == 100


@pytest.mark.parametrize(("count", "words"), [(0, "no events"), (1, "one account")])
def test_empty_logs_and_logs_of_one_account(count: int, words: str, tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    report = run(write_log(tmp_path / "events.jsonl", rows(count=count)), out)
    assert verdicts(out) == []
    assert any(words in note for note in report.notes)


def test_bad_lines_duplicates_and_wrong_clocks_are_counted(tmp_path: Path) -> None:
    events = rows(count=2000)
    events[500] = {**events[500], "ts": START + 400 * 86400}  # a clock far ahead
    events.insert(700, events[699])
    lines = [json.dumps(row).encode() for row in events]
    lines.insert(5, b"\xff\xfe not text")
    lines.insert(9, b'{"ts": 1}')
    log = tmp_path / "events.jsonl"
    log.write_bytes(b"\n".join(lines) + b"\n")
    report = run(log, tmp_path / "verdicts.jsonl")
    assert sum(report.bad.values()) == 2
    assert any(":6" in example for example in report.examples)
    assert report.order["duplicates"] == 1
    assert report.order["skewed"] == 1
    assert report.events == 2001
    assert report.guard["events"] == 2000


def test_too_many_bad_lines_stop_it(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    log.write_text("nonsense\n" * 50)
    out = tmp_path / "verdicts.jsonl"
    with pytest.raises(DataError, match=r"events\.jsonl:1"):
        run(log, out)
    assert not out.exists()


def test_outputs_never_overwrite_inputs(tmp_path: Path) -> None:
    log = write_log(tmp_path / "events.jsonl", rows(count=10))
    before = log.read_bytes()
    with pytest.raises(ConfigError, match="file of the log"):
        run(log, log)
    with pytest.raises(ConfigError, match="file of the log"):
        run(log, tmp_path / "v.jsonl", snapshots=SnapshotPlan(log))
    with pytest.raises(ConfigError, match="read as part of it"):
        run(tmp_path, tmp_path / "verdicts.jsonl")
    with pytest.raises(ConfigError, match="two outputs"):
        run(log, tmp_path / "v.jsonl", snapshots=SnapshotPlan(tmp_path / "v.jsonl"))
    assert log.read_bytes() == before


def test_looks_are_recorded_without_a_judge(log: Path, tmp_path: Path) -> None:
    recorder = LookRecorder(
        [signal.name for signal in ACCOUNT_SIGNALS], [signal.name for signal in COMMUNITY_SIGNALS]
    )
    out = tmp_path / "verdicts.jsonl"
    report = run(log, out, judge=None, recorder=recorder)
    assert verdicts(out) == []
    assert any("nothing was decided" in note for note in report.notes)
    assert len(recorder.accounts) == report.guard["looks"] > 40
    assert set(recorder.accounts.strata) == {"free|few", "pro|few"}
    assert len(recorder.communities) == report.guard["communities"] > 0
    with pytest.raises(ConfigError, match="--resume"):
        run(log, out, recorder=recorder, snapshots=SnapshotPlan(resume=True))
