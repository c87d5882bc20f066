"""The ledger's file: its schema, its connections, and SQLite's errors in our words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from overproof.errors import LedgerCorruptError, LedgerError
from overproof.records.ledger_chain import COLUMNS, GENESIS, Kind, Sealed, chain_hash, seal

__all__ = [
    "INSERT",
    "SCHEMA_VERSION",
    "SQLITE_ERRORS",
    "Head",
    "check_file",
    "connect",
    "has_chains",
    "insert_rows",
    "last_row",
    "ledger_error",
    "ledger_path",
    "row_values",
]

LEDGER_NAME = "ledger.sqlite"
SCHEMA_VERSION = 2
APPLICATION_ID = 0x4F56_5046  # "OVPF", at byte 68 of the file
MAGIC = b"SQLite format 3\x00"
BUSY_MS = 10_000

# ``chain`` is 0 for the ledger's own chain; others were joined to it by a merge. ``link`` is the
# row's place in its chain, NULL in rows of schema 1, where it is ``seq``.
CREATE = """
CREATE TABLE record (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    body TEXT,
    body_hash BLOB NOT NULL,
    prev_hash BLOB NOT NULL,
    hash BLOB NOT NULL,
    key BLOB,
    outcome TEXT,
    teacher TEXT,
    model TEXT,
    source TEXT,
    cost_usd REAL,
    input_tokens INTEGER,
    output_tokens INTEGER,
    latency_s REAL,
    chain INTEGER NOT NULL DEFAULT 0,
    link INTEGER
)
"""
CREATE_INDEX = "CREATE INDEX record_key ON record (key, seq) WHERE key IS NOT NULL"
CREATE_CHAINS = "CREATE INDEX record_chain ON record (chain, link) WHERE chain > 0"
MIGRATE = (
    "ALTER TABLE record ADD COLUMN chain INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE record ADD COLUMN link INTEGER",
    CREATE_CHAINS,
)
NAMES = ("seq", "kind", "body", "body_hash", "prev_hash", "hash", *COLUMNS, "chain", "link")
PLACES = ", ".join("?" * len(NAMES))
INSERT = f"INSERT INTO record ({', '.join(NAMES)}) VALUES ({PLACES})"  # noqa: S608 - constants
AT_ONCE = (32, 16, 8, 4, 3, 2, 1)  # rows a statement: few enough to be kept compiled
# A message of SQLite that quotes damaged bytes cannot even be decoded.
SQLITE_ERRORS = (sqlite3.Error, UnicodeError)
FULL = {sqlite3.SQLITE_FULL}
MACHINE = {
    sqlite3.SQLITE_IOERR: "the disk failed to read or write it",
    sqlite3.SQLITE_READONLY: "it may not be written to",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_PERM: "it may not be opened",
    sqlite3.SQLITE_BUSY: "another program holds it",
    sqlite3.SQLITE_LOCKED: "another program holds it",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
}


class Head(NamedTuple):
    """The last row of the own chain, which is the last one of the file.

    ``seq`` is its number in the file, ``link`` its place in the chain.
    """

    seq: int
    link: int
    hash: bytes


def ledger_path(path: Path) -> Path:
    """The ledger's file: ``path`` itself, or the one in the run directory ``path``."""
    if path.is_dir() or (not path.exists() and not path.suffix):
        return path / LEDGER_NAME
    return path


