"""Rows are committed in groups, soon, and nobody is woken more often than needed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from overproof.records.exchange import Completion, Exchange, Message, Outcome, Request
from overproof.records.ledger import Ledger
from overproof.records.ledger_writer import LONGEST_S, SPACING_S, Writer, gathering_s


def exchange(text: str) -> Exchange:
    return Exchange(
        request=Request(model="m", messages=(Message(role="user", content=text),)),
        completion=Completion(outcome=Outcome.ANSWERED, text="yes"),
        teacher="teacher",
        created_at="2026-01-02T03:04:05+00:00",
    )


class Watched:
    """A ledger with the sizes of its commits, and how long rows were gathered for them."""

    def __init__(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ledger = ledger
        self.now = 0.0
        self.groups: list[int] = []
        self.waits: list[float | None] = []
        assert ledger._writer is not None
        self.writer: Writer = ledger._writer
        append, wait_for = self.writer._append, self.writer._changed.wait_for

        def appended(group):  # type: ignore[no-untyped-def]
            self.groups.append(len(group))
            return append(group)

        def waited(predicate, timeout=None):  # type: ignore[no-untyped-def]
            if timeout is not None:
                self.waits.append(timeout)
                timeout = 0.001  # the clock of the test stands still
            return wait_for(predicate, timeout)

        monkeypatch.setattr(self.writer, "_append", appended)
        monkeypatch.setattr(self.writer, "_clock", lambda: self.now)
        monkeypatch.setattr(self.writer._changed, "wait_for", waited)

    def hold(self) -> threading.Event:
        """Keep the writer busy until the event is set."""
        go = threading.Event()
        self.writer.call(lambda connection, head: (head, int(go.wait(10))))
        return go


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    with Ledger.open(tmp_path / "ledger.sqlite", write=True) as ledger:
        yield Watched(ledger, monkeypatch)


def test_rows_are_gathered_for_20_ms_at_most() -> None:
    assert LONGEST_S <= 0.020
    assert SPACING_S <= LONGEST_S
    for since in (-1.0, 0.0, 0.001, SPACING_S, 1.0):
        for spacing in (0.0, SPACING_S, 0.02, 60.0):
            assert 0.0 <= gathering_s(since, spacing) <= LONGEST_S
    assert gathering_s(0.001) == pytest.approx(SPACING_S - 0.001)
    assert gathering_s(SPACING_S) == 0.0


def test_a_lone_row_is_committed_at_once(watched: Watched) -> None:
    for number in range(5):
        watched.now += 1.5 * SPACING_S
        watched.ledger.submit(exchange(f"{number}")).result()
    assert watched.groups == [1] * 5
    assert watched.waits == []


def test_rows_in_quick_succession_share_commits(watched: Watched) -> None:
    watched.now = 1.0
    go = watched.hold()
    futures = [watched.ledger.submit(exchange(f"{number}")) for number in range(40)]
    go.set()
    assert [future.result() for future in futures] == list(range(2, 42))
    assert watched.groups == [40]
    assert watched.waits == []
    watched.now += SPACING_S / 3
    watched.ledger.submit(exchange("soon")).result()
    assert watched.waits == [pytest.approx(SPACING_S * 2 / 3)]
    watched.now += SPACING_S / 3
    watched.ledger.note("look", {})  # somebody stands and waits for it
    assert watched.groups == [40, 1, 1]
    watched.now += SPACING_S / 3
    watched.ledger.submit(exchange("later"))
    watched.ledger.flush()
    assert watched.groups == [40, 1, 1, 1]


def test_a_full_queue_is_not_gathered_for(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite", write=True, queue_size=1) as ledger:
        assert ledger._writer is not None
        ledger._writer._spacing_s = 3600.0
        ledger._writer._clock = lambda: 0.0
        futures = [ledger.submit(exchange(f"{number}")) for number in range(3)]
        assert [future.result(timeout=LONGEST_S * 500) for future in futures] == [2, 3, 4]


async def test_an_event_loop_is_woken_once_a_group(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    wake, woken = loop.call_soon_threadsafe, []

    def counted(callback, *args, **kwargs):  # type: ignore[no-untyped-def]
        woken.append(callback)
        return wake(callback, *args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    go = watched.hold()
    committed = [await watched.ledger.put(exchange(f"{number}")) for number in range(30)]
    assert not any(future.done() for future in committed)
    assert watched.ledger.lookup(exchange("7").request.key) == exchange("7")
    go.set()
    assert await asyncio.gather(*committed) == list(range(2, 32))
    assert len(woken) == 1


async def test_no_more_than_the_cap_is_ever_uncommitted(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite", write=True, queue_size=4) as ledger:
        writer = ledger._writer
        assert writer is not None
        seen: list[int] = []
        append = writer._append
        writer._append = lambda group: (  # type: ignore[method-assign]
            seen.append(writer._rows),
            append(group),
        )[1]
        queued = 0

        async def put(number: int) -> int:
            nonlocal queued
            committed = await ledger.put(exchange(f"{number}"))
            queued += 1
            seen.append(writer._rows)
            return await committed

        await asyncio.gather(*(put(number) for number in range(60)))
        assert queued == 60
        assert max(seen) == 4
        assert writer._rows == 0
        assert ledger.verify().rows == 61


async def test_putting_and_going_away_writes_and_leaks_nothing(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite", write=True, queue_size=2) as ledger:
        go = threading.Event()
        assert ledger._writer is not None
        ledger._writer.call(lambda connection, head: (head, int(go.wait(10))))
        tasks = [asyncio.create_task(ledger.append(exchange(f"{n}"))) for n in range(3)]
        await asyncio.sleep(0.01)
        for task in tasks:  # two were queued, the third waited for room
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(ledger._pending) == 2
        go.set()
        ledger.flush()
        assert [e.request.messages[0].content for e in ledger.exchanges()] == ["0", "1"]
        assert not ledger._pending
        assert ledger.lookup(exchange("2").request.key) is None
