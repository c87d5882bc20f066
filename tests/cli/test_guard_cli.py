"""``overproof guard`` and ``overproof proving`` as a user types them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from guard_fitted import fitted
from guard_logs import rows, write_log
from typer.testing import CliRunner

from overproof.cli import main
from overproof.cli.guard import app
from overproof.cli.proving import app as proving
from overproof.config.guard_file import load_guard_config
from overproof.errors import ConfigError, DataError, MissingExtraError, OverproofError, SecretError
from overproof.guard.exemptions import Exemptions

KEY = "7d1c90b24ea6f3585b07e9d4c2a81f36"


def guard(*arguments: object, code: int = 0) -> Any:
    """Run it; returns what it printed, or the error that it ended with."""
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    if isinstance(done.exception, OverproofError):
        return done.exception
    assert done.exit_code == code, done.output
    return done.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with instruments, a log, its truth and a replay's verdicts."""
    home = tmp_path_factory.mktemp("world")
    (home / "fit").mkdir()
    fitted(home / "fit").rename(home / "instruments")
    events = rows(60, 60.0, 3_000, seed=9)
    write_log(home / "log.jsonl", events)
    truth = [
        {"account": f"a{who}", "class": "chat", "campaign": None, "level": None}
        if who % 5
        else {"account": f"a{who}", "class": "attack", "campaign": "k", "level": "L2"}
        for who in range(60)
    ]
    write_log(home / "truth.jsonl", truth)
    said = guard("replay", home / "log.jsonl", "--out", home / "verdicts.jsonl",
                 "--calibration", home / "instruments")  # fmt: skip
    assert "3,000 events of 60 accounts" in said
    return home


