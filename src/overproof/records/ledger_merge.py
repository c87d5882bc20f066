"""Joining ledgers: the rows of others are copied as they are, each ledger a chain of its own.

A ``join`` record in the own chain then names every chain that was brought: its root, its last
hash, its length, and where its rows begin in the file. Everything goes in one transaction: a merge
that is killed, interrupted or out of disk leaves the ledger as it was. Merging a ledger again, or
a later state of it, brings only what is new.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from overproof.errors import LedgerCorruptError, LedgerError
from overproof.records.exchange import Record
from overproof.records.ledger_chain import HITS, Kind, key_bytes, seal, tagged
from overproof.records.ledger_chains import Chain, chains_in, hash_at, rows_after, seq_at
from overproof.records.ledger_erase import empty, scrub
from overproof.records.ledger_file import (
    INSERT,
    SQLITE_ERRORS,
    Head,
    check_file,
    connect,
    last_row,
    ledger_error,
    row_values,
)
from overproof.records.ledger_lock import FileLock, wait_until_free
from overproof.records.ledger_verify import verify_ledger

__all__ = ["MergeReport", "MergedSource", "merge_ledgers"]

USABLE = ", ".join(f"'{outcome.value}'" for outcome in HITS)
ASKED_TWICE = f"""
SELECT count(*) FROM record AS new
WHERE new.seq > ? AND new.outcome IN ({USABLE}) AND new.source NOT LIKE 'imported:%'
  AND EXISTS (SELECT 1 FROM record AS old WHERE old.key = new.key AND old.seq < new.seq
              AND old.chain <> new.chain AND old.outcome IN ({USABLE}))
