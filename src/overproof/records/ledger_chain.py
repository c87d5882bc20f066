"""What a row of the ledger is, and how rows are chained.

A row's body is JSON with a random 16-byte salt, so that the hash of an erased body
tells nothing about a guess at its text. ``body_hash`` is the SHA-256 of the body's bytes and::

    hash = SHA-256("overproof-ledger-1" ‖ 0x00 ‖ prev_hash ‖ link (8 bytes, big-endian)
                   ‖ len(kind) (1 byte) ‖ kind ‖ body_hash)

so every fact is covered by every later hash. ``link`` is the row's place in its chain: 1 for the
root. In a ledger that joined no other it is the row's number in the file, too; a chain that was
joined to another ledger keeps its links and hashes, so it can be checked wherever it lies. The
hash of its root names a chain. The index columns repeat facts of the body for quick look-ups;
``verify`` recomputes them. A chain proves order and wholeness against accidents and against edits
by somebody who does not recompute it; against the rest, and against a truncated tail, it needs a
head hash noted elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
from enum import StrEnum
from typing import Any, NamedTuple

from overproof.records.exchange import Exchange, Outcome, Record, request_address

__all__ = [
    "COLUMNS",
    "GENESIS",
    "HITS",
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
    "seal_exchange",
    "tagged",
]

GENESIS = bytes(32)
HITS = (Outcome.ANSWERED, Outcome.REFUSED, Outcome.TRUNCATED, Outcome.FILTERED)
"""Outcomes that are not asked again: a teacher's answer, whatever it is worth."""

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
DOMAIN = b"overproof-ledger-1\x00"
_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


class Kind(StrEnum):
    """What a row of the ledger records."""

    ROOT = "root"
    EXCHANGE = "exchange"
    NOTE = "note"
    TOMBSTONE = "tombstone"
    JOIN = "join"


class LedgerReport(Record):
    """What ``verify`` found. ``rows`` counts every row, ``erased`` those with a tombstone.

    ``head`` is the hash of the own chain's last row: noted elsewhere, it shows a cut tail later.
    ``chains`` counts the own chain and those that were joined to it.
    """

    ok: bool
    rows: int
    head: str
    erased: int = 0
    problems: tuple[str, ...] = ()
    chains: int = 1


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


def tagged(digest: bytes) -> str:
    """The written form of a hash: ``sha256:`` and its hex digits."""
    return "sha256:" + digest.hex()


def body_json(value: Any) -> bytes:
    """Canonical JSON, except that half a surrogate pair is kept as its JSON escape.

    A teacher that is cut off inside an emoji may send one; UTF-8 cannot hold it.

    Raises:
        ValueError: for NaN or an infinity.
    """
    return _ENCODER.encode(value).encode("utf-8", "backslashreplace")


def columns_of(kind: str, body: dict[str, Any]) -> Columns:
    """The index columns that belong to a body.

    The key is that of the request as it was asked: where a secret was redacted from the request,
    the body carries the original key, so that a look-up still finds the answer.
    """
    if kind != Kind.EXCHANGE:
        return Columns()
    exchange = body["exchange"]
    completion = exchange["completion"]
    # What a completion leaves at its default is not stored.
    usage = completion.get("usage")
    cost = exchange["cost_usd"]
    return Columns(
        key=key_bytes(body.get("key") or request_address(exchange["request"])),
        outcome=completion["outcome"],
        teacher=_indexed(exchange["teacher"]),
        model=_indexed(exchange["request"]["model"]),
        source=_indexed(exchange["source"]),
        cost_usd=None if cost is None else float(cost),
        input_tokens=None if usage is None else usage.get("input_tokens", 0),
        output_tokens=None if usage is None else usage.get("output_tokens", 0),
        latency_s=float(completion.get("latency_s", 0.0)),
    )


def _indexed(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def seal(kind: Kind, content: dict[str, Any]) -> Sealed:
    """Salt the body of a row that is no exchange, and hash it.

    Raises:
        ValueError: when the content is not JSON (NaN, an infinity).
    """
    body = body_json({**content, "salt": _salt()})
    return Sealed(kind, body, hashlib.sha256(body).digest(), Columns())


def seal_exchange(exchange: Exchange, key: str | None = None) -> Sealed:
    """Salt an exchange and hash it; ``exchange_of`` reads it back as it was.

    A completion is mostly fields at their defaults, above all in its log-probs: they are left out.
    A request is written as its address is made of it, so that the address follows from the body.

    Args:
        exchange: without secrets.
        key: that of the request as it was asked, where a secret was taken out of it since.

    Raises:
        ValueError: something in it is not JSON (NaN, an infinity).
    """
    body = _quick_body(exchange, key)
    if body is None:
        body = body_json(_content(exchange) | ({"key": key} if key else {}) | {"salt": _salt()})
    usage, cost = exchange.completion.usage, exchange.cost_usd
    columns = Columns(
        key=key_bytes(key or exchange.request.key),
        outcome=exchange.completion.outcome.value,
        teacher=_indexed(exchange.teacher),
        model=_indexed(exchange.request.model),
        source=_indexed(exchange.source),
        cost_usd=None if cost is None else float(cost),
        input_tokens=None if usage is None else usage.input_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
        latency_s=float(exchange.completion.latency_s),
    )
    return Sealed(Kind.EXCHANGE, body, hashlib.sha256(body).digest(), columns)


def _quick_body(exchange: Exchange, key: str | None) -> bytes | None:
    """The body from the JSON writer of pydantic, several times as fast as the general one.

    ``None`` where it cannot: it refuses half a surrogate pair and writes null for what is no
    finite number.
    """
    completion = exchange.completion
    try:
        answer = completion.model_dump_json(exclude_defaults=True)
        rest = exchange.model_dump_json(exclude={"request", "completion"})
    except ValueError:
        return None
    numbers = (completion.latency_s, exchange.cost_usd or 0.0, exchange.uncertain_usd)
    if not all(map(math.isfinite, numbers)) or '"logprob":null' in answer:
        return None
    said = f',"key":"{key}"' if key else ""
    return b"".join(
        (
            b'{"exchange":{"completion":' + answer.encode() + b',"request":',
            exchange.request.canonical,
            f',{rest[1:]}{said},"salt":"{_salt()}"}}'.encode(),
        )
    )


def _content(exchange: Exchange) -> dict[str, Any]:
    stored = exchange.model_dump(mode="json", exclude={"request", "completion"})
    stored["request"] = json.loads(exchange.request.canonical)
    stored["completion"] = exchange.completion.model_dump(mode="json", exclude_defaults=True)
    return {"exchange": stored}


# Salts drawn ahead: a call to the system for each costs more than hashing a row does.
_salts: list[str] = []
SALTS_AHEAD = 256
# A forked process draws its own.
os.register_at_fork(after_in_child=_salts.clear)


def _salt() -> str:
    """16 random bytes in hex, from the system's generator."""
    while True:
        try:
            return _salts.pop()  # one operation: no two threads get the same
        except IndexError:
            drawn = secrets.token_hex(16 * SALTS_AHEAD)
            _salts.extend(drawn[i : i + 32] for i in range(0, len(drawn), 32))


def chain_hash(previous: bytes, link: int, kind: str, body_hash: bytes) -> bytes:
    """The hash of a row, over everything before it in its chain and all of it."""
    name = kind.encode("utf-8", "surrogateescape")
    return hashlib.sha256(
        DOMAIN + previous + link.to_bytes(8, "big") + bytes([len(name) % 256]) + name + body_hash
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