def test_replay_as_json(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.jsonl"
    said = guard("replay", world / "log.jsonl", "--out", out, "--json",
                 "--calibration", world / "instruments")  # fmt: skip
    report = json.loads(said)
    assert report["events"] == 3000
    assert any("smallest p" in note for note in report["notes"])
    assert sum(report["verdicts"].values()) == len(out.read_bytes().splitlines())
    assert out.read_bytes() == (world / "verdicts.jsonl").read_bytes()
    assert json.loads((tmp_path / "v.replay.json").read_bytes()) == report


def test_score_and_its_thresholds(world: Path) -> None:
    files = (world / "verdicts.jsonl", world / "truth.jsonl", "--events", world / "log.jsonl")
    scores = json.loads(guard("score", *files, "--json"))
    assert [level["level"] for level in scores["levels"]] == ["L2"]
    assert scores["events"] == 3000
    text = guard("score", *files)
    assert "L2" in text
    caught = scores["levels"][0]["caught"]["value"]
    assert caught < 1.0
    assert guard("score", *files, "--least-caught", caught)
    guard("score", *files, "--least-caught", 1, code=1)
    assert guard("score", *files, "--most-false", 1)
    for option, share in (("--least-caught", 2), ("--least-caught", "nan"), ("--most-false", -1)):
        error = guard("score", *files, option, share)
        assert isinstance(error, ConfigError), option
        assert error.culprit == option


def test_report(world: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert "wrote" in guard("report", world / "verdicts.jsonl", "--out", page)
    assert "<svg" in page.read_text()
    (tmp_path / "v.jsonl").write_bytes((world / "verdicts.jsonl").read_bytes())
    (tmp_path / "v.communities.jsonl").write_text("[]\n")
    assert isinstance(guard("report", tmp_path / "v.jsonl", "--out", page), DataError)
    assert isinstance(guard("report", tmp_path / "none.jsonl", "--out", page), DataError)


def test_calibrate_from_trusted_accounts(world: Path, tmp_path: Path) -> None:
    trusted = tmp_path / "trusted.txt"
    trusted.write_text("# tenured\n" + "\n".join(f"a{who}" for who in range(60) if who % 5))
    said = guard("calibrate", world / "log.jsonl", "--trusted", trusted,
                 "--out", tmp_path / "mine", "--scorers", world / "instruments")  # fmt: skip
    # Forty-eight accounts are fewer than any age needs, which is said and not glossed over.
    assert isinstance(said, DataError)
    assert "calibration pool" in str(said)
    trusted.write_text("\n")
    assert isinstance(
        guard("calibrate", world / "log.jsonl", "--trusted", trusted, "--out", tmp_path / "mine",
              "--scorers", world / "instruments"),
        ConfigError,
    )  # fmt: skip


def test_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = write_log(tmp_path / "text.jsonl", rows(count=300, hours=10, text=True))
    out = tmp_path / "sketched.jsonl.gz"
    monkeypatch.delenv("OVERPROOF_GUARD_KEY", raising=False)
    error = guard("fingerprint", log, "--out", out)
    assert isinstance(error, SecretError)
    assert "openssl rand" in str(error)
    assert isinstance(
        guard("replay", log, "--out", tmp_path / "v.jsonl", "--watch-only"), SecretError
    )
    monkeypatch.setenv("OVERPROOF_GUARD_KEY", KEY)
    assert "300 sketched" in guard("fingerprint", log, "--out", out)
    full, bare = tmp_path / "full.parquet", tmp_path / "bare.parquet"
    guard("replay", log, "--out", tmp_path / "v.jsonl", "--watch-only", "--looks", full)
    monkeypatch.delenv("OVERPROOF_GUARD_KEY")
    guard("replay", out, "--out", tmp_path / "v.jsonl", "--watch-only", "--looks", bare)
    assert full.read_bytes() == bare.read_bytes()


def test_sign_exemption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = ("sign-exemption", "--org", 'o "7"', "--use", "evaluation", "--until", "2099-01-31",
             "--signed-by", "Ada")  # fmt: skip
    monkeypatch.delenv("OVERPROOF_EXEMPTION_KEY", raising=False)
    assert isinstance(guard(*entry), SecretError)
    monkeypatch.setenv("OVERPROOF_EXEMPTION_KEY", KEY)
    file = tmp_path / "guard.toml"
    file.write_text(guard(*entry))
    held = Exemptions(load_guard_config(file).exemptions, KEY.encode())
    assert held.refused == []
    assert held.spares("any", 'o "7"', None, 0.0)
    assert isinstance(guard("sign-exemption", "--use", "x", "--until", "2099-01-31",
                            "--signed-by", "Ada"), ConfigError)  # fmt: skip


def test_a_permission_that_is_past_is_not_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERPROOF_EXEMPTION_KEY", KEY)
    error = guard("sign-exemption", "--org", "o", "--use", "x", "--until", "2001-01-31",
                  "--signed-by", "Ada")  # fmt: skip
    assert isinstance(error, ConfigError)
    assert error.culprit == "--until"
    assert "past" in str(error)
    odd = guard("sign-exemption", "--org", "ö\\\"\U0001f600", "--use", "x", "--until", "2999-01-31",
                "--signed-by", "Ada")  # fmt: skip
    assert tomllib.loads(odd)["exemptions"][0]["org"] == 'ö\\"\U0001f600'


@pytest.mark.parametrize(("command", "onwards"), [
    (["guard", "report", "v.jsonl"], False), (["proving", "traffic"], False),
    (["proving", "audit"], True), (["distill", "recipe.toml"], True), ([], True),
])  # fmt: skip
def test_only_what_is_taken_up_again_is_said_to_go_on(
    command: list[str], onwards: bool, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device", "page.html")

    monkeypatch.setattr(main, "app", full)
    monkeypatch.setattr("overproof.cli.commands.register", lambda _: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["overproof", *command])
    with pytest.raises(SystemExit):
        main.main()
    said = capsys.readouterr().err
    assert "page.html: No space left on device" in said
    assert ("goes on from here" in said) is onwards


@pytest.mark.parametrize(("text", "words"), [
    ("late_s = -1", "guard.toml:1"), ("lates = 1", "did you mean 'late_s'"), ("= 3", "not TOML"),
    ("[looks]\nages_h = [6, 2]", "rise"),
])  # fmt: skip
def test_a_wrong_configuration(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "guard.toml").write_text(text)
    log = write_log(tmp_path / "log.jsonl", rows(count=5))
    error = guard("replay", log, "--out", tmp_path / "v.jsonl", "--watch-only",
                  "--config", tmp_path / "guard.toml")  # fmt: skip
    assert isinstance(error, ConfigError)
    assert words in str(error)


def test_missing_extras_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("overproof.api.guard.find_spec", lambda name: None)
    error = guard("replay", tmp_path / "log.jsonl", "--out", tmp_path / "v.jsonl")
    assert isinstance(error, MissingExtraError)
    assert "overproof[guard]" in str(error)
    done = CliRunner().invoke(proving, ["traffic", "--out", str(tmp_path / "sim")])
    assert isinstance(done.exception, MissingExtraError)


def test_simulated_traffic(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("each_class = 1\nheavy_events = 500\ncontamination = 0.5\nreal_text = []\n"
                    "campaigns = {L0 = 0, L1 = 0, L2 = 0, L3 = 0, L4 = 0, L5 = 0}\n")  # fmt: skip
    out = tmp_path / "sim"
    done = CliRunner().invoke(
        proving, ["traffic", "--out", str(out), "--days", "0.2", "--plan", str(plan), "--json",
                  "--format", "jsonl"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    manifest = json.loads(done.stdout)
    assert manifest["events"] == len((out / "events.jsonl").read_bytes().splitlines()) > 0
    plan.write_text("each_clas = 1\n")
    done = CliRunner().invoke(
        proving, ["traffic", "--out", str(tmp_path / "other"), "--plan", str(plan)]
    )
    assert isinstance(done.exception, ConfigError)
    assert "did you mean 'each_class'" in str(done.exception)


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_resumes(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.jsonl", rows(accounts=400, count=12_000, hours=100))
    command = [sys.executable, "-m", "overproof", "guard", "replay", str(log), "--watch-only",
               "--out"]  # fmt: skip
    whole, out = tmp_path / "whole.jsonl", tmp_path / "v.jsonl"
    assert subprocess.run([*command, str(whole)], check=False).returncode == 0
    running = subprocess.Popen([*command, str(out)], stderr=subprocess.PIPE, text=True)
    partial = tmp_path / "v.jsonl.partial"
    while not partial.exists():
        time.sleep(0.02)
    time.sleep(0.3)
    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == 130, said
    assert "--resume" in said
    assert "Traceback" not in said
    assert (tmp_path / "v.jsonl.snapshot").exists()
    done = subprocess.run([*command, str(out), "--resume"], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "v.jsonl.snapshot").exists()
