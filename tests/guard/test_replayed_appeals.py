"""Appeals written down, and a replay that heeds each from its own time on."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from guard_fitted import fitted
from guard_logs import rows, write_log
from typer.testing import CliRunner

from overproof import api
from overproof.cli.guard import app
from overproof.errors import ConfigError, DataError, RunError, SecretError
from overproof.guard.appeal_files import read_appeals
from overproof.guard.appeals import AppealOutcome, Appeals
from overproof.guard.replay import SnapshotPlan
from overproof.guard.scoring import read_verdicts
from overproof.records.traffic import Action, Event, TrafficVerdict

KEY = "7d1c90b24ea6f3585b07e9d4c2a81f36"
EASY = """
[looks]
false_positive_rate = 0.3
[ladder]
watch_p = 0.4
family_p = 0.6
member_p = 0.5
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Instruments, a log, settings by which many are acted on, and the verdicts without appeals."""
    home = tmp_path_factory.mktemp("world")
    (home / "fit").mkdir()
    fitted(home / "fit").rename(home / "instruments")
    write_log(home / "log.jsonl", rows(60, 60.0, 3_000, seed=9))
    (home / "guard.toml").write_text(EASY)
    api.guard_replay(home / "log.jsonl", home / "v.jsonl", **of(home))
    return home


def of(world: Path) -> dict[str, Path]:
    return {"config": world / "guard.toml", "calibration": world / "instruments"}


def first_held(world: Path) -> TrafficVerdict:
    found = (one for one in read_verdicts(world / "v.jsonl") if one.subject.kind == "account")
    return next(one for one in found if one.action.rung >= Action.SOFTEN.rung)


def appealing(file: Path, **change: object) -> Any:
    said = {"account": "a1", "outcome": "upheld", "action": "verify", "by": "Ada",
            "reason": "a benchmark"} | change  # fmt: skip
    options = [each for name, value in said.items()
               for each in (f"--{name.replace('_', '-')}", str(value))]  # fmt: skip
    return CliRunner().invoke(app, ["appeal", str(file), *options])


def test_a_replay_decides_what_a_gateway_decided_after_the_appeal(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = first_held(world)
    who, at = held.subject.id, held.decided_at + 6 * 3600.0
    file = tmp_path / "appeals.jsonl"
    monkeypatch.setenv("OVERPROOF_AUDIT_KEY", KEY)
    when = datetime.fromtimestamp(at, UTC).isoformat()
    done = appealing(file, account=who, action=held.action, at=when)
    assert done.exit_code == 0, done.output
    events = [msgspec.convert(json.loads(line), Event)
              for line in (world / "log.jsonl").read_bytes().splitlines()]  # fmt: skip
    appeals = Appeals(KEY.encode())
    gateway = api.open_guard(**of(world), appeals=appeals)
    rungs: dict[bool, set[Action]] = {False: set(), True: set()}
    for event in sorted(events, key=lambda event: event.ts):
        if event.ts >= at and not appeals.records:
            appeals.decide(who, at, outcome=AppealOutcome.UPHELD, action=held.action,
                           decided_by="Ada", reason="a benchmark")  # fmt: skip
        decision = gateway.observe(event)
        if event.account == who:
            rungs[bool(appeals.records)].add(decision.action)
    gateway.finish()
    assert any(action.rung >= Action.SOFTEN.rung for action in rungs[False])
    assert rungs[True] == {Action.LOG}
    report = api.guard_replay(world / "log.jsonl", tmp_path / "v.jsonl", **of(world), appeals=file)
    assert read_appeals(file) == list(appeals.records)
    mine = read_verdicts(tmp_path / "v.jsonl")
    assert mine == gateway.verdicts()
    without = read_verdicts(world / "v.jsonl")
    assert [one for one in mine if one.decided_at < at] == [
        one for one in without if one.decided_at < at
    ]
    assert mine != without
    assert "appeals: 1 upheld, 0 not" in report.notes


def test_an_appeal_after_the_end_changes_nothing_and_that_is_said(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERPROOF_AUDIT_KEY", KEY)
    for outcome in ("upheld", "rejected"):
        appealing(tmp_path / "a.jsonl", account=first_held(world).subject.id, outcome=outcome,
                  at=1_790_000_000)  # fmt: skip
    out = tmp_path / "v.jsonl"
    done = CliRunner().invoke(app, [
        "replay", str(world / "log.jsonl"), "--out", str(out), "--appeals",
        str(tmp_path / "a.jsonl"), "--config", str(world / "guard.toml"), "--calibration",
        str(world / "instruments"),
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "note: appeals: 1 upheld, 1 not; 1 of the upheld after the log's end" in done.stdout
    assert out.read_bytes() == (world / "v.jsonl").read_bytes()


def test_a_replay_goes_on_with_the_same_appeals_alone(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERPROOF_AUDIT_KEY", KEY)
    held, file, out = first_held(world), tmp_path / "a.jsonl", tmp_path / "v.jsonl"
    appealing(file, account=held.subject.id, at=held.decided_at + 600.0)
    api.guard_replay(world / "log.jsonl", tmp_path / "w.jsonl", **of(world), appeals=file)
    monkeypatch.setattr("overproof.guard.replay.SnapshotPlan", every_thousand)

    def stop(_: object) -> None:
        raise OSError(28, "No space left on device", "elsewhere")

    monkeypatch.setattr("overproof.guard.engine.Guard.finish", stop)
    with pytest.raises(OSError, match="elsewhere"):
        api.guard_replay(world / "log.jsonl", out, **of(world), appeals=file)
    monkeypatch.undo()
    more = {"appeals": file, "resume": True} | of(world)
    before = file.read_bytes()
    file.write_bytes(before * 2)
    with pytest.raises(RunError, match="appeals"):
        api.guard_replay(world / "log.jsonl", out, **more)
    file.write_bytes(before)
    assert api.guard_replay(world / "log.jsonl", out, **more).resumed_at > 0
    assert out.read_bytes() == (tmp_path / "w.jsonl").read_bytes()


def every_thousand(path: Path | None = None, resume: bool = False) -> SnapshotPlan:
    return SnapshotPlan(path, resume, every_events=1_000)


def test_what_an_appeal_must_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "appeals.jsonl"
    monkeypatch.delenv("OVERPROOF_AUDIT_KEY", raising=False)
    error = appealing(file).exception
    assert isinstance(error, SecretError)
    assert "OVERPROOF_AUDIT_KEY" in str(error)
    monkeypatch.setenv("OVERPROOF_AUDIT_KEY", KEY)
    for option, value, words in (
        ("outcome", "won", "upheld, rejected"), ("action", "jail", "verify"),
        ("account", " ", "empty"), ("by", "", "empty"), ("reason", "", "empty"),
        ("at", "noon", "2026-03-05T10:00Z"), ("at", "2026-03-05", "2026-03-05T10:00Z"),
        ("at", "nan", "seconds"), ("at", "inf", "seconds"), ("at", "1780000000000", "seconds"),
        ("audit_share", 0, "(0, 1]"),
    ):  # fmt: skip
        error = appealing(file, **{option: value}).exception
        assert isinstance(error, ConfigError), option
        assert words in str(error)
    assert not file.exists()
    assert "a day ahead" in appealing(file, at="2999-03-05T10:00").stderr
    assert appealing(file, at="2026-03-05 10:00+02:00", audit_share=1).exit_code == 0
    assert [(one.at, one.audited) for one in read_appeals(file)][1] == (1_772_697_600.0, True)
    drawn = {name: Appeals(KEY.encode(), 0.5).audited(name) for name in ("a1", "a2", "a3", "a4")}
    for name in drawn:
        appealing(file, account=name, audit_share=0.5)
    assert {one.account: one.audited for one in read_appeals(file)[2:]} == drawn


def test_a_replay_refuses_what_is_no_file_of_appeals(world: Path, tmp_path: Path) -> None:
    log, out = world / "log.jsonl", tmp_path / "v.jsonl"
    with pytest.raises(DataError, match="no such file"):
        api.guard_replay(log, out, **of(world), appeals=tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="is no appeal") as caught:
        api.guard_replay(log, out, **of(world), appeals=log)
    assert caught.value.culprit == f"{log}:1"
    (tmp_path / "a.jsonl").touch()
    with pytest.raises(ConfigError, match="file of appeals of this replay"):
        api.guard_replay(log, tmp_path / "a.jsonl", **of(world), appeals=tmp_path / "a.jsonl")
    with pytest.raises(ConfigError, match="--watch-only"):
        api.guard_replay(log, out, watch_only=True, appeals=tmp_path / "a.jsonl")
    assert not out.exists()
