"""The ledger's writer thread: takes rows from a bounded queue and commits them in groups.

A group is whatever was queued while the last one was being committed, so a lone row is committed
at once and a crowd shares its fsync.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from overproof.errors import LedgerError
from overproof.records.ledger_chain import Sealed
from overproof.records.ledger_file import INSERT, SQLITE_ERRORS, ledger_error, row_values

__all__ = ["Head", "Writer"]


class Head(NamedTuple):
    """The last row of the chain."""

    seq: int
    hash: bytes


Draft = Callable[[], Sealed]
Task = Callable[[sqlite3.Connection, Head], tuple[Head, int]]


class _Job(NamedTuple):
    """A row to seal and append, or a task that needs the connection for itself."""

    future: Future[int]
    draft: Draft | None
    task: Task | None


class Writer:
    """Owns the one writing connection.

    After an error of SQLite nothing more is written: what is queued and what is submitted later
    fails with the same error, for a row must not be chained over a lost one.

    Args:
        path: the ledger, for messages.
        connection: open for writing; the thread closes it.
        limit: rows that may wait.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, limit: int) -> None:
        self._path = path
        self._connection = connection
        self._limit = limit
        self._head = _read_head(path, connection)
        self._jobs: deque[_Job] = deque()
        self._busy = False
        self._closed = False
        self._changed = threading.Condition()
        self.failure: LedgerError | None = None
        # A daemon: a program that forgets to close its ledger must still be able to end.
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, draft: Draft) -> Future[int]:
        """Queue a row; waits while the queue is full. The result is its seq."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._jobs) < self._limit or self._refuses())
            return self._enqueue(draft, None)

    def offer(self, draft: Draft) -> Future[int] | None:
        """Queue a row, ``None`` where the queue is full."""
        with self._changed:
            if len(self._jobs) >= self._limit and not self._refuses():
                return None
            return self._enqueue(draft, None)

    def call(self, task: Task) -> Future[int]:
        """Run ``task`` with the connection and the head, after everything queued so far."""
        with self._changed:
            return self._enqueue(None, task)

    async def room(self) -> None:
        """Return when the queue has moved on."""
        with self._changed:
            oldest = self._jobs[0].future if self._jobs else None
        if oldest is not None:
            with contextlib.suppress(LedgerError):  # its own caller hears of it
                await asyncio.wrap_future(oldest)

    def flush(self) -> None:
        """Wait until everything queued so far is committed or has failed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._jobs and not self._busy)

    def close(self) -> None:
        """Commit what is queued, fold the WAL into the ledger, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _refuses(self) -> bool:
        return self._closed or self.failure is not None

    def _enqueue(self, draft: Draft | None, task: Task | None) -> Future[int]:
        future: Future[int] = Future()
        # Running from the start, so that nobody can cancel it: an answer that was paid for is
        # written even when the coroutine that waits for the commit is cancelled.
        future.set_running_or_notify_cancel()
        if self.failure is not None:
            future.set_exception(self.failure)
        elif self._closed:
            future.set_exception(
                LedgerError(str(self._path), "is closed", "open it again to write to it")
            )
        else:
            self._jobs.append(_Job(future, draft, task))
            self._changed.notify_all()
        return future

    def _run(self) -> None:
        while group := self._next_group():
            outcomes = self._write(group)
            with self._changed:
                self._busy = False
                lost = self._fail_queued() if self.failure else []
                self._changed.notify_all()
            for future, result in [*outcomes, *lost]:
                if isinstance(result, int):
                    future.set_result(result)
                else:
                    future.set_exception(result)
        with contextlib.suppress(sqlite3.Error):  # a WAL left behind is whole, too
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _next_group(self) -> list[_Job]:
        """Everything queued up to the next task, which is a group of its own."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._jobs) or self._closed)
            group: list[_Job] = []
            while self._jobs and not (group and self._jobs[0].task):
                group.append(self._jobs.popleft())
                if group[0].task:
                    break
            self._busy = bool(group)
            self._changed.notify_all()
            return group

    def _fail_queued(self) -> list[tuple[Future[int], int | Exception]]:
        failure = self.failure
        lost = [(job.future, failure) for job in self._jobs]
        self._jobs.clear()
        return [(future, error) for future, error in lost if error is not None]

    def _write(self, group: list[_Job]) -> list[tuple[Future[int], int | Exception]]:
        try:
            if (task := group[0].task) is not None:
                self._head, result = task(self._connection, self._head)
                return [(group[0].future, result)]
            return self._append(group)
        except LedgerError as error:
            return [(job.future, error) for job in group]
        except SQLITE_ERRORS as error:
            with contextlib.suppress(sqlite3.Error):
                self._connection.rollback()
            self.failure = ledger_error(self._path, error)
            self.failure.__cause__ = error
            return [(job.future, self.failure) for job in group]
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            self.failure = LedgerError(str(self._path), f"the writer failed: {error!r}")
            self.failure.__cause__ = error
            return [(job.future, self.failure) for job in group]

    def _append(self, group: list[_Job]) -> list[tuple[Future[int], int | Exception]]:
        outcomes: list[tuple[Future[int], int | Exception]] = []
        rows = []
        seq, previous = self._head
        for job in group:
            if job.draft is None:
                continue
            try:
                sealed = job.draft()
            except (ValueError, TypeError) as error:
                outcomes.append((job.future, self._unwritable(error)))
                continue
            seq += 1
            values = row_values(sealed, seq, previous)
            previous = values[5]
            rows.append(values)
            outcomes.append((job.future, seq))
        if rows:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(INSERT, rows)
            self._connection.execute("COMMIT")
            self._head = Head(seq, previous)
        return outcomes

    def _unwritable(self, error: Exception) -> LedgerError:
        wrapped = LedgerError(
            str(self._path),
            f"a record cannot be written as JSON: {error}",
            "a log-prob, cost or time in it is not a finite number, or a value is of no JSON type",
        )
        wrapped.__cause__ = error
        return wrapped


def _read_head(path: Path, connection: sqlite3.Connection) -> Head:
    try:
        row = connection.execute(
            "SELECT seq, hash FROM record ORDER BY seq DESC LIMIT 1"
        ).fetchone()
    except SQLITE_ERRORS as error:
        raise ledger_error(path, error) from error
    if row is None or not isinstance(row[1], bytes):
        raise ledger_error(path, sqlite3.DatabaseError("its last row is damaged or missing"))
    return Head(int(row[0]), row[1])
