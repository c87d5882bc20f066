"""Rows of the ledger as readers see them, each checked against its hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from overproof.errors import LedgerCorruptError, LedgerError
from overproof.records.exchange import Exchange, Record
from overproof.records.ledger_chain import Kind, exchange_of, key_bytes

__all__ = ["ROW_COLUMNS", "Entry", "entry_of", "key_or_error", "key_range"]

ROW_COLUMNS = "seq, kind, key, body, body_hash"


class Entry(Record):
    """One row as it is shown: an exchange, or the content of a note, tombstone or root.

    Both are ``None`` where the row was erased. ``key`` is the tagged hash of the request.
    """

    seq: int
    kind: Kind
    key: str | None = None
    exchange: Exchange | None = None
    content: dict[str, Any] | None = None


def entry_of(path: Path, row: tuple[Any, ...]) -> Entry:
    """The entry of a row of ``ROW_COLUMNS``.

    Raises:
        LedgerCorruptError: its body is not what its hash was taken of.
    """
    seq, kind, key, body, body_hash = row
    try:
        if not isinstance(seq, int):
            raise ValueError("its number is none")
        if body is None:
            return Entry(seq=seq, kind=kind)
        data = body.encode("utf-8", "surrogateescape")
        if hashlib.sha256(data).digest() != body_hash:
            raise ValueError("its body is not what its hash was taken of")
        if kind == Kind.EXCHANGE:
            # Not validated a second time: a look-up is on the path of every request.
            return Entry.model_construct(
                seq=seq,
                kind=Kind.EXCHANGE,
                key="sha256:" + key.hex(),
                exchange=exchange_of(data),
                content=None,
            )
        content = json.loads(data)
        del content["salt"]
        return Entry(seq=seq, kind=kind, content=content)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise LedgerCorruptError(
            f"{path}: row {seq}",
            f"is not what was written: {error}",
            "run `overproof ledger verify` and restore the ledger from a copy",
        ) from error


def key_or_error(path: Path, key: str) -> bytes:
    """The bytes of a key.

    Raises:
        LedgerError: it is none.
    """
    try:
        return key_bytes(key)
    except ValueError as error:
        raise LedgerError(
            str(path), f"there is no key {key!r} in it", "`overproof ledger show` lists the keys"
        ) from error


def key_range(prefix: str) -> tuple[bytes, bytes] | None:
    """First and last key that begin with ``prefix``; ``None`` where it is not hex digits."""
    digits = prefix.removeprefix("sha256:").lower()
    if not digits or len(digits) > 64 or set(digits) - set("0123456789abcdef"):
        return None
    return bytes.fromhex(digits.ljust(64, "0")), bytes.fromhex(digits.ljust(64, "f"))
