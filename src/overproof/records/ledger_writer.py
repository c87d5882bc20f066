"""The ledger's writer thread: takes sealed rows from a bounded queue and commits them in groups.

A row that comes ``SPACING_S`` after the last commit began, or later, is committed at once. Rows in
quicker succession share commits: the next one begins ``SPACING_S`` after the one before, or as soon
as the queue is full or somebody waits for it. A row is in the first commit that begins after it
came, so it waits ``SPACING_S`` at most, or for the commit under way, and for its own fsync.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from overproof.errors import LedgerError
from overproof.records.ledger_chain import Sealed
from overproof.records.ledger_file import (
    SQLITE_ERRORS,
    Head,
    insert_rows,
    last_row,
    ledger_error,
    row_values,
)

__all__ = ["LONGEST_S", "SPACING_S", "Writer", "gathering_s"]

SPACING_S = 0.018
"""Between the beginnings of two commits: fewer fsyncs and wake-ups, less CPU."""

LONGEST_S = 0.020
"""The longest that rows are gathered for one commit."""

Task = Callable[[sqlite3.Connection, Head], tuple[Head, int]]
Reply = Future[int] | asyncio.Future[int]
Result = int | Exception


class _Job(NamedTuple):
    """A row to append, or a task that needs the connection for itself."""

    reply: Reply
    sealed: Sealed | None
    task: Task | None
    token: Any
    hurry: bool = False


class Writer:
    """Owns the one writing connection.

    After an error of SQLite nothing more is written: what is queued and what is submitted later
    fails with the same error, for a row must not be chained over a lost one.

    Args:
        path: the ledger, for messages.
        connection: open for writing; the thread closes it.
        limit: rows that may be uncommitted at a time, queued or in the commit under way.
        settled: called in the writer's thread with the tokens of a group that was committed or
            has failed, before anybody else hears of it.
        spacing_s: see ``SPACING_S``.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        limit: int,
        settled: Callable[[list[Any]], None] = lambda _: None,
        *,
        spacing_s: float = SPACING_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._connection = connection
        self._limit = limit
        self._settled = settled
        self._spacing_s = spacing_s
        self._clock = clock
        self._head = last_row(path, connection)
        self._jobs: deque[_Job] = deque()
        self._rows = 0  # uncommitted: queued, or in the group that is being committed
        self._busy = False
        self._idle = False  # the thread waits for a first job
        self._hurry = False  # somebody waits for everything: do not gather
        self._closed = False
        self._begun = -LONGEST_S  # when the last commit of rows began
        self._changed = threading.Condition()
        self._room: list[asyncio.Future[None]] = []
        self.failure: LedgerError | None = None
        # A daemon: a program that forgets to close its ledger must still be able to end.
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, sealed: Sealed, token: Any = None, *, hurry: bool = False) -> Future[int]:
        """Queue a row; waits while the queue is full. The result is its seq.

        In a ``hurry`` no others are waited for.
        """
        reply: Future[int] = Future()
        reply.set_running_or_notify_cancel()  # nobody can cancel what was paid for
        with self._changed:
            self._changed.wait_for(lambda: self._rows < self._limit or self._refuses())
            self._enqueue(_Job(reply, sealed, None, token, hurry))
        return reply

    def offer(self, sealed: Sealed, token: Any = None) -> asyncio.Future[int] | None:
        """Queue a row, ``None`` where the queue is full; for a coroutine of a running loop.

        Cancelling the future does not take the row out of the queue.
        """
        reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._rows >= self._limit and not self._refuses():
                return None
            self._enqueue(_Job(reply, sealed, None, token))
        return reply

    def call(self, task: Task) -> Future[int]:
        """Run ``task`` with the connection and the head, after everything queued so far."""
        reply: Future[int] = Future()
        reply.set_running_or_notify_cancel()
        with self._changed:
            self._enqueue(_Job(reply, None, task, None, hurry=True))
        return reply

    async def room(self) -> None:
        """Return when the queue has moved on."""
        with self._changed:
            if self._rows < self._limit or self._refuses():
                return
            freed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._room.append(freed)
        await freed

    def flush(self) -> None:
        """Wait until everything queued so far is committed or has failed."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._jobs and not self._busy)
            self._hurry = self._closed

    def close(self) -> None:
        """Commit what is queued, fold the WAL into the ledger, and end the thread."""
        with self._changed:
            self._closed = self._hurry = True
            self._changed.notify_all()
        self._thread.join()

    def _refuses(self) -> bool:
        return self._closed or self.failure is not None

    def _enqueue(self, job: _Job) -> None:
        """Under the lock. A refused job is answered at once."""
        error: LedgerError | None = self.failure
        if error is None and self._closed:
            error = LedgerError(str(self._path), "is closed", "open it again to write to it")
        if error is not None:
            if job.token is not None:
                self._settled([job.token])
            job.reply.set_exception(error)
            return
        self._jobs.append(job)
        self._rows += job.task is None
        # A thread that gathers is left alone: waking it for every row costs more than the row.
        if self._idle or job.hurry or self._rows >= self._limit:
            self._changed.notify_all()

    def _run(self) -> None:
        while group := self._next_group():
            results = self._write(group)
            with self._changed:
                self._busy = False
                self._rows -= sum(job.task is None for job in group)
                if self.failure is not None:
                    group += self._jobs
                    results += [self.failure] * len(self._jobs)
                    self._jobs.clear()
                    self._rows = 0
                room, self._room = self._room, []
                self._changed.notify_all()
            self._settled([job.token for job in group if job.token is not None])
            _answer([job.reply for job in group], results, room)
        with contextlib.suppress(sqlite3.Error):  # a WAL left behind is whole, too
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _next_group(self) -> list[_Job]:
        """Everything queued up to the next task, which is a group of its own."""
        with self._changed:
            self._idle = True
            self._changed.wait_for(lambda: bool(self._jobs) or self._closed)
            self._idle = False
            self._gather()
            group: list[_Job] = []
            while self._jobs and not (group and self._jobs[0].task):
                group.append(self._jobs.popleft())
                if group[0].task:
                    break
            self._busy = bool(group)
            return group

    def _gather(self) -> None:
        """Let rows come in until the next commit is due; under the lock."""

        def is_due() -> bool:
            full = self._rows >= self._limit
            return full or self._hurry or any(job.hurry for job in self._jobs)

        seconds = gathering_s(self._clock() - self._begun, self._spacing_s)
        if seconds > 0:
            self._changed.wait_for(is_due, timeout=seconds)

    def _write(self, group: list[_Job]) -> list[Result]:
        try:
            if (task := group[0].task) is not None:
                self._head, result = task(self._connection, self._head)
                return [result]
            return self._append(group)
        except LedgerError as error:
            return [error] * len(group)
        except SQLITE_ERRORS as error:
            with contextlib.suppress(sqlite3.Error):
                self._connection.rollback()
            self.failure = ledger_error(self._path, error)
            self.failure.__cause__ = error
            return [self.failure] * len(group)
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            self.failure = LedgerError(str(self._path), f"the writer failed: {error!r}")
            self.failure.__cause__ = error
            return [self.failure] * len(group)

    def _append(self, group: list[_Job]) -> list[Result]:
        self._begun = self._clock()
        rows, seqs = [], []
        head = self._head
        for job in group:
            if job.sealed is not None:
                values, head = row_values(job.sealed, head)
                rows.append(values)
                seqs.append(head.seq)
        insert_rows(self._connection, rows)
        self._head = head
        return list(seqs)


def gathering_s(since_s: float, spacing_s: float = SPACING_S) -> float:
    """How long rows of a crowd are gathered for the next commit.

    Args:
        since_s: seconds since the last commit began.
        spacing_s: see ``SPACING_S``.
    """
    return min(max(spacing_s - since_s, 0.0), LONGEST_S)


def _answer(replies: list[Reply], results: list[Result], room: list[asyncio.Future[None]]) -> None:
    """Tell everybody; each event loop is woken once."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Result | None]]] = {}
    for reply, result in zip(replies, results, strict=True):
        if isinstance(reply, asyncio.Future):
            loops.setdefault(reply.get_loop(), []).append((reply, result))
        elif isinstance(result, int):
            reply.set_result(result)
        else:
            reply.set_exception(result)
    for freed in room:
        loops.setdefault(freed.get_loop(), []).append((freed, None))
    for loop, waiting in loops.items():
        with contextlib.suppress(RuntimeError):  # a closed loop: nobody waits there any more
            loop.call_soon_threadsafe(_settle, waiting)


def _settle(waiting: list[tuple[asyncio.Future[Any], Result | None]]) -> None:
    for future, result in waiting:
        if future.done():  # its coroutine was cancelled; the row is in the ledger all the same
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
