"""The chains of a ledger: its own, and those that merges joined to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

from overproof.records.ledger_chain import COLUMNS
from overproof.records.ledger_file import has_chains

__all__ = ["COPIED", "Chain", "chains_in", "hash_at", "rows_after", "seq_at"]

COPIED = ("kind", "body", "body_hash", "prev_hash", "hash", *COLUMNS)
NAMES = ", ".join(COPIED)


class Chain(NamedTuple):
    """One chain: its number in the file, the hash that names it, its last hash and its length."""

    number: int
    root: bytes
    head: bytes
    rows: int


def chains_in(connection: sqlite3.Connection) -> list[Chain]:
    """Every chain, the own one first."""
    lengths = [(0, _own_length(connection))]
    if has_chains(connection):
        query = "SELECT chain, max(link) FROM record WHERE chain > 0 GROUP BY chain ORDER BY chain"
        lengths += connection.execute(query).fetchall()
    return [
        Chain(number, _hash(connection, number, 1), _hash(connection, number, rows), rows)
        for number, rows in lengths
    ]


def _own_length(connection: sqlite3.Connection) -> int:
    where, link = ("WHERE chain = 0", "link") if has_chains(connection) else ("", "seq")
    query = f"SELECT coalesce({link}, seq) FROM record {where} ORDER BY seq DESC LIMIT 1"  # noqa: S608
    (rows,) = connection.execute(query).fetchone()
    return int(rows)


def _hash(connection: sqlite3.Connection, number: int, link: int) -> bytes:
    found = hash_at(connection, number, link)
    if found is None:
        raise sqlite3.DatabaseError(f"chain {number} has no row {link}")
    return found


def hash_at(connection: sqlite3.Connection, number: int, link: int) -> bytes | None:
    """The hash of a chain's row, ``None`` where it has none of that place."""
    seq = seq_at(connection, number, link)
    query = "SELECT hash FROM record WHERE seq = ?"
    row = None if seq is None else connection.execute(query, (seq,)).fetchone()
    return None if row is None else bytes(row[0])


def seq_at(connection: sqlite3.Connection, number: int, link: int) -> int | None:
    """The number in the file of a chain's row."""
    values: tuple[int, ...]
    if not has_chains(connection):
        query, values = "SELECT seq FROM record WHERE seq = ?", (link,)
    elif number == 0:  # no row comes before its place in the chain
        query = "SELECT seq FROM record WHERE seq >= ? AND chain = 0 AND coalesce(link, seq) = ?"
        query, values = query + " ORDER BY seq LIMIT 1", (link, link)
    else:
        query, values = "SELECT seq FROM record WHERE chain = ? AND link = ?", (number, link)
    row = connection.execute(query, values).fetchone()
    return None if row is None else int(row[0])


def rows_after(connection: sqlite3.Connection, number: int, link: int) -> Iterator[tuple[Any, ...]]:
    """The rows of a chain after that place, in order: the values of ``COPIED``."""
    values: tuple[int, ...]
    if not has_chains(connection):
        where, values = "seq > ? ORDER BY seq", (link,)
    elif number == 0:
        where, values = (
            "seq > ? AND chain = 0 AND coalesce(link, seq) > ? ORDER BY seq",
            (link, link),
        )
    else:
        where, values = "chain = ? AND link > ? ORDER BY chain, link", (number, link)
    query = f"SELECT {NAMES} FROM record WHERE {where}"  # noqa: S608 - constants
    yield from connection.execute(query, values)
