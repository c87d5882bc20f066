"""What a row of the ledger is, how rows are chained, and how a chain is checked.

A row's body is canonical JSON with a random 16-byte salt, so that the hash of an erased body
tells nothing about a guess at its text. ``body_hash`` is the SHA-256 of the body's bytes and::

    hash = SHA-256("overproof-ledger-1" ‖ 0x00 ‖ prev_hash ‖ seq (8 bytes, big-endian)
                   ‖ len(kind) (1 byte) ‖ kind ‖ body_hash)

so every fact is covered by every later hash. The index columns repeat facts of the body for quick
look-ups; ``verify`` recomputes them. A chain proves order and wholeness against accidents and
against edits by somebody who does not recompute it; against the rest, and against a truncated
tail, it needs a head hash noted elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
from enum import StrEnum
from typing import Any, NamedTuple

from overproof.records.exchange import Exchange, Outcome, Record, request_address

__all__ = [
    "COLUMNS",
    "GENESIS",
    "Columns",
    "Kind",
    "LedgerReport",
    "Sealed",
    "body_json",
    "chain_hash",
    "columns_of",
    "exchange_of",
    "key_bytes",
    "seal",
    "verify_chain",
]

GENESIS = bytes(32)
COLUMNS = (
    "key",
    "outcome",
    "teacher",
    "model",
    "source",
    "cost_usd",
    "input_tokens",
    "output_tokens",
    "latency_s",
)
MOST_PROBLEMS = 100
DOMAIN = b"overproof-ledger-1\x00"


class Kind(StrEnum):
    """What a row of the ledger records."""

    ROOT = "root"
    EXCHANGE = "exchange"
    NOTE = "note"
    TOMBSTONE = "tombstone"


class LedgerReport(Record):
    """What ``verify`` found. ``rows`` counts every row, ``erased`` those with a tombstone.

    ``head`` is the hash of the last row: noted elsewhere, it shows a cut tail later.
    """

    ok: bool
    rows: int
    head: str
    erased: int = 0
    problems: tuple[str, ...] = ()


class Columns(NamedTuple):
    """The index columns of an exchange; all ``None`` for any other row and where erased."""

    key: bytes | None = None
    outcome: str | None = None
    teacher: str | None = None
    model: str | None = None
    source: str | None = None
    cost_usd: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_s: float | None = None


class Sealed(NamedTuple):
    """A body ready to be chained."""

    kind: Kind
    body: bytes
    body_hash: bytes
    columns: Columns


def key_bytes(key: str) -> bytes:
    """The 32 bytes of a tagged SHA-256 such as ``Request.key``.

    Raises:
        ValueError: for anything else.
    """
    digest = bytes.fromhex(key.removeprefix("sha256:"))
    if not key.startswith("sha256:") or len(digest) != 32:
        raise ValueError(f"{key!r} is not 'sha256:' and 64 hex digits")
    return digest


def body_json(value: Any) -> bytes:
    """Canonical JSON, except that half a surrogate pair is kept as its JSON escape.

    A teacher that is cut off inside an emoji may send one; UTF-8 cannot hold it.

    Raises:
        ValueError: for NaN or an infinity.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8", "backslashreplace")


def columns_of(kind: str, body: dict[str, Any], key: str | None = None) -> Columns:
    """The index columns that belong to a body; ``key`` where it is known already.

    The key is that of the request as it was asked: where a secret was redacted from the request,
    the body carries the original key, so that a look-up still finds the answer.
    """
    if kind != Kind.EXCHANGE:
        return Columns()
    exchange = body["exchange"]
    completion = exchange["completion"]
    usage = completion["usage"] or {}
    cost = exchange["cost_usd"]
    return Columns(
        key=key_bytes(key or body.get("key") or request_address(exchange["request"])),
        outcome=completion["outcome"],
        teacher=_indexed(exchange["teacher"]),
        model=_indexed(exchange["request"]["model"]),
        source=_indexed(exchange["source"]),
        cost_usd=None if cost is None else float(cost),
        input_tokens=usage.get("input_tokens"),
        output_tokens=usage.get("output_tokens"),
        latency_s=float(completion["latency_s"]),
    )


