"""`overproof ledger` and `overproof import` as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from overproof.cli.import_logs import import_command
from overproof.cli.ledger import app as ledger_app
from overproof.errors import DataError, LedgerError
from overproof.records.exchange import Completion, Exchange, Message, Outcome, Request, Usage
from overproof.records.ledger import Ledger

app = typer.Typer(pretty_exceptions_enable=False)
app.command("import")(import_command)
app.add_typer(ledger_app, name="ledger")


def call(*words: object, code: int = 0, answer: str | None = None) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words], input=answer)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def exchange(text: str, answer: str, sample: int = 0, usd: float | None = 0.5) -> Exchange:
    return Exchange(
        request=Request(model="m", messages=(Message(role="user", content=text),), sample=sample),
        completion=Completion(
            outcome=Outcome.ANSWERED, text=answer, usage=Usage(input_tokens=9, output_tokens=1)
        ),
        teacher="teacher",
        created_at="2026-01-02T03:04:05+00:00",
        cost_usd=usd,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    with Ledger.open(run / "ledger.sqlite", write=True) as ledger:
        ledger.submit(exchange("[bold]first", "\x1b[31mred"))
        ledger.submit(exchange("second", "answer two"))
        ledger.submit(exchange("second", "answer again", sample=1))
        ledger.note("look", {"students": ["a"]})
    return run


def test_show(run: Path) -> None:
    said = call("ledger", "show", run).output
    assert "[bold]" in said  # shown, not obeyed
    assert "\x1b" not in said
    assert "[31mred" in said
    assert "3 exchanges" in said
    rows = json.loads(call("ledger", "show", run / "ledger.sqlite", "--json", "--limit", 2).output)
    assert [row["seq"] for row in rows] == [4, 5]
    assert rows[1]["note"] == "look"
    key = exchange("second", "").request.key
    whole = json.loads(call("ledger", "show", run, "--key", key).output)
    assert whole["completion"]["text"] == "answer two"
    short = call("ledger", "show", run, "--key", key.removeprefix("sha256:")[:14], "--json")
    assert json.loads(short.output) == whole
    assert json.loads(call("ledger", "show", run, "--key", 3).output) == whole
    with pytest.raises(LedgerError, match="no row has the number or the key 'zzz'"):
        call("ledger", "show", run, "--key", "zzz")
    with pytest.raises(LedgerError, match="does not exist"):
        call("ledger", "show", run.parent / "nothing")


def test_verify(run: Path) -> None:
    said = call("ledger", "verify", run).output
    assert "ok: 5 rows" in said
    report = json.loads(call("ledger", "verify", run, "--json").output)
    assert report["ok"]
    assert report["head"] in said
    call("ledger", "verify", run, "--head", report["head"])
    said = call("ledger", "verify", run, "--head", "sha256:" + "0" * 64, code=1).output
    assert "cut off or rewritten" in said
    import sqlite3

    with sqlite3.connect(run / "ledger.sqlite") as connection:
        connection.execute("UPDATE record SET outcome = 'refused' WHERE seq = 3")
    connection.close()
    said = call("ledger", "verify", run, code=1).output
    assert "row 3: column outcome differs from the body" in said
    assert json.loads(call("ledger", "verify", run, "--json", code=1).output)["ok"] is False


def test_export_and_import_again(run: Path, tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.parquet"):
        out = tmp_path / name
        call("ledger", "export", run, "--to", out)
        into = tmp_path / f"again-{out.suffix[1:]}"
        words = ("import", out, "--into", into, "--teacher", "teacher", "--json")
        report = json.loads(call(*words).output)
        assert (report["imported"], report["malformed"]) == (3, [])
        again = json.loads(call(*words).output)
        assert (again["imported"], again["duplicates"]) == (0, 3)
        with Ledger.open(into / "ledger.sqlite") as got, Ledger.open(run / "ledger.sqlite") as had:
            keys = [[e.request.key for e in ledger.exchanges()] for ledger in (got, had)]
        assert keys[0] == keys[1]
    call("ledger", "export", run, code=2)


def test_cost(run: Path) -> None:
    said = call("ledger", "cost", run).output
    assert "1.500000" in said
    assert "total" in said
    found: dict[str, Any] = json.loads(call("ledger", "cost", run, "--json").output)
    assert found["total"]["usd"] == 1.5
    assert found["lines"][0]["input_tokens"] == 27
    with Ledger.open(run / "ledger.sqlite", write=True) as ledger:
        ledger.submit(exchange("free?", "x", usd=None))
    assert "unknown" in call("ledger", "cost", run).output


def test_erase(run: Path) -> None:
    key = exchange("second", "").request.key
    call("ledger", "erase", key, run, code=1, answer="n\n")
    with Ledger.open(run / "ledger.sqlite") as ledger:
        assert len(ledger) == 3
    said = call("ledger", "erase", key, run, "--yes", "--reason", "asked by mail").output
    assert "erased row 3:" in said
    assert "the same input also stands in row 4: `ledger erase 4 --everywhere`" in said
    assert b"answer two" not in (run / "ledger.sqlite").read_bytes()
    assert "1 erased" in call("ledger", "verify", run).output
    assert "asked by mail" in call("ledger", "show", run, "--json").output
    assert "erased" in call("ledger", "show", run).output
    found = json.loads(call("ledger", "erase", 4, run, "--yes", "--json").output)
    assert found == {"erased": 1, "also_in_rows": [], "also_in_files": []}
    with pytest.raises(LedgerError, match="does not exist"):
        call("ledger", "erase", 4, run.parent / "none.sqlite", "--yes")
    assert not (run.parent / "none.sqlite").exists()


def test_import(tmp_path: Path) -> None:
    logs = tmp_path / "labels.csv"
    logs.write_text("q,a\none,pos\ntwo\nthree,neg\n")
    words = ("import", logs, "--into", tmp_path / "run", "--teacher", "gpt", "--input", "q")
    result = call(*words, "--label", "a", "--licence", "ours", "--terms", "allowed")
    assert "2 answers imported of 3 rows, 0 already there, 1 malformed" in result.output
    assert f"{logs}:3: has 1 fields, its header 2" in result.stderr
    with Ledger.open(tmp_path / "run" / "ledger.sqlite") as ledger:
        first = next(ledger.exchanges())
    assert (first.teacher, first.licence, first.terms) == ("gpt", "ours", "allowed")
    with pytest.raises(DataError, match=r"labels\.csv:3"):
        call(*words, "--label", "a", "--strict")
    with pytest.raises(DataError, match="no such file"):
        call("import", tmp_path / "x.csv", "--into", tmp_path / "new", "--teacher", "gpt")
    assert not (tmp_path / "new").exists()
    call("import", logs, "--teacher", "gpt", code=2)


def test_the_command_files_load_nothing_heavy() -> None:
    code = (
        "import sys, overproof.cli.ledger, overproof.cli.import_logs\n"
        "heavy = {'sqlite3', 'pydantic', 'pyarrow', 'aiohttp', 'torch', 'numpy'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
