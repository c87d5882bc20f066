"""Erasing: the text goes, the chain stays."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from overproof.errors import LedgerError
from overproof.records.ledger_chain import COLUMNS, Kind, seal, tagged
from overproof.records.ledger_file import INSERT, Head, row_values

__all__ = ["Doomed", "empty", "rows_to_erase", "scrub", "tombstones"]

EMPTIED = ", ".join(f"{name} = NULL" for name in ("body", *COLUMNS))
EMPTY = f"UPDATE record SET {EMPTIED} WHERE seq = ?"  # noqa: S608 - constants
ROOT = "SELECT hash FROM record WHERE chain = ? AND link = 1"


class Doomed(NamedTuple):
    """A row to erase: its number in the file, its chain and its place in that."""

    seq: int
    chain: int
    link: int


def rows_to_erase(
    path: Path, connection: sqlite3.Connection, target: bytes | int | Sequence[int]
) -> list[Doomed]:
    """Rows to erase: every row of a key, one row, or several; none that was erased before.

    Raises:
        LedgerError: there is no such row, or it is of the chain's own: a root, a tombstone, a join.
    """
    if not isinstance(target, bytes | int):
        return [row for seq in target for row in rows_to_erase(path, connection, seq)]
    where = "seq = ?" if isinstance(target, int) else "key = ?"
    columns = "seq, chain, coalesce(link, seq), kind, body IS NULL"
    query = f"SELECT {columns} FROM record WHERE {where} ORDER BY seq"  # noqa: S608
    found: list[Any] = connection.execute(query, (target,)).fetchall()
    if not found:
        name = f"row {target}" if isinstance(target, int) else f"request {tagged(target)}"
        raise LedgerError(
            str(path), f"has no {name}, or it was erased", "`overproof ledger show` lists the rows"
        )
    for seq, _, _, kind, _ in found:
        if kind not in (Kind.EXCHANGE, Kind.NOTE):
            raise LedgerError(
                str(path), f"row {seq} is a {kind}", "only exchanges and notes can be erased"
            )
    return [Doomed(seq, chain, link) for seq, chain, link, _, erased in found if not erased]


def tombstones(
    connection: sqlite3.Connection, head: Head, rows: Iterable[Doomed], reason: str
) -> Head:
    """Empty the rows and append a tombstone for each to the own chain, in one transaction.

    A tombstone names the row by its place in its chain, and a chain that is not its own by the
    hash of its root: so it holds wherever the chains are copied to.
    """
    connection.execute("BEGIN IMMEDIATE")
    for row in rows:
        stone: dict[str, Any] = {"seq": row.link, "reason": reason}
        if row.chain:
            (root,) = connection.execute(ROOT, (row.chain,)).fetchone()
            stone["chain"] = tagged(root)
        values, head = row_values(seal(Kind.TOMBSTONE, {"tombstone": stone}), head)
        connection.execute(INSERT, values)
        empty(connection, row.seq)
    connection.execute("COMMIT")
    return head


def empty(connection: sqlite3.Connection, seq: int) -> None:
    """Take everything out of a row but its place in the chain."""
    connection.execute(EMPTY, (seq,))


def scrub(path: Path, connection: sqlite3.Connection) -> int:
    """Take erased text out of the file's free pages and out of the WAL.

    Raises:
        LedgerError: a reader holds on to old pages.
    """
    connection.execute("VACUUM")
    (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise LedgerError(
            str(path),
            "the row is erased, but another program is reading and its text may still be in "
            f"{path.name}-wal",
            "end the reader, then erase that row again by its number",
        )
    return 0