def _indexed(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def seal(kind: Kind, content: dict[str, Any], key: str | None = None) -> Sealed:
    """Salt a body and hash it; ``key`` is that of an exchange's request.

    Raises:
        ValueError: when the content is not JSON (NaN, an infinity).
    """
    body = body_json({**content, "salt": secrets.token_hex(16)})
    return Sealed(kind, body, hashlib.sha256(body).digest(), columns_of(kind, content, key))


def chain_hash(previous: bytes, seq: int, kind: str, body_hash: bytes) -> bytes:
    """The hash of a row, over everything before it and all of it."""
    name = kind.encode("utf-8", "surrogateescape")
    return hashlib.sha256(
        DOMAIN + previous + seq.to_bytes(8, "big") + bytes([len(name) % 256]) + name + body_hash
    ).digest()


class _ExchangeBody(Record):
    exchange: Exchange
    salt: str
    key: str | None = None


def exchange_of(body: bytes) -> Exchange:
    """The exchange of a body.

    Raises:
        ValueError: for a body that holds none.
    """
    if b"\\ud" in body:  # pydantic's own JSON parser refuses half a surrogate pair
        return _ExchangeBody.model_validate(json.loads(body)).exchange
    return _ExchangeBody.model_validate_json(body).exchange


class _Check:
    """One pass over the rows; damage is reported where it is and does not spread."""

    def __init__(self) -> None:
        self.rows = 0
        self.previous = GENESIS
        self.last_seq = 0
        self.kinds: dict[int, str] = {}
        self.bodiless: set[int] = set()
        self.tombstones: dict[int, int] = {}
        self.problems: list[str] = []
        self.heads: set[str] = set()

    def problem(self, text: str) -> None:
        self.problems.append(text)

    def row(self, row: tuple[Any, ...]) -> None:
        seq, kind, body, body_hash, prev_hash, own_hash = row[:6]
        self.rows += 1
        if not isinstance(seq, int) or seq < 1:
            self.problem(f"row {seq}: its number is none")
            return
        if seq != self.last_seq + 1:
            self.problem(f"row {seq}: follows row {self.last_seq}; rows between them are missing")
        self.last_seq = seq
        hashes = (body_hash, prev_hash, own_hash)
        sound = isinstance(kind, str) and all(
            isinstance(value, bytes) and len(value) == 32 for value in hashes
        )
        if not sound:
            self.problem(f"row {seq}: its kind or hashes are not of their type")
            self.previous = own_hash if isinstance(own_hash, bytes) else GENESIS
            return
        self.kinds[seq] = kind
        if prev_hash != self.previous:
            self.problem(f"row {seq}: prev_hash is not the hash of the row before")
        if chain_hash(prev_hash, seq, kind, body_hash) != own_hash:
            self.problem(f"row {seq}: hash does not follow from prev_hash, seq, kind and body_hash")
        self.previous = own_hash
        self.heads.add(own_hash.hex())
        self._body(seq, kind, body, body_hash, Columns(*row[6:]))

    def _body(self, seq: int, kind: str, body: Any, body_hash: bytes, columns: Columns) -> None:
        if body is None:
            self.bodiless.add(seq)
            if columns != Columns():
                self.problem(f"row {seq}: has no body but index columns")
            return
        data = body.encode("utf-8", "surrogateescape") if isinstance(body, str) else b""
        if hashlib.sha256(data).digest() != body_hash:
            self.problem(f"row {seq}: body is not what body_hash was taken of")
            return
        try:
            content = json.loads(data)
            expected = columns_of(kind, content)
            self._content(seq, kind, content)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            self.problem(f"row {seq}: body is not that of a row of kind {kind!r}: {error!r}")
            return
        for name, have, want in zip(COLUMNS, columns, expected, strict=True):
            if have != want or type(have) is not type(want):
                self.problem(f"row {seq}: column {name} differs from the body")

    def _content(self, seq: int, kind: str, content: dict[str, Any]) -> None:
        if (kind == Kind.ROOT) != (seq == 1):
            self.problem(f"row {seq}: the root is the first row and no other")
        if kind == Kind.EXCHANGE:
            Outcome(content["exchange"]["completion"]["outcome"])
        elif kind == Kind.TOMBSTONE:
            self.tombstones[int(content["tombstone"]["seq"])] = seq
        else:
            content[Kind(kind).value]  # a body that lacks its own noun is not of this kind

    def finish(self) -> None:
        for seq in sorted(self.bodiless - self.tombstones.keys()):
            self.problem(f"row {seq}: body is missing and no tombstone names it")
        for seq, stone in sorted(self.tombstones.items()):
            if seq not in self.kinds or seq >= stone:
                self.problem(f"row {stone}: tombstone names row {seq}, which is not before it")
            elif seq not in self.bodiless:
                self.problem(f"row {seq}: is erased by row {stone} but its body is still there")
        if not self.rows:
            self.problem("row 1: the root is missing")


def verify_chain(connection: sqlite3.Connection, head: str | None) -> LedgerReport:
    """Check every row in one read transaction.

    Args:
        connection: open for reading; text comes back with ``surrogateescape``.
        head: a hash noted earlier; it must still be in the chain.
    """
    check = _Check()
    names = ", ".join(("seq", "kind", "body", "body_hash", "prev_hash", "hash", *COLUMNS))
    connection.execute("BEGIN")
    try:
        # NOT INDEXED: the table itself is read, never a copy of its values in an index.
        query = f"SELECT {names} FROM record NOT INDEXED ORDER BY seq"  # noqa: S608 - constants
        for row in connection.execute(query):
            check.row(row)
        check.finish()
        for (line,) in connection.execute("PRAGMA integrity_check"):
            if line != "ok":
                check.problem(f"SQLite: {line}")
    finally:
        connection.rollback()
    if head is not None and head.removeprefix("sha256:").lower() not in check.heads:
        check.problem(f"head {head}: is not in the chain, so rows were cut off or rewritten")
    problems = check.problems[:MOST_PROBLEMS]
    if len(check.problems) > MOST_PROBLEMS:
        problems.append(f"and {len(check.problems) - MOST_PROBLEMS} more")
    return LedgerReport(
        ok=not problems,
        rows=check.rows,
        head="sha256:" + check.previous.hex(),
        erased=len(check.bodiless & check.tombstones.keys()),
        problems=tuple(problems),
    )
