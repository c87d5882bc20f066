"""Reading a ledger: look-ups by key, rows in order, costs, and the check of every chain."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from overproof.errors import LedgerError
from overproof.records.certificate import CostLine
from overproof.records.exchange import Exchange, Outcome
from overproof.records.ledger_chain import HITS, Kind, LedgerReport
from overproof.records.ledger_costs import cost_lines
from overproof.records.ledger_file import SQLITE_ERRORS, connect, ledger_error
from overproof.records.ledger_rows import (
    ROW_COLUMNS,
    Entry,
    entry_of,
    key_or_error,
    key_range,
)
from overproof.records.ledger_verify import verify_ledger

__all__ = ["LedgerReader"]

PAGE = 256  # rows read at a time; no read transaction stays open between two pages


class LedgerReader:
    """What can be read of a ledger; ``Ledger`` is one that may also write.

    Args:
        path: the ledger's file.
        reader: a connection for reading.
    """

    def __init__(self, path: Path, reader: sqlite3.Connection) -> None:
        self.path = path
        self._reader = reader
        self._reading = threading.Lock()
        self._closed = False

    def flush(self) -> None:
        """Wait until everything submitted so far is committed or has failed."""

    def lookup(self, key: str) -> Exchange | None:
        """The newest usable answer to the request of that key: the one that came in last.

        Usable is what was answered, refused, truncated or filtered; what failed or was malformed
        is recorded but is asked again.

        Raises:
            LedgerCorruptError: the record is not what was written.
        """
        rows = self._rows(
            f"key = ? AND outcome IN ({','.join('?' * len(HITS))}) ORDER BY seq DESC LIMIT 1",
            (key_or_error(self.path, key), *HITS),
        )
        return self._entry(rows[0]).exchange if rows else None

    def recorded(self, key: str) -> list[Entry]:
        """Every committed exchange of that key, whatever its outcome, oldest first."""
        rows = self._rows("key = ? ORDER BY seq", (key_or_error(self.path, key),))
        return [self._entry(row) for row in rows]

    def tally(self, outcome: Outcome) -> Counter[str]:
        """How many collected exchanges of that outcome each key has; keys without are left out."""
        self.flush()
        query = (
            "SELECT key, count(*) FROM record "
            "WHERE outcome = ? AND source = 'collected' AND body IS NOT NULL GROUP BY key"
        )
        return Counter({"sha256:" + key.hex(): n for key, n in self._query(query, (outcome,))})

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
        after = 0
        while rows := self._rows(
            "kind = ? AND seq > ? ORDER BY seq LIMIT ?", (Kind.NOTE, after, PAGE)
        ):
            for content in (self._entry(row).content for row in rows):
                if content is not None and name in {None, content["note"]}:
                    yield content
            after = rows[-1][0]

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
            return verify_ledger(connection, head)
        except SQLITE_ERRORS as error:
            raise ledger_error(self.path, error) from error
        finally:
            connection.close()

    # Inside

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
