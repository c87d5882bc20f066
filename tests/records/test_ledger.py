"""Appending, looking up and reading back."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import wait
from pathlib import Path

import pytest

from overproof.errors import LedgerCorruptError, LedgerError, LedgerLockedError
from overproof.records.exchange import (
    Completion,
    Exchange,
    Message,
    Outcome,
    Request,
    TokenLogprob,
    TopLogprob,
    Usage,
)
from overproof.records.ledger import Ledger
from overproof.records.ledger_chain import Kind
from overproof.records.ledger_costs import total_cost
from overproof.records.ledger_file import ledger_path


def exchange(
    text: str = "hello",
    answer: str = "hi",
    outcome: Outcome = Outcome.ANSWERED,
    *,
    teacher: str = "teacher",
    usd: float | None = 0.25,
    source: str = "collected",
) -> Exchange:
    return Exchange(
        request=Request(model="m", messages=(Message(role="user", content=text),)),
        completion=Completion(
            outcome=outcome,
            text=answer,
            usage=Usage(input_tokens=3, output_tokens=2),
            logprobs=(
                TokenLogprob(
                    token="hi",
                    logprob=-0.5,
                    data=(104, 105),
                    top=(TopLogprob(token="hi", logprob=-0.5), TopLogprob(token="é", logprob=-1)),
                ),
            ),
            latency_s=0.5,
        ),
        teacher=teacher,
        created_at="2026-01-02T03:04:05+00:00",
        cost_usd=usd,
        source=source,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "ledger.sqlite"


async def test_an_appended_exchange_is_read_back_whole(path: Path) -> None:
    one, two = exchange("one ☃\n\x00\t\"'"), exchange("two", "answer two")
    with Ledger.open(path, write=True) as ledger:
        assert await ledger.append(one) == 2  # the root is row 1
        assert await ledger.append(two) == 3
        assert ledger.lookup(one.request.key) == one
        assert ledger.lookup(two.request.key) == two
        assert len(ledger) == 2
    assert not path.with_name("ledger.sqlite-wal").exists()
    with Ledger.open(path) as ledger:
        assert list(ledger.exchanges()) == [one, two]
        assert ledger.lookup(one.request.key) == one
        assert ledger.lookup(exchange("three").request.key) is None
        report = ledger.verify()
    assert report.ok
    assert report.rows == 3


def test_only_usable_answers_are_hits_and_the_newest_wins(path: Path) -> None:
    with Ledger.open(path, write=True) as ledger:
        key = exchange().request.key
        for outcome in (Outcome.FAILED, Outcome.MALFORMED):
            ledger.submit(exchange(outcome=outcome)).result()
            assert ledger.lookup(key) is None
        for outcome in (Outcome.REFUSED, Outcome.TRUNCATED, Outcome.FILTERED, Outcome.ANSWERED):
            ledger.submit(exchange(answer=outcome, outcome=outcome)).result()
            ledger.submit(exchange(outcome=Outcome.FAILED)).result()
            found = ledger.lookup(key)
            assert found is not None
            assert found.completion.text == outcome
        assert [e.exchange.completion.outcome for e in ledger.recorded(key) if e.exchange] == [
            *("failed", "malformed", "refused", "failed", "truncated", "failed"),
            *("filtered", "failed", "answered", "failed"),
        ]


def test_lookup_sees_what_is_not_committed_yet(path: Path) -> None:
    with Ledger.open(path, write=True) as ledger:
        hold = threading.Event()
        ledger._writer.call(lambda connection, head: (head, int(hold.wait(10))))
        future = ledger.submit(exchange())
        assert not future.done()
        assert ledger.lookup(exchange().request.key) == exchange()
        hold.set()
        assert future.result() == 2
        assert ledger.lookup(exchange().request.key) == exchange()
        assert not ledger._pending


async def test_a_full_queue_holds_appenders_back_and_loses_nothing(path: Path) -> None:
    with Ledger.open(path, write=True, queue_size=2) as ledger:
        hold = threading.Event()
        ledger._writer.call(lambda connection, head: (head, int(hold.wait(10))))
        tasks = [asyncio.create_task(ledger.append(exchange(f"{n}"))) for n in range(20)]
        await asyncio.sleep(0.02)
        assert len(ledger._writer._jobs) <= 2
        assert not any(task.done() for task in tasks)
        hold.set()
        assert sorted(await asyncio.gather(*tasks)) == list(range(2, 22))
    with Ledger.open(path) as ledger:
        assert ledger.verify().ok


async def test_a_cancelled_append_is_written_all_the_same(path: Path) -> None:
    with Ledger.open(path, write=True) as ledger:
        hold = threading.Event()
        ledger._writer.call(lambda connection, head: (head, int(hold.wait(10))))
        task = asyncio.create_task(ledger.append(exchange()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hold.set()
    with Ledger.open(path) as ledger:
        assert list(ledger.exchanges()) == [exchange()]


def test_close_writes_what_was_submitted(path: Path) -> None:
    ledger = Ledger.open(path, write=True)
    futures = [ledger.submit(exchange(f"{n}")) for n in range(300)]
    ledger.close()
    ledger.close()
    assert [future.result() for future in futures] == list(range(2, 302))
    with pytest.raises(LedgerError, match="is closed"):
        ledger.lookup(exchange().request.key)
    with pytest.raises(LedgerError, match="is closed"):
        ledger.submit(exchange()).result()


def test_many_threads_make_one_chain(path: Path) -> None:
    with Ledger.open(path, write=True, queue_size=4) as ledger:

        def write(name: int) -> None:
            wait([ledger.submit(exchange(f"{name} {n}")) for n in range(25)])

        threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(ledger) == 100
        assert ledger.verify().ok


def test_notes(path: Path) -> None:
    with Ledger.open(path, write=True) as ledger:
        ledger.note("attestation", {"right": "ours", "at": "2026-01-01"})
        ledger.submit(exchange())
        ledger.note("look", {"students": ["a"]})
        with pytest.raises(ValueError, match="note"):
            ledger.note("look", {"note": "other"})
    with Ledger.open(path) as ledger:
        notes = list(ledger.notes())
        assert notes[0] == {"note": "attestation", "right": "ours", "at": "2026-01-01"}
        assert notes[1]["students"] == ["a"]
        assert "at" in notes[1]
        assert list(ledger.notes("look")) == notes[1:]
        assert len(ledger) == 1
        kinds = [entry.kind for entry in ledger.entries()]
        assert kinds == [Kind.ROOT, Kind.NOTE, Kind.EXCHANGE, Kind.NOTE]
        assert [entry.seq for entry in ledger.entries(last=2)] == [3, 4]
        with pytest.raises(LedgerError, match="reading only"):
            ledger.note("look", {})
        with pytest.raises(LedgerError, match="reading only"):
            ledger.submit(exchange())


def test_reading_goes_page_by_page(path: Path) -> None:
    with Ledger.open(path, write=True) as ledger:
        for n in range(600):
            ledger.submit(exchange(f"{n}"))
    with Ledger.open(path) as ledger:
        texts = [e.request.messages[0].content for e in ledger.exchanges()]
    assert texts == [str(n) for n in range(600)]


def test_costs_with_an_unknown_part_are_unknown(path: Path) -> None:
    with Ledger.open(path, write=True) as ledger:
        ledger.submit(exchange("1"))
        ledger.submit(exchange("2"))
        ledger.submit(exchange("3", outcome=Outcome.FAILED, usd=None))
        ledger.submit(exchange("4", teacher="other", usd=None))
        ledger.submit(exchange("5", teacher="other"))
        ledger.submit(exchange("6", source="imported:x.csv", usd=None))
        lines = {line.what: line for line in ledger.costs()}
    known = lines["teacher (m): answered"]
    assert (known.calls, known.input_tokens, known.output_tokens) == (2, 6, 4)
    assert known.usd == pytest.approx(0.5)
    assert known.seconds == pytest.approx(1.0)
    unknown = lines["other (m): answered [price unknown for 1 of 2 calls]"]
    assert unknown.usd is None
    assert "teacher (m): failed [price unknown for 1 of 1 calls]" in lines
    assert "teacher (m): answered, imported [price unknown for 1 of 1 calls]" in lines
    assert total_cost(list(lines.values())).usd is None
    assert total_cost([known, known]).usd == pytest.approx(1.0)


def test_half_a_surrogate_pair_is_kept(path: Path) -> None:
    cut = exchange(answer="cut off in an emoji \ud83d", outcome=Outcome.TRUNCATED)
    with Ledger.open(path, write=True) as ledger:
        ledger.submit(cut).result()
        assert ledger.lookup(cut.request.key) == cut
        assert ledger.verify().ok


def test_what_is_no_json_fails_alone(path: Path) -> None:
    endless = exchange("b").model_copy(update={"cost_usd": float("inf")})
    with Ledger.open(path, write=True) as ledger:
        futures = [ledger.submit(item) for item in (exchange("a"), endless, exchange("c"))]
        assert futures[0].result() == 2
        assert futures[2].result() == 3
        with pytest.raises(LedgerError, match="finite"):
            futures[1].result()
        assert ledger.lookup(endless.request.key) is None
        assert ledger.verify().ok


def test_one_writer_at_a_time_and_readers_meanwhile(path: Path) -> None:
    with Ledger.open(path, write=True) as ledger:
        ledger.submit(exchange()).result()
        with pytest.raises(LedgerLockedError, match=f"process {os.getpid()} is writing"):
            Ledger.open(path, write=True)
        with Ledger.open(path) as reader:
            assert len(reader) == 1
            ledger.submit(exchange("two")).result()
            assert len(reader) == 2
            assert reader.verify().ok
    with Ledger.open(path, write=True) as ledger:
        assert len(ledger) == 2


def test_the_second_writer_waits_where_it_may(path: Path) -> None:
    first = Ledger.open(path, write=True)
    first.submit(exchange())
    with pytest.raises(LedgerLockedError, match=r"is writing to it and did not end within 0\.05 s"):
        Ledger.open(path, write=True, wait_s=0.05)
    ending = threading.Timer(0.1, first.close)
    ending.start()
    with Ledger.open(path, write=True, wait_s=30) as second:
        assert second.submit(exchange("two")).result() == 3
    ending.join()


def test_a_ledger_beside_answers_too(path: Path, tmp_path: Path) -> None:
    with Ledger.open(path, write=True) as ledger:
        ledger.submit(exchange("known", "there"))
    own = tmp_path / "own.sqlite"
    with Ledger.open(own, write=True, beside=path) as ledger:
        known, new = exchange("known", "there"), exchange("new", "here")
        assert ledger.lookup(known.request.key) == known
        assert ledger.lookup(new.request.key) is None
        ledger.submit(new)
        ledger.submit(exchange("known", "asked anew"))
        assert ledger.lookup(known.request.key) == exchange("known", "asked anew")
        assert len(ledger) == 2
    with Ledger.open(own, write=True, beside=tmp_path / "none.sqlite") as ledger:
        assert ledger.lookup(exchange("other").request.key) is None


def test_the_lock_holds_against_another_process(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from overproof.records.ledger import Ledger\n"
        "with Ledger.open(Path(sys.argv[1]), write=True):\n"
        "    print('open', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        with pytest.raises(LedgerLockedError, match=f"process {child.pid} is writing"):
            Ledger.open(path, write=True)
        with Ledger.open(path) as reader:
            assert len(reader) == 0
        child.communicate("")
    assert child.returncode == 0


def test_files_that_are_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="does not exist"):
        Ledger.open(tmp_path / "none.sqlite")
    with pytest.raises(LedgerError, match="is a directory"):
        Ledger.open(tmp_path)
    text = tmp_path / "data.csv"
    text.write_text("text,label\na,b\n")
    for write in (False, True):
        with pytest.raises(LedgerError, match="is not an overproof ledger"):
            Ledger.open(text, write=write)
    assert not (tmp_path / "data.csv.lock").exists()
    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE record (seq)")
    connection.close()
    for write in (False, True):
        with pytest.raises(LedgerError, match="is not an overproof ledger"):
            Ledger.open(foreign, write=write)
    damaged = tmp_path / "damaged.sqlite"
    damaged.write_bytes(b"SQLite format 3\x00" + bytes(200))
    with pytest.raises(LedgerCorruptError, match="SQLite cannot read it"):
        Ledger.open(damaged)
    empty = tmp_path / "empty.sqlite"
    empty.touch()
    with pytest.raises(LedgerError, match="holds no ledger yet"):
        Ledger.open(empty)
    with Ledger.open(empty, write=True) as ledger:
        assert len(ledger) == 0


def test_a_newer_schema_is_refused(path: Path) -> None:
    Ledger.open(path, write=True).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    for write in (False, True):
        with pytest.raises(LedgerError, match="newer overproof"):
            Ledger.open(path, write=write)


def test_a_key_that_is_none(path: Path) -> None:
    with Ledger.open(path, write=True) as ledger:
        ledger.submit(exchange()).result()
        key = exchange().request.key
        assert ledger.keys_from(key[:12]) == [key]
        assert ledger.keys_from(key.removeprefix("sha256:").upper()) == [key]
        assert ledger.keys_from("xyz") == []
        with pytest.raises(LedgerError, match="no key 'nonsense'"):
            ledger.lookup("nonsense")


def test_the_path_of_a_run_is_that_of_its_ledger(tmp_path: Path) -> None:
    assert ledger_path(tmp_path) == tmp_path / "ledger.sqlite"
    assert ledger_path(tmp_path / "new-run") == tmp_path / "new-run" / "ledger.sqlite"
    assert ledger_path(tmp_path / "x.sqlite") == tmp_path / "x.sqlite"
