"""Signatures that anybody can check: Ed25519 (RFC 8032), with the library ``cryptography``.

What is signed is one line of canonical JSON that names algorithm, key, format and hashes, so that
a signature fits no other document and no other key. The public key travels inside the verdict. It
proves nothing by that: whoever forges a verdict puts a key of their own there. What binds is the
*fingerprint*, the SHA-256 of the 32 raw bytes, made known by another way than the verdict itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from overproof.errors import ConfigError, MissingExtraError
from overproof.records.hashing import canonical_json
from overproof.report.audit_signers import FORMAT, SignedBy

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = [
    "ED25519",
    "Ed25519Signer",
    "Library",
    "fault",
    "fingerprint_of",
    "library",
    "parse_fingerprint",
    "signed_bytes",
    "weak",
]

ED25519 = "Ed25519"
KEY_BYTES = 32
# Points of order 1, 2, 4 and 8, and their second spellings, without the sign's bit. Under such a
# "key" a signature can be made without any secret, so that it convicts nobody.
SMALL_ORDER = frozenset(
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
)


class Library(NamedTuple):
    """The modules of ``cryptography`` that are needed here."""

    ed25519: ModuleType
    exceptions: ModuleType
    serialization: ModuleType


def library() -> Library:
    """Import them, late: who signs nothing needs none of it.

    Raises:
        MissingExtraError: cryptography is not installed.
    """
    try:
        from cryptography import exceptions
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtraError("cryptography", "audit") from error
    return Library(ed25519, exceptions, serialization)


def fingerprint_of(public: bytes) -> str:
    """``sha256:`` and 64 hex digits of a raw public key."""
    return "sha256:" + hashlib.sha256(public).hexdigest()


def parse_fingerprint(text: str) -> str:
    """A fingerprint as it was typed, in its one spelling.

    Raises:
        ConfigError: not 64 hex digits; a part of a fingerprint pins nothing.
    """
    digits = re.sub(r"[\s:]", "", text.strip().lower().removeprefix("sha256:"))
    if not re.fullmatch("[0-9a-f]{64}", digits):
        raise ConfigError(
            f"fingerprint {text[:100]!r}", "is not a whole SHA-256",
            "sha256: and 64 hex digits, as the signer made it known",
        )  # fmt: skip
    return "sha256:" + digits


def weak(public: bytes) -> bool:
    """Whether anyone could sign under this public key, as it is a point of small order."""
    return public[:-1] + bytes([public[-1] & 0x7F]) in SMALL_ORDER


def signed_bytes(fingerprint: str, content_sha256: str, files: Mapping[str, str]) -> bytes:
    """The bytes that are signed: canonical JSON, one line, no line end."""
    return canonical_json(
        {
            "algorithm": ED25519,
            "content_sha256": content_sha256,
            "files": dict(files),
            "fingerprint": fingerprint,
            "format": FORMAT,
        }
    )


@dataclass(frozen=True, repr=False)
class Ed25519Signer:
    """Ed25519 under a private key.

    Attributes:
        private: the key; never shown.
    """

    private: Ed25519PrivateKey

    @property
    def public(self) -> bytes:
        """The 32 raw bytes of the public key."""
        return self.private.public_key().public_bytes_raw()

    @property
    def signed_by(self) -> SignedBy:
        """Its algorithm, and the fingerprint of its public key."""
        return SignedBy(ED25519, fingerprint_of(self.public), public=True)

    def sign(self, content_sha256: str, files: Mapping[str, str]) -> dict[str, str]:
        """The signature over the hashes, with the public key to check it."""
        fingerprint = fingerprint_of(self.public)
        value = self.private.sign(signed_bytes(fingerprint, content_sha256, files))
        return {
            "algorithm": ED25519,
            "public_key": base64.b64encode(self.public).decode(),
            "fingerprint": fingerprint,
            "value": base64.b64encode(value).decode(),
        }


def _exactly(text: str, length: int) -> bytes | None:
    """Base64 in its one spelling, or None: no other spelling may pass for the same bytes."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == length and base64.b64encode(raw).decode() == text else None


def fault(signature: Mapping[str, Any], content_sha256: str, files: Mapping[str, str]) -> str:
    """What is wrong with a signature under the public key that it carries; empty for nothing.

    Args:
        signature: with ``public_key``, ``fingerprint`` and ``value``, whatever they hold.
        content_sha256: hash of the record.
        files: hashes of the pages.

    Raises:
        MissingExtraError: cryptography is not installed.
    """
    crypto = library()
    public = _exactly(str(signature["public_key"]), KEY_BYTES)
    value = _exactly(str(signature["value"]), 2 * KEY_BYTES)
    if public is None or value is None:
        return "the signature or its public key is not written as it was"
    if signature["fingerprint"] != fingerprint_of(public):
        return "the fingerprint is not that of the public key beside it"
    if weak(public):
        return "its public key is one under which anyone can sign"
    try:
        key = crypto.ed25519.Ed25519PublicKey.from_public_bytes(public)
        key.verify(value, signed_bytes(str(signature["fingerprint"]), content_sha256, files))
    except (crypto.exceptions.InvalidSignature, ValueError):
        return "the signature does not verify"
    return ""
