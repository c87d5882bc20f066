"""Who signs a verdict: what a signer is, and the one that holds a secret shared with the checker.

A signature is made over the hash of the record and those of the pages, never over the files
themselves, so that the page can show who signs it. There are two kinds. HMAC-SHA256 (RFC 2104)
convinces whoever holds the key, and only them: as the same key signs and checks, it does not tell a
third party which of its holders signed. `overproof.report.audit_ed25519` signs so that anybody can
check.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from overproof.errors import SecretError
from overproof.records.hashing import canonical_json

__all__ = [
    "FORMAT",
    "HMAC",
    "KEY_ENV",
    "HmacSigner",
    "SignedBy",
    "Signer",
    "audit_key",
    "key_id",
]

FORMAT = "overproof-audit-verdict/1"
HMAC = "HMAC-SHA256"
KEY_ENV = "OVERPROOF_AUDIT_KEY"
SHORTEST = 16


@dataclass(frozen=True)
class SignedBy:
    """With what a verdict is signed, as it is shown.

    Attributes:
        algorithm: as ``verdict.json`` names it.
        name: of the key: the fingerprint of a public one, a short name of a secret one.
        public: whether anybody can check the signature, or only who holds the secret.
    """

    algorithm: str
    name: str
    public: bool


class Signer(Protocol):
    """Something that signs a verdict's hashes."""

    @property
    def signed_by(self) -> SignedBy:
        """What the page says of it."""
        ...

    def sign(self, content_sha256: str, files: Mapping[str, str]) -> dict[str, str]:
        """The ``signature`` of ``verdict.json``."""
        ...


def audit_key(environ: Mapping[str, str] | None = None, name: str = KEY_ENV) -> bytes | None:
    """The shared secret from the environment; None where the variable is not set or empty.

    Raises:
        SecretError: it is shorter than 16 bytes.
    """
    text = (os.environ if environ is None else environ).get(name, "")
    if not text:
        return None
    key = text.encode("utf-8", "surrogateescape")
    if len(key) < SHORTEST:
        raise SecretError(
            name, f"has {len(key)} bytes", f"use at least {SHORTEST} random bytes, or unset it"
        )
    return key


def key_id(key: bytes) -> str:
    """A name for a secret key that does not give it away: 16 hex digits."""
    return hmac.digest(key, b"overproof audit: name of this key", "sha256").hex()[:16]


@dataclass(frozen=True, repr=False)
class HmacSigner:
    """HMAC-SHA256 under a shared secret.

    Attributes:
        key: the secret; never shown.
    """

    key: bytes

    @property
    def signed_by(self) -> SignedBy:
        """Its algorithm, and the name of its key."""
        return SignedBy(HMAC, key_id(self.key), public=False)

    def sign(self, content_sha256: str, files: Mapping[str, str]) -> dict[str, str]:
        """The signature over the hashes."""
        signed = {"format": FORMAT, "content_sha256": content_sha256, "files": dict(files)}
        return {
            "algorithm": HMAC,
            "key_id": key_id(self.key),
            "value": hmac.digest(self.key, canonical_json(signed), "sha256").hex(),
        }
