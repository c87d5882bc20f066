"""Canonical hashing: the same content has the same name on every machine.

Canonical JSON follows RFC 8785 where it matters here: sorted keys, no white space, UTF-8,
``NaN`` and infinities refused. Every hash is tagged with its algorithm.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from pathlib import Path
from typing import Any

__all__ = ["canonical_json", "content_hash", "file_sha256", "text_hash"]


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_json(value: Any) -> bytes:
    """Serialise ``value`` (JSON types only) to its one canonical byte string.

    Raises:
        ValueError: for NaN or an infinity.
    """
    return _ENCODER.encode(value).encode()


def content_hash(value: Any) -> str:
    """``sha256:`` and 64 hex digits of the canonical JSON of ``value``."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


def text_hash(text: str) -> str:
    """Hash of a text up to Unicode normal form, case and white space: exact-duplicate key."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return "sha256:" + hashlib.sha256(folded.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
