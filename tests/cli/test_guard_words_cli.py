"""What ``overproof guard`` says beside its results: warnings, and how to go on."""

from __future__ import annotations

import errno
import os
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from guard_logs import rows, write_log
from typer.testing import CliRunner

from overproof import api
from overproof.cli.guard import app
from overproof.errors import ConfigError, RunError
from overproof.guard.calibration import Ranks
from overproof.guard.community_calibration import Band, CommunityCalibration
from overproof.guard.instruments import FILES
from overproof.guard.scorer import Curve, Scorer
from overproof.guard.signals.accounts import ACCOUNT_SIGNALS
from overproof.guard.signals.communities import COMMUNITY_SIGNALS

KEY = "7d1c90b24ea6f3585b07e9d4c2a81f36"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def signing(*more: str, until: str = "2099-01-31") -> Any:
    given = ("sign-exemption", "--until", until, "--signed-by", "Ada", *more)
    return run(*given)


@pytest.mark.parametrize(("days", "warned"), [(365, False), (1_820, False), (1_840, True)])
def test_a_permission_for_more_than_five_years_is_warned_of(
    days: int, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERPROOF_EXEMPTION_KEY", KEY)
    until = (datetime.now(UTC) + timedelta(days=days)).date().isoformat()
    done = signing("--org", "acme", "--use", "evaluation", until=until)
    assert done.exit_code == 0, done.output
    assert ("more than five years ahead" in done.stderr) is warned
    assert tomllib.loads(done.stdout)["exemptions"][0]["until"] == until


@pytest.mark.parametrize(
    ("given", "culprit"),
    [
        (("--org", "*", "--use", "evaluation"), "--org"),
        (("--org", " acme ", "--use", "evaluation"), "--org"),
        (("--org", "acme", "--use", "evaluation\nand more"), "--use"),
    ],
)
def test_what_would_permit_nobody_is_refused(
    given: tuple[str, ...], culprit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERPROOF_EXEMPTION_KEY", KEY)
    done = signing(*given)
    assert isinstance(done.exception, ConfigError)
    assert done.exception.culprit == culprit
    assert "signature" not in done.stdout


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize(
    ("number", "mend"), [(errno.ENOSPC, "make room"), (errno.EACCES, "mend it")]
)
def test_a_broken_off_replay_says_what_goes_on(
    number: int, mend: str, saved: bool, looks: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out, more = tmp_path / "v.jsonl", ("--looks", tmp_path / "l.parquet") if looks else ()

    def full(*_: object, **__: object) -> None:
        if saved:
            (tmp_path / "v.jsonl.snapshot").touch()
        raise OSError(number, os.strerror(number), f"{out}.partial")

    monkeypatch.setattr(api, "guard_replay", full)
    error = run("replay", tmp_path / "log.jsonl", "--out", out, *more).exception
    assert isinstance(error, RunError)
    assert (error.culprit, error.reason) == (f"{out}.partial", os.strerror(number))
    assert error.way_out.startswith(mend)
    # What was recorded for --looks is in no snapshot: such a replay begins anew.
    assert ("--resume" in error.way_out) is (saved and not looks)
    assert ("begins at the start" in error.way_out) is not (saved and not looks)


def test_a_reader_that_has_left_is_no_error_of_the_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def left(*_: object, **__: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(api, "guard_replay", left)
    error = run("replay", tmp_path / "log.jsonl", "--out", tmp_path / "v.jsonl").exception
    assert not isinstance(error, RunError)


def untaught(home: Path) -> Path:
    """Scorers that add up all signals, and a calibration of communities of no traffic at all."""
    home.mkdir()
    made = []
    for kind, file, signals in (
        ("account", FILES[0], ACCOUNT_SIGNALS), ("community", FILES[1], COMMUNITY_SIGNALS),
    ):  # fmt: skip
        names, families = [one.name for one in signals], [one.family for one in signals]
        line = Curve((-60.0, 60.0), (-60.0, 60.0))
        ranks = (1.0,) * len(set(families))
        made.append(Scorer(kind, tuple(names), tuple(families), (line,) * len(names), ranks))
        made[-1].save(home / file)
    band = Band("2 accounts or more", Ranks([0.0], [1.0]), {})
    CommunityCalibration(
        "2026-03-16T00:00:00Z", "other", made[1].hash, (2,), (band,), 1, 7.0, {}
    ).save(home / FILES[3])
    return home


def test_calibrate_prints_who_is_in_and_warns_where_no_community_is_honest(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", rows(20, 60.0, 900, seed=9))
    trusted, appeals = tmp_path / "trusted.txt", tmp_path / "appeals.jsonl"
    trusted.write_text("\n".join(f"a{who}" for who in range(20) if who % 5))
    row = {"at": 1_780_100_000.0, "outcome": "upheld", "action": "verify", "decided_by": "Ada",
           "reason": "a benchmark", "audited": True}  # fmt: skip
    told = [{"account": "a0"}, {"account": "a1"}, {"account": "a5", "audited": False},
            {"account": "a10", "outcome": "rejected"}]  # fmt: skip
    write_log(appeals, [row | one for one in told])
    config = tmp_path / "guard.toml"
    config.write_text("[looks]\nages_h = [48.0]\n")
    given = ("calibrate", log, "--trusted", trusted, "--out", tmp_path / "mine", "--config",
             config, "--scorers", untaught(tmp_path / "scorers"))  # fmt: skip
    assert isinstance(run(*given, "--audit-share", 2).exception, ConfigError)
    done = run(*given, "--appeals", appeals, "--audit-share", 0.2)
    assert done.exit_code == 0, done.output
    assert "pool: 17 accounts of 17 organisations or payers, at most 88 of each" in done.stdout
    # a1 is trusted and counts once as it is; a0 alone enters, for five.
    assert (
        "appeals: 4; upheld, of the random audit and entered: 1, for 5 accounts of the 21 "
        in done.stdout
    )
    for why in ("not in the audit", "not upheld", "trusted, and in the pool as such"):
        assert f"; {why}: 1" in done.stdout
    assert "warning: the trusted accounts form no honest community" in done.stderr
