"""An erased row is gone from every byte of the file, and the chain still holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from overproof.errors import LedgerError
from overproof.records.exchange import Completion, Exchange, Message, Outcome, Request
from overproof.records.ledger import Ledger
from overproof.records.ledger_chain import Kind

PERSON = "Ada Personal, 12 Lovelace Street"


def exchange(text: str, answer: str = "yes", outcome: Outcome = Outcome.ANSWERED) -> Exchange:
    return Exchange(
        request=Request(model="m", messages=(Message(role="user", content=text),)),
        completion=Completion(outcome=outcome, text=answer),
        teacher="teacher",
        created_at="2026-01-02T03:04:05+00:00",
    )


def traces(path: Path, needle: bytes) -> list[str]:
    files = path.parent.glob(path.name + "*")
    return [file.name for file in files if needle in file.read_bytes()]


def test_erased_text_is_in_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    secret = exchange(PERSON * 200, PERSON)  # long enough for overflow pages
    digest = bytes.fromhex(secret.request.key.removeprefix("sha256:"))
    with Ledger.open(path, write=True) as ledger:
        for number in range(50):
            ledger.submit(exchange(f"{number}"))
        ledger.submit(exchange(PERSON * 200, outcome=Outcome.FAILED))
        ledger.submit(secret)
        for number in range(50, 100):
            ledger.submit(exchange(f"{number}"))
        ledger.flush()
        before = ledger.verify()
        assert traces(path, PERSON.encode())
        assert traces(path, digest)

        assert ledger.erase(secret.request.key, "asked by the person") == 2

        assert traces(path, PERSON.encode()) == []
        assert traces(path, digest) == []
        assert ledger.lookup(secret.request.key) is None
        assert len(ledger) == 100
        report = ledger.verify(before.head)
        assert report.ok
        assert report.erased == 2
        assert report.rows == before.rows + 2
        stones = [e.content for e in ledger.entries() if e.kind == Kind.TOMBSTONE]
        assert stones[0] == {"tombstone": {"seq": 52, "reason": "asked by the person"}}
        assert any("erased" in line.what and line.usd is None for line in ledger.costs())
        assert ledger.submit(exchange("after")).result() == report.rows + 1
        with pytest.raises(LedgerError, match="or it was erased"):
            ledger.erase(secret.request.key, "again")
        assert ledger.erase(52, "again") == 0  # cleans the file again
    assert traces(path, PERSON.encode()) == []
    with Ledger.open(path) as ledger:
        assert ledger.verify().ok
        assert len(list(ledger.exchanges())) == 101
        assert ledger.entry(52) is not None


def test_a_note_can_be_erased_and_the_chain_itself_cannot(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path, write=True) as ledger:
        ledger.note("attestation", {"by": PERSON})
        assert ledger.erase(2, "asked") == 1
        assert traces(path, PERSON.encode()) == []
        assert list(ledger.notes()) == []
        assert ledger.verify().ok
        for seq, kind in ((1, "root"), (3, "tombstone")):
            with pytest.raises(LedgerError, match=f"is a {kind}"):
                ledger.erase(seq, "no")
        with pytest.raises(LedgerError, match="has no row 99"):
            ledger.erase(99, "no")
        ledger.submit(exchange("the writer still works")).result()
    with Ledger.open(path) as ledger, pytest.raises(LedgerError, match="reading only"):
        ledger.erase(1, "no")


def test_a_reader_that_holds_old_pages_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overproof.records.ledger_file.BUSY_MS", 50)
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path, write=True) as ledger:
        ledger.submit(exchange(PERSON)).result()
        with Ledger.open(path) as reader:
            reader._reader.execute("BEGIN")
            reader._reader.execute("SELECT body FROM record").fetchone()
            with pytest.raises(LedgerError, match="another program is reading"):
                ledger.erase(2, "asked")
            reader._reader.rollback()
        assert ledger.verify().erased == 1
        assert ledger.erase(2, "asked") == 0
        assert traces(path, PERSON.encode()) == []
        assert ledger.verify().ok
