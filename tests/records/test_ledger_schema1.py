"""What an earlier release wrote: its keys, its file, its hashes."""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
from pathlib import Path

import pytest

from overproof.records.exchange import (
    Completion,
    Exchange,
    Message,
    Outcome,
    Parameters,
    Request,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from overproof.records.ledger import Ledger
from overproof.records.ledger_merge import merge_ledgers

# The schema of the releases before chains could be joined, word for word.
SCHEMA_1 = """
CREATE TABLE record (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    body TEXT,
    body_hash BLOB NOT NULL,
    prev_hash BLOB NOT NULL,
    hash BLOB NOT NULL,
    key BLOB,
    outcome TEXT,
    teacher TEXT,
    model TEXT,
    source TEXT,
    cost_usd REAL,
    input_tokens INTEGER,
    output_tokens INTEGER,
    latency_s REAL
);
CREATE INDEX record_key ON record (key, seq) WHERE key IS NOT NULL;
PRAGMA application_id=1331056710;
PRAGMA user_version=1;
"""
# The fields of their records; others came later.
MESSAGE = {"role", "content"}
PARAMETERS = {"max_tokens", "temperature", "top_p", "seed", "top_logprobs", "stop", "extra"}
USAGE = {"input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"}
COMPLETION = {
    *("outcome", "text", "finish_reason", "logprobs", "usage", "model", "system_fingerprint"),
    *("latency_s", "status", "error", "attempts"),
}
EXCHANGE = {"teacher", "created_at", "cost_usd", "source", "licence", "terms"}


def exchange(text: str, outcome: Outcome = Outcome.ANSWERED) -> Exchange:
    return Exchange(
        request=Request(
            model="m",
            messages=(Message(role="user", content=text),),
            parameters=Parameters(max_tokens=1, top_logprobs=2, extra={"a": [1, None]}),
        ),
        completion=Completion(
            outcome=outcome,
            text="é",
            usage=Usage(input_tokens=3, output_tokens=0),
            logprobs=(
                TokenLogprob(token="é", logprob=-0.5, data=(195, 169)),
                TokenLogprob(token="", logprob=0, top=(TopLogprob(token="b", logprob=-2),)),
            ),
        ),
        teacher="teacher",
        created_at="2026-01-02T03:04:05+00:00",
        cost_usd=0.25,
    )


def as_written_then(exchange: Exchange) -> dict[str, object]:
    whole = exchange.model_dump(mode="json")
    request, completion = whole["request"], whole["completion"]
    completion = {k: v for k, v in completion.items() if k in COMPLETION}
    completion["usage"] = {k: v for k, v in completion["usage"].items() if k in USAGE}
    request["messages"] = [
        {k: v for k, v in message.items() if k in MESSAGE} for message in request["messages"]
    ]
    request["parameters"] = {k: v for k, v in request["parameters"].items() if k in PARAMETERS}
    rest = {k: v for k, v in whole.items() if k in EXCHANGE}
    return {"request": request, "completion": completion, **rest}


def old_ledger(path: Path, exchanges: list[Exchange]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.executescript(SCHEMA_1)
    bodies: list[tuple[str, dict[str, object], list[object]]] = [
        ("root", {"root": {"format": "overproof-ledger", "schema": 1}}, [None] * 9)
    ]
    for each in exchanges:
        key = bytes.fromhex(each.request.key.removeprefix("sha256:"))
        columns = [key, each.completion.outcome.value, each.teacher, "m", each.source, 0.25, 3, 0]
        bodies.append(("exchange", {"exchange": as_written_then(each)}, [*columns, 0.0]))
    previous = bytes(32)
    for seq, (kind, content, columns) in enumerate(bodies, start=1):
        body = json.dumps(
            {**content, "salt": secrets.token_hex(16)},
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
        )
        body_hash = hashlib.sha256(body.encode()).digest()
        framed = seq.to_bytes(8, "big") + bytes([len(kind)]) + kind.encode() + body_hash
        own = hashlib.sha256(b"overproof-ledger-1\x00" + previous + framed).digest()
        row = (seq, kind, body, body_hash, previous, own, *columns)
        connection.execute(f"INSERT INTO record VALUES ({', '.join('?' * 15)})", row)
        previous = own
    connection.commit()
    connection.close()
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return old_ledger(tmp_path / "run" / "ledger.sqlite", [exchange("a"), exchange("b")])


def test_keys_are_what_they_were() -> None:
    request = Request(
        model="m",
        messages=(
            Message(role="system", content="Sé brief"),
            Message(role="user", content="hi"),
        ),
        parameters=Parameters(
            max_tokens=3,
            temperature=0.5,
            seed=1,
            top_logprobs=5,
            stop=("x",),
            extra={"a": {"b": 1}},
        ),
        sample=2,
    )
    expected = "sha256:d83152ed8c522d03b22c3b6012f7b9477aff94ac1abaa3b136176b29217aa1c8"
    assert request.key == expected
    expected = "sha256:2426ca1d1a14cf92a5c650f0960f0f90921c9f8cf4a755ac01602ed2204c9768"
    assert Request(model="m", messages=()).key == expected


def test_an_old_ledger_is_read_as_it_lies(path: Path) -> None:
    data = path.read_bytes()
    with Ledger.open(path) as ledger:
        assert list(ledger.exchanges()) == [exchange("a"), exchange("b")]
        assert ledger.lookup(exchange("b").request.key) == exchange("b")
        assert ledger.costs()[0].calls == 2
        report = ledger.verify()
    assert (report.ok, report.problems, report.rows, report.chains) == (True, (), 3, 1)
    assert path.read_bytes() == data


def test_an_old_ledger_is_appended_to_and_stays_whole(path: Path) -> None:
    with Ledger.open(path) as ledger:
        head = ledger.verify().head
    with Ledger.open(path, write=True) as ledger:
        assert ledger.submit(exchange("c")).result() == 4
        assert ledger.erase(exchange("a").request.key, "asked") == 1
        assert ledger.lookup(exchange("c").request.key) == exchange("c")
    with Ledger.open(path) as ledger:
        report = ledger.verify(head)
        assert (report.ok, report.rows, report.erased) == (True, 5, 1)
        assert list(ledger.exchanges()) == [exchange("b"), exchange("c")]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    rows = connection.execute("SELECT chain, link FROM record").fetchall()
    assert rows == [(0, None)] * 3 + [(0, 4), (0, 5)]
    connection.execute("UPDATE record SET link = 7 WHERE seq = 2")
    connection.commit()
    connection.close()
    with Ledger.open(path) as ledger:
        assert "row 2: is number 7 of its chain and follows number 1" in ledger.verify().problems


def test_bringing_it_up_to_date_is_all_or_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from overproof.records import ledger_file

    statements = (*ledger_file.MIGRATE, "SELECT no_such_function()")
    monkeypatch.setattr(ledger_file, "MIGRATE", statements)
    with pytest.raises(Exception, match="no_such_function"):
        Ledger.open(path, write=True)
    monkeypatch.undo()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert len(connection.execute("PRAGMA table_info(record)").fetchall()) == 15
    connection.close()
    with Ledger.open(path, write=True) as ledger:
        assert ledger.verify().ok


def test_old_ledgers_are_joined(path: Path, tmp_path: Path) -> None:
    other = old_ledger(tmp_path / "other.sqlite", [exchange("b"), exchange("c")])
    data = other.read_bytes()
    assert merge_ledgers(path, [other]).asked_twice == 1
    assert other.read_bytes() == data
    with Ledger.open(other, write=True) as ledger:
        ledger.submit(exchange("d"))
    report = merge_ledgers(path, [other])
    assert report.rows == 1
    with Ledger.open(path) as ledger:
        assert ledger.verify().problems == ()
        texts = [e.request.messages[0].content for e in ledger.exchanges()]
    assert texts == ["a", "b", "b", "c", "d"]