def ledger_error(path: Path, error: Exception) -> LedgerError:
    """An error of SQLite with the file, the reason and the way out."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary in FULL:
        return LedgerError(
            str(path),
            f"the disk is full ({error})",
            "free some space and run the same command again: it resumes, and nothing that was "
            "committed is lost",
        )
    if primary in MACHINE:
        return LedgerError(
            str(path),
            f"{MACHINE[primary]} ({error})",
            "check the disk, its free space and the file's permissions, then run the same command "
            "again: it resumes, and nothing that was committed is lost",
        )
    return LedgerCorruptError(
        str(path),
        f"SQLite cannot read it: {error}",
        "restore it from a copy; what can still be read comes out with "
        f"`sqlite3 {path.name} .recover`",
    )


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """A connection to a ledger whose schema was checked; makes the ledger when writing.

    Raises:
        LedgerError: nothing there, not a ledger, or one of a newer overproof.
        LedgerCorruptError: a file that SQLite cannot read.
    """
    check_file(path, write=write)
    wal = path.with_name(path.name + "-wal")
    # WAL needs a file of shared memory beside the ledger. In a directory that may not be written
    # to, nobody else writes either, and a ledger that was closed in order can be read without.
    settled = not os.access(path.parent, os.W_OK) and not (wal.exists() and wal.stat().st_size)
    try:
        return _connected(path, write, immutable=settled and not write)
    except SQLITE_ERRORS as error:
        raise ledger_error(path, error) from error


def check_file(path: Path, *, write: bool) -> None:
    """Refuse what cannot be a ledger before a lock is put beside it.

    Raises:
        LedgerError: a directory, nothing there to read, or a file of another kind.
    """
    if path.is_dir():
        raise LedgerError(
            str(path), "is a directory, not a ledger", f"name its file, such as {LEDGER_NAME}"
        )
    if not path.exists():
        if write:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LedgerError(
                    str(path.parent), f"cannot be made: {error.strerror}", "choose another place"
                ) from error
            return
        raise LedgerError(
            str(path), "does not exist", "run `overproof collect` or `overproof import` first"
        )
    try:
        with path.open("rb") as stream:
            start = stream.read(len(MAGIC))
    except OSError as error:
        raise LedgerError(
            str(path), f"cannot be read: {error.strerror}", "check its permissions"
        ) from error
    if start and start != MAGIC:
        raise _foreign(path)


def _foreign(path: Path) -> LedgerError:
    return LedgerError(
        str(path),
        "is not an overproof ledger",
        "name a ledger.sqlite, or a run directory that holds one; logs come in with "
        "`overproof import`",
    )


def _connected(path: Path, write: bool, *, immutable: bool) -> sqlite3.Connection:
    mode = "mode=rwc" if write else "mode=ro" + ("&immutable=1" if immutable else "")
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?{mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_MS / 1000,
    )
    try:
        # Damaged text must come back as it is: verify compares bytes.
        connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        _prepare(connection, path, write)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, write: bool) -> None:
    if write:
        # WAL with synchronous=NORMAL survives a killed process but not a power cut. FULL adds
        # one fsync a commit, and commits are grouped, so paid answers survive both for little.
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == 0 and version == 0 and tables == 0:
        if not write:
            raise LedgerError(
                str(path), "holds no ledger yet", "run `overproof collect` or `overproof import`"
            )
        _create(connection)
        return
    if application != APPLICATION_ID or version < 1:
        raise _foreign(path)
    if version > SCHEMA_VERSION:
        raise LedgerError(
            str(path),
            f"was written by a newer overproof (schema {version}; this one knows {SCHEMA_VERSION})",
            "upgrade: pip install -U overproof",
        )
    if write:
        connection.execute("PRAGMA journal_mode=WAL")
        if version < SCHEMA_VERSION:
            _migrate(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring a ledger of schema 1 up to date, all of it or nothing; its rows stay as they are."""
    connection.execute("BEGIN IMMEDIATE")
    for statement in MIGRATE:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _create(connection: sqlite3.Connection) -> None:
    """Make schema and root in one transaction: a killed process leaves all of it or nothing."""
    # An exchange with log-probs takes 2 to 3 kB: three fit into such a page, one into SQLite's own.
    connection.execute("PRAGMA page_size=8192")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(CREATE)
    connection.execute(CREATE_INDEX)
    connection.execute(CREATE_CHAINS)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    created_at = datetime.now(UTC).isoformat(timespec="seconds")
    root = seal(
        Kind.ROOT,
        {"root": {"format": "overproof-ledger", "schema": SCHEMA_VERSION, "at": created_at}},
    )
    values, _ = row_values(root, Head(0, 0, GENESIS))
    connection.execute(INSERT, values)
    connection.execute("COMMIT")


def row_values(sealed: Sealed, head: Head) -> tuple[tuple[Any, ...], Head]:
    """The values of ``INSERT`` for the row of the own chain that follows ``head``, and its head."""
    seq, link = head.seq + 1, head.link + 1
    own = chain_hash(head.hash, link, sealed.kind, sealed.body_hash)
    hashes = (sealed.body_hash, head.hash, own)
    values = (seq, sealed.kind.value, sealed.body.decode(), *hashes, *sealed.columns, 0, link)
    return values, Head(seq, link, own)


def insert_rows(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows of ``row_values`` and commit them: all, or none where it raises.

    Many go in one statement. Python's lock is let go of and fought for at every statement: with one
    a row, a writer thread beside a busy event loop waits for it, and makes it wait, as often as it
    has rows. A lone statement is a transaction by itself.
    """
    parts, at = [], 0
    while at < len(rows):
        size = next(size for size in AT_ONCE if size <= len(rows) - at)
        parts.append(rows[at : at + size])
        at += size
    if len(parts) > 1:
        connection.execute("BEGIN IMMEDIATE")
    for part in parts:
        values = [value for row in part for value in row]
        connection.execute(f"{INSERT}{f', ({PLACES})' * (len(part) - 1)}", values)
    if len(parts) > 1:
        connection.execute("COMMIT")


def has_chains(connection: sqlite3.Connection) -> bool:
    """Whether the rows say which chain they are of; in a ledger of schema 1 there is one alone."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version) >= 2


def last_row(path: Path, connection: sqlite3.Connection) -> Head:
    """The head of the own chain, from a connection for writing.

    Raises:
        LedgerCorruptError: the last row is damaged, missing, or of another chain.
    """
    query = "SELECT seq, coalesce(link, seq), hash, chain FROM record ORDER BY seq DESC LIMIT 1"
    try:
        row = connection.execute(query).fetchone()
    except SQLITE_ERRORS as error:
        raise ledger_error(path, error) from error
    if row is None or not isinstance(row[2], bytes) or row[3] != 0:
        raise ledger_error(path, sqlite3.DatabaseError("its last row is damaged or missing"))
    return Head(int(row[0]), int(row[1]), row[2])
