"""Joining ledgers: nothing twice, every chain whole, all of a merge or nothing."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from overproof.errors import LedgerCorruptError, LedgerError, LedgerLockedError
from overproof.records.exchange import Completion, Exchange, Message, Outcome, Request
from overproof.records.ledger import Ledger
from overproof.records.ledger_chain import Kind, LedgerReport
from overproof.records.ledger_merge import merge_ledgers


def exchange(text: str, answer: str = "yes", outcome: Outcome = Outcome.ANSWERED) -> Exchange:
    return Exchange(
        request=Request(model="m", messages=(Message(role="user", content=text),)),
        completion=Completion(outcome=outcome, text=answer),
        teacher="teacher",
        created_at="2026-01-02T03:04:05+00:00",
        cost_usd=0.5,
    )


def write(path: Path, *texts: str, answer: str = "yes") -> Path:
    with Ledger.open(path, write=True) as ledger:
        for text in texts:
            ledger.submit(exchange(text, answer))
    return path


def verified(path: Path) -> LedgerReport:
    with Ledger.open(path) as ledger:
        return ledger.verify()


def texts(path: Path) -> list[str]:
    with Ledger.open(path) as ledger:
        return [e.request.messages[0].content for e in ledger.exchanges()]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write(tmp_path / "run" / "ledger.sqlite", "own 1", "own 2")


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    return [
        write(tmp_path / "shards" / f"{n}" / "ledger.sqlite", *(f"{n} {i}" for i in range(3 + n)))
        for n in range(2)
    ]


def test_the_rows_of_all_are_there_and_every_chain_holds(run: Path, shards: list[Path]) -> None:
    heads = [verified(path).head for path in shards]
    before = verified(run)
    report = merge_ledgers(run, shards)
    assert [(s.chains, s.rows) for s in report.sources] == [(1, 4), (1, 5)]
    assert (report.rows, report.exchanges, report.asked_twice, report.erased) == (9, 7, 0, 0)
    found = verified(run)
    assert (found.ok, found.problems) == (True, ())
    assert (found.chains, found.rows, found.head) == (3, 3 + 9 + 1, report.head)
    with Ledger.open(run, write=True) as ledger:
        for head in (before.head, *heads):  # also a head that was noted of a shard
            assert ledger.verify(head).ok
        assert not ledger.verify("sha256:" + "0" * 64).ok
        assert ledger.lookup(exchange("1 3").request.key) == exchange("1 3")
        assert len(ledger) == 9
        assert sum(line.usd or 0 for line in ledger.costs()) == 4.5
        assert ledger.submit(exchange("later")).result() == 14
        joins = [e.content for e in ledger.entries() if e.kind == Kind.JOIN and e.content]
        said = joins[0]["join"]["chains"]
        assert [(c["head"], c["rows"], c["first"]) for c in said] == [
            (heads[0], 4, 4),
            (heads[1], 5, 8),
        ]
    assert verified(run).ok


def test_again_brings_nothing_and_later_only_what_is_new(run: Path, shards: list[Path]) -> None:
    merge_ledgers(run, shards)
    data = run.read_bytes()
    again = merge_ledgers(run, [*shards, shards[0]])
    assert (again.rows, len(again.sources)) == (0, 2)
    assert run.read_bytes() == data
    write(shards[1], "more 1", "more 2")  # the shard was killed and goes on
    write(run, "own 3")
    later = merge_ledgers(run, shards)
    assert [(s.chains, s.rows) for s in later.sources] == [(0, 0), (1, 2)]
    assert sorted(texts(run)) == sorted(
        ["own 1", "own 2", "own 3", *texts(shards[0]), *texts(shards[1])]
    )
    assert verified(run).ok
    with Ledger.open(run) as ledger:
        assert ledger.verify(verified(shards[1]).head).ok


def test_a_new_ledger_is_made_and_one_joined_before_is_known_again(
    tmp_path: Path, run: Path, shards: list[Path]
) -> None:
    merge_ledgers(run, shards[:1])
    write(shards[0], "after")
    whole = tmp_path / "whole" / "ledger.sqlite"
    report = merge_ledgers(whole, [run, *shards])
    assert [(s.chains, s.rows) for s in report.sources] == [(2, 8), (1, 1), (1, 5)]
    assert report.asked_twice == 0
    found = verified(whole)
    assert (found.ok, found.problems, found.chains) == (True, (), 4)
    assert sorted(texts(whole)) == sorted([*texts(run), "after", *texts(shards[1])])
    # And back again: the first ledger's own chain is known there.
    back = merge_ledgers(run, [whole])
    assert back.asked_twice == 0
    assert sorted(texts(run)) == sorted(texts(whole))
    assert verified(run).ok
    assert merge_ledgers(run, [whole, *shards]).rows == 0


def test_answered_by_both_is_counted_and_the_last_to_come_is_used(tmp_path: Path) -> None:
    one = write(tmp_path / "1.sqlite", "a", "b", answer="one")
    two = write(tmp_path / "2.sqlite", "b", "c", answer="two")
    with Ledger.open(two, write=True) as ledger:
        ledger.submit(exchange("a", outcome=Outcome.FAILED))
    report = merge_ledgers(tmp_path / "all.sqlite", [one, two])
    assert report.asked_twice == 1
    with Ledger.open(tmp_path / "all.sqlite") as ledger:
        answers = [ledger.lookup(exchange(text).request.key) for text in "abc"]
        assert [a.completion.text for a in answers if a] == ["one", "two", "two"]
        assert sum(line.usd or 0 for line in ledger.costs()) == 2.5  # all that was spent


def test_two_ways_from_one_beginning_are_refused(tmp_path: Path, run: Path) -> None:
    shard = write(tmp_path / "a.sqlite", "1")
    copy = tmp_path / "b.sqlite"
    shutil.copy(shard, copy)
    write(shard, "2")
    write(copy, "other 2")
    merge_ledgers(run, [shard])
    data = run.read_bytes()
    with pytest.raises(LedgerError, match=r"(?s)b\.sqlite.*went another way.*restored") as caught:
        merge_ledgers(run, [copy])
    assert verified(shard).head in str(caught.value)
    assert verified(copy).head in str(caught.value)
    with pytest.raises(LedgerError, match="went another way"):
        merge_ledgers(tmp_path / "new.sqlite", [shard, copy])
    assert run.read_bytes() == data
    later = tmp_path / "later.sqlite"
    shutil.copy(run, later)
    write(later, "own 3")
    with pytest.raises(LedgerError, match="is a later state of"):
        merge_ledgers(run, [later])
    assert merge_ledgers(later, [run]).rows == 0
    with pytest.raises(LedgerError, match="into itself"):
        merge_ledgers(run, [run])
    with pytest.raises(LedgerError, match="does not exist"):
        merge_ledgers(run, [tmp_path / "none.sqlite"])


def test_a_source_that_is_not_what_was_written_is_refused(run: Path, shards: list[Path]) -> None:
    with sqlite3.connect(shards[1]) as connection:
        connection.execute("UPDATE record SET body = replace(body, 'yes', 'no') WHERE seq = 3")
    connection.close()
    data = run.read_bytes()
    with pytest.raises(LedgerCorruptError, match=r"(?s)1/ledger\.sqlite.*row 3: body is not"):
        merge_ledgers(run, shards)
    assert run.read_bytes() == data


def test_whoever_is_written_to_is_waited_for_or_named(run: Path, shards: list[Path]) -> None:
    with Ledger.open(shards[0], write=True):
        with pytest.raises(LedgerLockedError, match="0/ledger"):
            merge_ledgers(run, shards)
        with pytest.raises(LedgerLockedError, match=r"did not end within 0\.1 s"):
            merge_ledgers(run, shards, wait_s=0.1)
    with Ledger.open(run, write=True), pytest.raises(LedgerLockedError, match="run/ledger"):
        merge_ledgers(run, shards)
    assert merge_ledgers(run, shards).rows == 9


def test_a_full_disk_leaves_it_as_it_was(
    run: Path, shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from overproof.records import ledger_merge

    def small(path: Path, *, write: bool) -> sqlite3.Connection:
        connection = connect(path, write=write)
        if write:
            connection.execute("PRAGMA max_page_count=6")
        return connection

    write(shards[0], *(f"long {n} " * 500 for n in range(20)))
    before = verified(run)
    connect = ledger_merge.connect
    monkeypatch.setattr(ledger_merge, "connect", small)
    with pytest.raises(LedgerError, match=r"(?s)run/ledger.*disk is full"):
        merge_ledgers(run, shards)
    monkeypatch.undo()
    assert verified(run) == before
    assert merge_ledgers(run, shards).rows == 29


@pytest.mark.parametrize("whom", ["shard", "run"])
def test_what_was_erased_in_one_is_erased_in_all(run: Path, shards: list[Path], whom: str) -> None:
    person = "Ada Personal, 12 Lovelace Street"
    write(shards[1], person)
    key = exchange(person).request.key
    merge_ledgers(run, shards)
    with Ledger.open(shards[1] if whom == "shard" else run, write=True) as ledger:
        assert ledger.erase(key, "asked") == 1
        assert ledger.verify().ok
    write(shards[1], "later")
    report = merge_ledgers(run, shards)
    assert report.erased == (1 if whom == "shard" else 0)
    assert not [f for f in run.parent.iterdir() if person.encode() in f.read_bytes()]
    found = verified(run)
    assert (found.ok, found.erased, found.problems) == (True, 1, ())
    with Ledger.open(run) as ledger:
        assert ledger.lookup(key) is None
    whole = run.with_name("whole.sqlite")  # and both tombstones hold wherever they are copied
    merge_ledgers(whole, [shards[1], run])
    assert verified(whole).problems == ()
    assert person.encode() not in whole.read_bytes()


CHILD = """
import sys
from pathlib import Path
from overproof.records.ledger_merge import merge_ledgers
print("ready", flush=True)
merge_ledgers(Path(sys.argv[1]), [Path(p) for p in sys.argv[2:]])
print("done", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGINT])
def test_a_merge_that_is_ended_is_whole_or_was_not(
    run: Path, shards: list[Path], with_signal: signal.Signals
) -> None:
    write(shards[0], *(f"text {n}" for n in range(1500)))
    before, whole = verified(run).rows, 3 + 1504 + 5 + 1
    for seconds in (0.02, 0.06, 0.1, 0.14):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(run), *map(str, shards)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(seconds)
            child.send_signal(with_signal)
            done = "done" in child.stdout.read()
        found = verified(run)
        assert found.ok
        assert found.rows in ({whole} if done else {before, whole})
    merge_ledgers(run, shards)
    assert verified(run).rows == whole
