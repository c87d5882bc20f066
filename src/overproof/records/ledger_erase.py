"""Erasing: the text goes, the chain stays."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overproof.errors import LedgerError
from overproof.records.ledger_chain import COLUMNS, Kind, seal
from overproof.records.ledger_file import INSERT, row_values
from overproof.records.ledger_writer import Head

__all__ = ["rows_to_erase", "scrub", "tombstones"]

EMPTIED = ", ".join(f"{name} = NULL" for name in ("body", *COLUMNS))
EMPTY = f"UPDATE record SET {EMPTIED} WHERE seq = ?"  # noqa: S608 - constants


def rows_to_erase(
    path: Path, connection: sqlite3.Connection, target: bytes | int | Sequence[int]
) -> list[int]:
    """Seqs to erase: every row of a key, one row, or several; none that was erased before.

    Raises:
        LedgerError: there is no such row, or it is a root or a tombstone.
    """
    if not isinstance(target, bytes | int):
        return [row for seq in target for row in rows_to_erase(path, connection, seq)]
    where = "seq = ?" if isinstance(target, int) else "key = ?"
    query = f"SELECT seq, kind, body IS NULL FROM record WHERE {where} ORDER BY seq"  # noqa: S608
    found: list[Any] = connection.execute(query, (target,)).fetchall()
    if not found:
        name = f"row {target}" if isinstance(target, int) else f"request sha256:{target.hex()}"
        raise LedgerError(
            str(path), f"has no {name}, or it was erased", "`overproof ledger show` lists the rows"
        )
    for seq, kind, _ in found:
        if kind not in (Kind.EXCHANGE, Kind.NOTE):
            raise LedgerError(
                str(path), f"row {seq} is a {kind}", "only exchanges and notes can be erased"
            )
    return [seq for seq, _, erased in found if not erased]


def tombstones(connection: sqlite3.Connection, head: Head, rows: list[int], reason: str) -> Head:
    """Empty the rows and append a tombstone for each, in one transaction."""
    seq, previous = head
    connection.execute("BEGIN IMMEDIATE")
    for row in rows:
        stone = seal(Kind.TOMBSTONE, {"tombstone": {"seq": row, "reason": reason}})
        seq += 1
        values = row_values(stone, seq, previous)
        previous = values[5]
        connection.execute(INSERT, values)
        connection.execute(EMPTY, (row,))
    connection.execute("COMMIT")
    return Head(seq, previous)


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
