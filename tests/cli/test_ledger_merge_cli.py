"""`overproof ledger merge` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from overproof.cli.commands import register
from overproof.errors import LedgerError
from overproof.records.exchange import Completion, Exchange, Message, Outcome, Request
from overproof.records.ledger import Ledger

app = typer.Typer(pretty_exceptions_enable=False)
register(app)


def call(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["ledger", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def write(directory: Path, *texts: str) -> Path:
    with Ledger.open(directory / "ledger.sqlite", write=True) as ledger:
        for text in texts:
            ledger.submit(
                Exchange(
                    request=Request(model="m", messages=(Message(role="user", content=text),)),
                    completion=Completion(outcome=Outcome.ANSWERED, text="yes"),
                    teacher="teacher",
                    created_at="2026-01-02T03:04:05+00:00",
                )
            )
    return directory


def test_merge(tmp_path: Path) -> None:
    shards = [write(tmp_path / "shards" / "1", "a", "b"), write(tmp_path / "shards" / "2", "b")]
    run = tmp_path / "run"
    said = call("merge", run, *shards).output
    assert f"{shards[0] / 'ledger.sqlite'}: 3 new rows" in said
    assert "joined 5 rows, 3 of them exchanges" in said
    assert "asked twice: 1." in said
    assert "ok: 7 rows in 3 chains" in call("verify", run).output
    again = json.loads(call("merge", run, *shards, "--json").output)
    assert (again["rows"], [source["rows"] for source in again["sources"]]) == (0, [0, 0])
    assert "nothing new" in call("merge", run, shards[0]).output
    assert "join" in call("show", run, "--json").output
    with Ledger.open(shards[0] / "ledger.sqlite", write=True), pytest.raises(LedgerError):
        call("merge", run, shards[0], "--wait", "0.1")
    with pytest.raises(LedgerError, match="does not exist"):
        call("merge", run, tmp_path / "none")
    call("merge", run, code=2)  # from nothing
