"""The ledger: every teacher answer, kept once under the hash of its request and never rewritten.

    with Ledger.open(run / "ledger.sqlite", write=True) as ledger:
        known = ledger.lookup(request.key)
        if known is None:
            await ledger.append(Exchange(request=request, completion=await ask(request), ...))

Rows are appended by one writer thread of one process and chained by hash (``ledger_chain``); any
number of processes may read meanwhile.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from overproof.errors import LedgerError
from overproof.records.certificate import CostLine
from overproof.records.exchange import Exchange, Outcome
from overproof.records.ledger_chain import (
    Kind,
    LedgerReport,
    Sealed,
    seal,
    verify_chain,
)
from overproof.records.ledger_costs import cost_lines
from overproof.records.ledger_erase import rows_to_erase, scrub, tombstones
from overproof.records.ledger_file import (
    SQLITE_ERRORS,
    FileLock,
    check_file,
    connect,
    ledger_error,
    ledger_path,
)
from overproof.records.ledger_rows import (
    ROW_COLUMNS,
    Entry,
    entry_of,
    key_or_error,
    key_range,
)
from overproof.records.ledger_writer import Writer
from overproof.records.redact import Redactor

__all__ = ["HITS", "Entry", "Ledger", "LedgerReport", "ledger_path"]

HITS = (Outcome.ANSWERED, Outcome.REFUSED, Outcome.TRUNCATED, Outcome.FILTERED)
PAGE = 256  # rows read at a time; no read transaction stays open between two pages


class Ledger:
    """An open ledger; made by ``Ledger.open``, used as a context manager."""

    def __init__(
        self,
        path: Path,
        reader: sqlite3.Connection,
        writer: Writer | None,
        lock: FileLock | None,
        redactor: Redactor | None,
    ) -> None:
        self.path = path
        self._reader = reader
        self._reading = threading.Lock()
        self._writer = writer
        self._lock = lock
        self._redactor = redactor or Redactor({})
        self._pending: dict[str, Exchange] = {}
        self._pending_lock = threading.Lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        write: bool = False,
        redactor: Redactor | None = None,
        queue_size: int = 256,
    ) -> Ledger:
        """Open a ledger file, making it when writing.

        Args:
            path: the file, such as ``RUN/ledger.sqlite``.
            write: take the one writer's place.
            redactor: applied to everything before it is stored.
            queue_size: exchanges that may wait for the writer thread.

        Raises:
            LedgerLockedError: another process is writing to it.
            LedgerCorruptError: SQLite cannot read it.
            LedgerError: missing, a directory, another kind of file, of a newer overproof, or in
                a place that cannot be written to.
        """
        path = Path(path)
        if not write:
            return cls(path, connect(path, write=False), None, None, redactor)
        check_file(path, write=True)
        lock = FileLock(path)
        try:
            connection = connect(path, write=True)
            try:
                reader = connect(path, write=False)
                writer = Writer(path, connection, queue_size)
            except BaseException:
                connection.close()
                raise
        except BaseException:
            lock.release()
            raise
        return cls(path, reader, writer, lock, redactor)

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
        future = self._writing().submit(self._draft(exchange))
        self._remember(exchange, future)
        return future

    async def append(self, exchange: Exchange) -> int:
        """Write an exchange; returns its seq once it is committed.

        A cancelled ``append`` that was queued is written all the same.

        Raises:
            LedgerError: it cannot be written; names the file and what to do.
        """
        writer, draft = self._writing(), self._draft(exchange)
        while (future := writer.offer(draft)) is None:
            await writer.room()
        self._remember(exchange, future)
        return await asyncio.wrap_future(future)

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
        self._writing().submit(lambda: seal(Kind.NOTE, content)).result()

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

        Usable is what was answered, refused, truncated or filtered; what failed or was malformed
        is recorded but is asked again.

        Raises:
            LedgerCorruptError: the record is not what was written.
        """
        with self._pending_lock:
            pending = self._pending.get(key)
        if pending is not None:
            return self.redacted(pending)
        rows = self._rows(
            f"key = ? AND outcome IN ({','.join('?' * len(HITS))}) ORDER BY seq DESC LIMIT 1",
            (key_or_error(self.path, key), *HITS),
        )
        return self._entry(rows[0]).exchange if rows else None

    def recorded(self, key: str) -> list[Entry]:
        """Every committed exchange of that key, whatever its outcome, oldest first."""
        rows = self._rows("key = ? ORDER BY seq", (key_or_error(self.path, key),))
        return [self._entry(row) for row in rows]

    def keys_from(self, prefix: str) -> list[str]:
        """Keys that begin with ``prefix`` (hex digits, with or without ``sha256:``), at most 10."""
        ends = key_range(prefix)
        if ends is None:
            return []
        found = self._query(
            "SELECT DISTINCT key FROM record WHERE key BETWEEN ? AND ? ORDER BY key LIMIT 10",
            ends,
        )
        return ["sha256:" + key.hex() for (key,) in found]

    def entry(self, seq: int) -> Entry | None:
        """The row of that seq, ``None`` where there is none."""
        rows = self._rows("seq = ?", (seq,))
        return self._entry(rows[0]) if rows else None

    def entries(self, *, last: int | None = None) -> Iterator[Entry]:
        """Rows in order of seq; only the ``last`` ones when given."""
        after = 0
        if last is not None:
            found = self._query("SELECT max(seq) FROM record", ())
            after = max(0, int(found[0][0] or 0) - last)
        while rows := self._rows("seq > ? ORDER BY seq LIMIT ?", (after, PAGE)):
            for row in rows:
                yield self._entry(row)
            after = rows[-1][0]

    def exchanges(self) -> Iterator[Exchange]:
        """Exchanges in the order in which they were written, without erased ones."""
        self.flush()
        for entry in self.entries():
            if entry.exchange is not None:
                yield entry.exchange

    def notes(self, name: str | None = None) -> Iterator[dict[str, Any]]:
        """Bodies of the notes (of that name), each with its name under ``note``."""
        self.flush()
        for entry in self.entries():
            content = entry.content if entry.kind == Kind.NOTE else None
            if content is not None and name in {None, content["note"]}:
                yield content

    def __len__(self) -> int:
        """Number of exchanges, without erased ones."""
        self.flush()
        query = "SELECT count(*) FROM record WHERE kind = ? AND body IS NOT NULL"
        return int(self._query(query, (Kind.EXCHANGE,))[0][0])

    def costs(self) -> list[CostLine]:
        """Calls, tokens, teacher seconds and money by teacher, model and outcome."""
        self.flush()
        with self._reading:
            try:
                return cost_lines(self._open_reader())
            except SQLITE_ERRORS as error:
                raise ledger_error(self.path, error) from error

    def verify(self, head: str | None = None) -> LedgerReport:
        """Recompute every key, body hash, index column and link of the chain.

        Args:
            head: a head hash noted earlier, which must still be in the chain; without it a cut
                tail cannot be seen.

        Raises:
            LedgerCorruptError: SQLite cannot read the file at all.
        """
        self.flush()
        connection = connect(self.path, write=False)
        try:
            return verify_chain(connection, head)
        except SQLITE_ERRORS as error:
            raise ledger_error(self.path, error) from error
        finally:
            connection.close()

    def redacted(self, exchange: Exchange) -> Exchange:
        """The exchange as this ledger stores it."""
        return self._redactor.exchange(exchange)

    # Inside

    def _writing(self) -> Writer:
        if self._writer is None:
            raise LedgerError(str(self.path), "is open for reading only", "open it with write=True")
        return self._writer

    def _draft(self, exchange: Exchange) -> Callable[[], Sealed]:
        def draft() -> Sealed:
            clean = self.redacted(exchange)
            content: dict[str, Any] = {"exchange": clean.model_dump(mode="json")}
            if clean.request != exchange.request:
                content["key"] = exchange.request.key
            return seal(Kind.EXCHANGE, content, exchange.request.key)

        return draft

    def _remember(self, exchange: Exchange, future: Future[int]) -> None:
        """Let ``lookup`` see the exchange until the file has it."""
        if exchange.completion.outcome not in HITS:
            return
        key = exchange.request.key
        with self._pending_lock:
            self._pending[key] = exchange

        def forget(_: Future[int]) -> None:
            with self._pending_lock:
                if self._pending.get(key) is exchange:
                    del self._pending[key]

        future.add_done_callback(forget)

    def _open_reader(self) -> sqlite3.Connection:
        if self._closed:
            raise LedgerError(str(self.path), "is closed", "open it again to read it")
        return self._reader

    def _query(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        with self._reading:
            reader = self._open_reader()
            try:
                return reader.execute(query, values).fetchall()
            except SQLITE_ERRORS as error:
                raise ledger_error(self.path, error) from error

    def _rows(self, where: str, values: tuple[Any, ...]) -> list[Any]:
        # Every ``where`` stands in this file; values go in as parameters.
        query = f"SELECT {ROW_COLUMNS} FROM record WHERE {where}"  # noqa: S608
        return self._query(query, values)

    def _entry(self, row: tuple[Any, ...]) -> Entry:
        return entry_of(self.path, row)
