"""The ledger: every teacher answer, kept once under the hash of its request and never rewritten.

    with Ledger.open(run / "ledger.sqlite", write=True) as ledger:
        known = ledger.lookup(request.key)
        if known is None:
            await ledger.append(Exchange(request=request, completion=await ask(request), ...))

Rows are appended by one writer thread of one process and chained by hash (``ledger_chain``); any
number of processes may read meanwhile. Several writers have a ledger each, and ``merge_ledgers``
joins them.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from overproof.errors import LedgerError
from overproof.records.exchange import Exchange
from overproof.records.ledger_chain import (
    HITS,
    Kind,
    LedgerReport,
    Sealed,
    seal,
    seal_exchange,
)
from overproof.records.ledger_erase import rows_to_erase, scrub, tombstones
from overproof.records.ledger_file import check_file, connect, ledger_path
from overproof.records.ledger_keys import KnownKeys
from overproof.records.ledger_lock import FileLock
from overproof.records.ledger_reader import LedgerReader
from overproof.records.ledger_rows import Entry, key_or_error
from overproof.records.ledger_writer import Writer
from overproof.records.redact import Redactor

__all__ = ["HITS", "Entry", "Ledger", "LedgerReport", "ledger_path"]


class Ledger(LedgerReader):
    """An open ledger; made by ``Ledger.open``, used as a context manager."""

    def __init__(
        self, path: Path, reader: sqlite3.Connection, redactor: Redactor | None = None
    ) -> None:
        super().__init__(path, reader)
        self._writer: Writer | None = None
        self._lock: FileLock | None = None
        self._beside: Ledger | None = None
        self._redactor = redactor or Redactor({})
        self._pending: dict[str, Exchange] = {}
        self._pending_lock = threading.Lock()
        self._known = KnownKeys()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        write: bool = False,
        redactor: Redactor | None = None,
        queue_size: int = 256,
        wait_s: float = 0.0,
        beside: Path | None = None,
    ) -> Ledger:
        """Open a ledger file, making it when writing.

        Args:
            path: the file, such as ``RUN/ledger.sqlite``.
            write: take the one writer's place.
            redactor: applied to everything before it is stored.
            queue_size: exchanges that may be uncommitted at a time: what a killed process loses
                at most, besides what it had not received yet.
            wait_s: how long to wait for another writer to end.
            beside: another ledger, if there is one, whose answers ``lookup`` finds, too.

        Raises:
            LedgerLockedError: another process is writing to it.
            LedgerCorruptError: SQLite cannot read it.
            LedgerError: missing, a directory, another kind of file, of a newer overproof, or in
                a place that cannot be written to.
        """
        path = Path(path)
        if not write:
            return cls(path, connect(path, write=False), redactor)
        check_file(path, write=True)
        lock = FileLock(path, wait_s)
        try:
            connection = connect(path, write=True)
            try:
                ledger = cls(path, connect(path, write=False), redactor)
                if beside is not None and beside.exists():
                    ledger._beside = cls.open(beside)
                ledger._writer = Writer(path, connection, queue_size, ledger._forget)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            lock.release()
            raise
        ledger._lock = lock
        return ledger

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except LedgerError:
            if error is None:
                raise

    def close(self) -> None:
        """Commit what was submitted and close.

        Raises:
            LedgerError: something that was submitted could not be written.
        """
        if self._closed:
            return
        self._closed = True
        with self._reading:
            self._reader.close()  # first: the last connection to close folds the WAL in
        if self._beside is not None:
            self._beside.close()
        if self._writer is not None:
            self._writer.close()
        if self._lock is not None:
            self._lock.release()
        if self._writer is not None and self._writer.failure is not None:
            raise self._writer.failure

    # Writing

    def submit(self, exchange: Exchange) -> Future[int]:
        """Hand an exchange to the writer thread; the result is its seq, once committed.

        Waits while the queue is full, so it is for threads; coroutines use ``append``. The future
        fails with ``LedgerError`` where the exchange cannot be written.
        """
        writer = self._writing()
        try:
            sealed = self._sealed(exchange)
        except LedgerError as error:
            failed: Future[int] = Future()
            failed.set_exception(error)
            return failed
        return writer.submit(sealed, self._remember(exchange))

    async def put(self, exchange: Exchange) -> asyncio.Future[int]:
        """Queue an exchange, once there is room; the future is done when it is committed.

        So an asker can hold its place until the queue has taken the answer, and let go of it
        before the commit. The exchange is written also when the future is cancelled.

        Raises:
            LedgerError: it cannot be written; names the file and what to do.
        """
        writer, sealed = self._writing(), self._sealed(exchange)
        while (committed := writer.offer(sealed, self._remember(exchange))) is None:
            self._forget([exchange])
            await writer.room()
        return committed

    async def append(self, exchange: Exchange) -> int:
        """Write an exchange; returns its seq once it is committed.

        A cancelled ``append`` that was queued is written all the same.

        Raises:
            LedgerError: it cannot be written; names the file and what to do.
        """
        return await (await self.put(exchange))

    def note(self, kind_name: str, body: dict[str, Any]) -> None:
        """Write a fact that is no exchange: an attestation, an import, a look at the test set.

        ``at`` (ISO 8601, UTC) is added where ``body`` has none.

        Raises:
            LedgerError: it cannot be written.
            ValueError: ``body`` has a field ``note`` of its own, or ``salt``.
        """
        if taken := {"note", "salt"} & body.keys():
            raise ValueError(f"a note cannot have fields of the names {sorted(taken)}")
        at = datetime.now(UTC).isoformat(timespec="seconds")
        content = self._redactor.value({"at": at, **body, "note": kind_name})
        try:
            sealed = seal(Kind.NOTE, content)
        except (ValueError, TypeError) as error:
            raise self._unwritable(error) from error
        self._writing().submit(sealed, hurry=True).result()

    def erase(self, which: str | int | Sequence[int], reason: str) -> int:
        """Erase for good the rows of a request (by its key), a row (by its seq), or several.

        A tombstone is appended for each; the text then leaves the file and its WAL. Erasing a row
        by its seq again cleans the file again. Several go in one transaction: all or none.

        Returns:
            How many rows were erased by this call.

        Raises:
            LedgerError: there is no such row, it is of the chain's own, or another program is
                reading and holds on to the old pages.
        """
        writer = self._writing()
        target = key_or_error(self.path, which) if isinstance(which, str) else which
        reason = self._redactor.text(reason)

        def task(connection: sqlite3.Connection, head: Any) -> Any:
            rows = rows_to_erase(self.path, connection, target)
            return tombstones(connection, head, rows, reason), len(rows)

        erased = writer.call(task).result()
        writer.call(lambda connection, head: (head, scrub(self.path, connection))).result()
        return erased

    def flush(self) -> None:
        """Wait until everything submitted so far is committed or has failed."""
        if self._writer is not None:
            self._writer.flush()

    # Reading

    def lookup(self, key: str) -> Exchange | None:
        """The newest usable answer to the request of that key, also one not yet committed.

        Where it has none, the ledger beside it is asked.

        Raises:
            LedgerCorruptError: the record is not what was written.
        """
        if (pending := self._pending.get(key)) is not None:
            return self.redacted(pending)
        found = super().lookup(key) if self._may_hold(key) else None
        if found is None and self._beside is not None:
            return self._beside.lookup(key)
        return found

    def redacted(self, exchange: Exchange) -> Exchange:
        """The exchange as this ledger stores it."""
        return self._redactor.exchange(exchange)

    # Inside

    def _writing(self) -> Writer:
        if self._writer is None:
            raise LedgerError(str(self.path), "is open for reading only", "open it with write=True")
        return self._writer

    def _sealed(self, exchange: Exchange) -> Sealed:
        try:
            if exchange.completion.logprobs is None:  # nor can a secret be spread over tokens
                sealed = seal_exchange(exchange)
                if self._redactor.is_clean(sealed.body):
                    return sealed
            clean = self.redacted(exchange)
            hidden = clean is not exchange and clean.request != exchange.request
            return seal_exchange(clean, exchange.request.key if hidden else None)
        except (ValueError, TypeError) as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: Exception) -> LedgerError:
        return LedgerError(
            str(self.path),
            f"a record cannot be written as JSON: {error}",
            "a log-prob, cost or time in it is not a finite number, or a value is of no JSON type",
        )

    def _may_hold(self, key: str) -> bool:
        """Whether to look into the file: nobody else adds to one that is open for writing."""
        if self._writer is None:
            return True
        if not self._known.is_loaded:
            self.flush()  # what is added meanwhile is known by itself
            query = "SELECT key FROM record WHERE key IS NOT NULL ORDER BY key"
            self._known.load(row[0] for row in self._query(query, ()))
        return self._known.may_hold(key_or_error(self.path, key))

    def _remember(self, exchange: Exchange) -> Exchange:
        """Let ``lookup`` see the exchange until the file has it."""
        key = exchange.request.key
        self._known.add(key_or_error(self.path, key))
        if exchange.completion.outcome in HITS:
            with self._pending_lock:
                self._pending[key] = exchange
        return exchange

    def _forget(self, exchanges: Iterable[Exchange]) -> None:
        with self._pending_lock:
            for exchange in exchanges:
                if self._pending.get(exchange.request.key) is exchange:
                    del self._pending[exchange.request.key]
