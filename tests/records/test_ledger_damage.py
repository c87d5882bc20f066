"""Damage is found, a full disk is said, and kill -9 loses nothing that was acknowledged."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from overproof.errors import LedgerCorruptError, LedgerError
from overproof.records.exchange import Completion, Exchange, Message, Outcome, Request, Usage
from overproof.records.ledger import Ledger
from overproof.records.ledger_chain import COLUMNS, LedgerReport

NAMES = ("seq", "kind", "body", "body_hash", "prev_hash", "hash", *COLUMNS)


def exchange(number: int) -> Exchange:
    return Exchange(
        request=Request(model="m", messages=(Message(role="user", content=f"input {number}"),)),
        completion=Completion(
            outcome=Outcome.ANSWERED,
            text=f"answer {number}",
            usage=Usage(input_tokens=7, output_tokens=300),
            latency_s=1.25,
        ),
        teacher="teacher",
        created_at="2026-01-02T03:04:05+00:00",
        cost_usd=0.125,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "ledger.sqlite"
    with Ledger.open(path, write=True) as ledger:
        for number in range(12):
            ledger.submit(exchange(number))
        ledger.note("look", {"at": "now", "students": ["a"]})
        ledger.erase(3, "asked")
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, whole: bytes) -> Path:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(whole)
    return path


def raw(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def verified(path: Path, head: str | None = None) -> LedgerReport:
    with Ledger.open(path) as ledger:
        return ledger.verify(head)


def changed(value: object, chance: random.Random) -> object:
    """The value with one byte changed, of the type that it had."""
    if isinstance(value, str | bytes):
        data = bytearray(value.encode() if isinstance(value, str) else value)
        place = chance.randrange(len(data))
        data[place] ^= 1 << chance.randrange(7)
        if isinstance(value, bytes):
            return bytes(data)
        text = bytes(data).decode("utf-8", "replace")
        return text if text != value else value + "x"
    if isinstance(value, float):
        return value + chance.choice((-0.5, 1e-9, 3.0))
    if isinstance(value, int):
        return value ^ (1 << chance.randrange(12))
    return chance.choice((0, 1.5, "", "x", b""))  # of NULL


@pytest.mark.parametrize("seed", range(40))
def test_a_changed_value_in_any_column_is_found(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    connection = raw(path)
    seqs = [seq for (seq,) in connection.execute("SELECT seq FROM record")]
    seq, name = chance.choice(seqs), NAMES[seed % len(NAMES)]
    select = f"SELECT {name}, typeof({name}) FROM record WHERE seq = ?"
    before = connection.execute(select, (seq,)).fetchone()
    new = changed(before[0], chance)
    if name == "seq" and new in seqs:
        new = 5000
    connection.execute(f"UPDATE record SET {name} = ? WHERE seq = ?", (new, seq))
    connection.close()
    report = verified(path)
    assert not report.ok, (seq, name, before)
    assert any(f"row {n}" in problem for n in (seq, new) for problem in report.problems)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_value_taken_away_is_found(path: Path, name: str) -> None:
    with raw(path) as connection:
        connection.execute(f"UPDATE record SET {name} = NULL WHERE seq = 5")
    connection.close()
    assert verified(path).problems == (f"row 5: column {name} differs from the body",)


def snapshot(path: Path) -> list[object] | None:
    connection = raw(path)
    connection.text_factory = bytes
    try:
        return connection.execute(f"SELECT {', '.join(NAMES)} FROM record NOT INDEXED").fetchall()
    except sqlite3.Error:
        return None
    finally:
        connection.close()


@pytest.mark.parametrize("seed", range(6))
def test_a_changed_byte_of_the_file_is_found_or_touches_no_row(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    whole, rows = path.read_bytes(), snapshot(path)
    copy = path.with_name("copy.sqlite")
    found = 0
    for _ in range(25):
        place = chance.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        for name in ("copy.sqlite-wal", "copy.sqlite-shm"):
            path.with_name(name).unlink(missing_ok=True)
        copy.write_bytes(damaged)
        try:
            ok = verified(copy).ok
        except LedgerError:
            ok = False
        found += not ok
        assert not ok or snapshot(copy) == rows, f"byte {place}"
    assert found


def test_rows_taken_out_or_put_in_are_found(path: Path) -> None:
    clean = verified(path)
    assert clean.ok
    assert clean.erased == 1
    for statement, sign in (
        ("DELETE FROM record WHERE seq = 6", "follows row 5"),
        ("DELETE FROM record WHERE seq = 1", "row 2: follows row 0"),
        ("UPDATE record SET body = NULL WHERE seq = 6", "has no body but index columns"),
        (
            "UPDATE record SET body = NULL, "
            + ", ".join(f"{name} = NULL" for name in COLUMNS)
            + " WHERE seq = 6",
            "no tombstone names it",
        ),
        (
            "INSERT INTO record (seq, kind, body_hash, prev_hash, hash) "
            "SELECT max(seq) + 1, kind, body_hash, prev_hash, hash FROM record",
            "prev_hash is not the hash of the row before",
        ),
        ("DELETE FROM record", "the root is missing"),
    ):
        copy = path.with_name("copy.sqlite")
        shutil.copy(path, copy)
        with raw(copy) as connection:
            connection.execute(statement)
        connection.close()
        report = verified(copy)
        assert not report.ok
        assert any(sign in problem for problem in report.problems), (statement, report.problems)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"ON record (key, seq)", b"ON record (hash,seq)"),  # another column's values
        (b"INTEGER PRIMARY KEY", b"INTEGER UNIQUE KEY "),
        (b"seq INTEGER PRIMARY", b"seq INTEGER PRIMARx"),  # no longer the row's number
        (b"CREATE TABLE record", b"CREATE T\xf9BLE record"),  # no longer text
    ],
)
def test_a_changed_schema_is_found(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    try:
        ok = verified(path).ok
    except LedgerCorruptError:
        ok = False
    assert not ok


def test_a_cut_tail_is_found_by_a_noted_head(path: Path) -> None:
    noted = verified(path)
    assert verified(path, noted.head).ok
    with Ledger.open(path, write=True) as ledger:
        ledger.submit(exchange(100))
    assert verified(path, noted.head).ok  # the ledger has grown since, and holds the noted head
    with raw(path) as connection:
        connection.execute("DELETE FROM record WHERE seq >= ?", (noted.rows,))
        connection.execute("DELETE FROM record WHERE seq = 3")
    connection.close()
    with raw(path) as connection:
        (last,) = connection.execute("SELECT max(seq) FROM record").fetchone()
    connection.close()
    assert last == noted.rows - 1
    assert any("cut off" in problem for problem in verified(path, noted.head).problems)


def test_a_damaged_body_is_never_an_answer(path: Path) -> None:
    with raw(path) as connection:
        connection.execute("UPDATE record SET body = replace(body, 'answer 0', 'answer 9')")
    connection.close()
    with Ledger.open(path) as ledger:
        with pytest.raises(LedgerCorruptError, match="row 2"):
            ledger.lookup(exchange(0).request.key)
        with pytest.raises(LedgerCorruptError, match="row 2"):
            list(ledger.exchanges())


def test_a_full_disk_is_said_and_nothing_committed_is_lost(path: Path) -> None:
    rows = verified(path).rows
    ledger = Ledger.open(path, write=True)
    connection = ledger._writer._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages + 2}")
    futures = [ledger.submit(exchange(n)) for n in range(1000, 1400)]
    failed = [future for future in futures if future.exception() is not None]
    kept = [future.result() for future in futures if future.exception() is None]
    assert failed
    with pytest.raises(LedgerError, match=r"(?s)disk is full.*free some space.*nothing") as caught:
        failed[0].result()
    assert str(path) in str(caught.value)
    late = ledger.submit(exchange(2000))
    assert late.done()
    assert late.exception() is failed[0].exception()
    assert ledger.lookup(exchange(2000).request.key) is None
    with pytest.raises(LedgerError, match="disk is full"):
        ledger.close()
    report = verified(path)
    assert report.ok
    assert report.rows == rows + len(kept)
    with Ledger.open(path, write=True) as again:
        assert again.submit(exchange(2000)).result() == report.rows + 1


async def test_a_ledger_that_may_not_be_written_is_said(path: Path) -> None:
    ledger = Ledger.open(path, write=True)
    ledger._writer._connection.execute("PRAGMA query_only=ON")
    with pytest.raises(LedgerError, match=r"(?s)may not be written.*permissions"):
        await ledger.append(exchange(50))
    with pytest.raises(LedgerError, match="may not be written"):
        ledger.note("look", {})
    with pytest.raises(LedgerError, match="may not be written"):
        ledger.close()


CHILD = """
import itertools, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_ledger_damage import exchange
from overproof.records.ledger import Ledger
with Ledger.open(Path(sys.argv[1]), write=True) as ledger:
    start = len(ledger)
    print("ready", flush=True)
    for number in itertools.count(start):
        futures = [ledger.submit(exchange(number * 3 + part)) for part in range(3)]
        for future in futures:
            print(future.result(), number, flush=True)
"""


def acknowledged(path: Path, seconds: float) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        for line in child.stdout:
            if line.endswith("\n"):
                yield int(line.split()[0])


def test_kill_at_any_moment_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    chance = random.Random()
    last = 0
    for _ in range(3):
        seqs = list(acknowledged(path, chance.uniform(0.01, 0.15)))
        with Ledger.open(path) as ledger:
            report = ledger.verify()
            there = {entry.seq for entry in ledger.entries() if entry.exchange}
        assert report.ok, report.problems
        assert set(seqs) <= there
        assert report.rows >= last
        last = report.rows
    assert last > 1
    with Ledger.open(path, write=True) as ledger:
        ledger.submit(exchange(1)).result()
        assert ledger.verify().ok