"""  # noqa: S608 - constants


class MergedSource(Record):
    """What one ledger brought: rows that were new, of ``chains`` chains that had any."""

    path: str
    chains: int
    rows: int


class MergeReport(Record):
    """What a merge did. ``exchanges`` counts those among the new rows, without erased ones.

    ``asked_twice`` counts the new usable answers to requests that another chain had answered
    already: both were paid for. ``erased`` counts rows that were erased here because a ledger that
    was joined says so. ``head`` is the own chain's head after the merge.
    """

    into: str
    sources: tuple[MergedSource, ...]
    rows: int = 0
    exchanges: int = 0
    asked_twice: int = 0
    erased: int = 0
    head: str = ""


def merge_ledgers(into: Path, sources: Sequence[Path], *, wait_s: float = 0.0) -> MergeReport:
    """Join other ledgers to a ledger, which is made where there is none.

    Args:
        into: the ledger that takes the rows.
        sources: the ledgers that are copied from; they stay as they are.
        wait_s: how long to wait for whoever is writing to one of them.

    Raises:
        LedgerLockedError: one of them is being written to.
        LedgerCorruptError: one to copy from does not verify; names the row.
        LedgerError: one went another way than an earlier state of it that was joined before, is
            ``into`` itself, or cannot be read; the disk is full.
    """
    for source in sources:
        check_file(source, write=False)
        if into.exists() and source.samefile(into):
            raise LedgerError(
                str(source), "cannot be merged into itself", "name the ledgers of the shards"
            )
    check_file(into, write=True)
    lock = FileLock(into, wait_s)
    try:
        with ExitStack() as stack:
            opened = {
                source: stack.enter_context(_verified(source, wait_s))
                for source in {source.resolve(): source for source in sources}.values()
            }
            connection = stack.enter_context(closing(connect(into, write=True)))
            try:
                connection.execute("BEGIN IMMEDIATE")
                report = _Merge(into, connection).all(opened)
                connection.execute("COMMIT")
                if report.erased:
                    scrub(into, connection)
            except SQLITE_ERRORS as error:
                raise ledger_error(into, error) from error
            finally:
                if connection.in_transaction:
                    connection.rollback()
            return report
    finally:
        lock.release()


@contextmanager
def _verified(source: Path, wait_s: float) -> Iterator[sqlite3.Connection]:
    """A ledger in one read transaction, in which it was verified: what is copied was checked."""
    wait_until_free(source, wait_s)
    with closing(connect(source, write=False)) as connection:
        try:
            connection.execute("BEGIN")
            report = verify_ledger(connection)
        except SQLITE_ERRORS as error:
            raise ledger_error(source, error) from error
        if not report.ok:
            raise LedgerCorruptError(
                str(source),
                f"is not what was written, so it is not merged: {report.problems[0]}",
                "`overproof ledger verify` lists every damaged row; restore it from a copy, or "
                "collect that shard again in a directory of its own",
            )
        yield connection


class _Merge:
    """One merge, inside its transaction."""

    def __init__(self, into: Path, connection: sqlite3.Connection) -> None:
        self._into = into
        self._connection = connection
        self._known = {chain.root: chain for chain in chains_in(connection)}
        self._head = last_row(into, connection)
        self._seq = self._head.seq
        self._joined: list[dict[str, Any]] = []
        self._stones: list[tuple[bytes, int]] = []
        self._exchanges = 0

    def all(self, sources: dict[Path, sqlite3.Connection]) -> MergeReport:
        """Copy what is new in the sources and record it; without news nothing is written."""
        began = self._head.seq
        merged = tuple(self._source(path, opened) for path, opened in sources.items())
        rows = self._seq - began
        erased = twice = 0
        if rows:
            erased = sum(map(self._erase, self._stones))
            (twice,) = self._connection.execute(ASKED_TWICE, (began,)).fetchone()
            at = datetime.now(UTC).isoformat(timespec="seconds")
            join = {"join": {"at": at, "chains": self._joined}}
            head = Head(self._seq, self._head.link, self._head.hash)
            values, self._head = row_values(seal(Kind.JOIN, join), head)
            self._connection.execute(INSERT, values)
        return MergeReport(
            into=str(self._into),
            sources=merged,
            rows=rows,
            exchanges=self._exchanges,
            asked_twice=twice,
            erased=erased,
            head=tagged(self._head.hash),
        )

    def _source(self, path: Path, source: sqlite3.Connection) -> MergedSource:
        began, chains = self._seq, 0
        for chain in chains_in(source):
            known = self._known.get(chain.root)
            if known is not None:
                self._check_same(path, source, chain, known)
                if chain.rows <= known.rows:
                    continue
            chains += 1
            self._copy(path, source, chain, known)
        return MergedSource(path=str(path), chains=chains, rows=self._seq - began)

    def _check_same(
        self, path: Path, source: sqlite3.Connection, chain: Chain, known: Chain
    ) -> None:
        """Refuse a chain that is not the known one, an earlier or a later state of it."""
        both = min(chain.rows, known.rows)
        if hash_at(source, chain.number, both) != hash_at(self._connection, known.number, both):
            raise LedgerError(
                str(path),
                f"its chain {tagged(chain.root)} began as one that is in {self._into}, and then "
                f"went another way: it ends in {tagged(chain.head)}, the other in "
                f"{tagged(known.head)}",
                "a ledger was copied and both copies were written to, or it was restored from an "
                "old copy: merge one of the two, or start a shard with an empty directory",
            )
        if known.number == 0 and chain.rows > known.rows:
            raise LedgerError(
                str(path),
                f"is a later state of {self._into} itself",
                "use it in that one's place",
            )

    def _copy(
        self, path: Path, source: sqlite3.Connection, chain: Chain, known: Chain | None
    ) -> None:
        number = known.number if known else 1 + max(c.number for c in self._known.values())
        have = known.rows if known else 0
        first = self._seq + 1
        self._connection.executemany(INSERT, self._rows(path, source, chain, number, have))
        self._known[chain.root] = chain._replace(number=number)
        self._joined.append(
            {
                "root": tagged(chain.root),
                "head": tagged(chain.head),
                "rows": chain.rows,
                "first": first,
                "from": str(path),
            }
        )

    def _rows(
        self, path: Path, source: sqlite3.Connection, chain: Chain, number: int, have: int
    ) -> Iterator[tuple[Any, ...]]:
        """The rows to insert; what a tombstone among them says is noted."""
        rows = rows_after(source, chain.number, have)
        link = have
        while True:
            try:
                row = next(rows, None)
            except SQLITE_ERRORS as error:
                raise ledger_error(path, error) from error
            if row is None:
                return
            link, self._seq = link + 1, self._seq + 1
            kind, body = row[:2]
            self._exchanges += kind == Kind.EXCHANGE and body is not None
            if kind == Kind.TOMBSTONE:
                stone = json.loads(body)["tombstone"]
                root = key_bytes(stone["chain"]) if "chain" in stone else chain.root
                self._stones.append((root, int(stone["seq"])))
            yield (self._seq, *row, number, link)

    def _erase(self, stone: tuple[bytes, int]) -> bool:
        """Empty the row that a tombstone names, where its text is still here."""
        root, link = stone
        seq = seq_at(self._connection, self._known[root].number, link)
        query = "SELECT 1 FROM record WHERE seq = ? AND body IS NOT NULL"
        if seq is None or self._connection.execute(query, (seq,)).fetchone() is None:
            return False
        empty(self._connection, seq)
        return True
