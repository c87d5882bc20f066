"""Hashes and signature of a verdict: what shows that nothing was changed since, and to whom.

``verdict.json`` holds the record, the SHA-256 of its canonical JSON (RFC 8785 where it matters) and
that of both pages. Whoever changes a byte by accident is found out by the hashes; whoever means to
can hash again. A signature is therefore made over the hashes, by one of the signers of
`overproof.report.audit_signers` and `overproof.report.audit_ed25519`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from overproof.errors import DataError
from overproof.records.hashing import content_hash, file_sha256
from overproof.report.audit_ed25519 import ED25519, fault
from overproof.report.audit_signers import FORMAT, HMAC, HmacSigner, SignedBy, Signer

__all__ = [
    "NAME",
    "PAGES",
    "SealCheck",
    "SealState",
    "check_audit_report",
    "document_text",
    "sealed_document",
]

NAME = "verdict.json"
PAGES = ("verdict.html", "verdict.md")
PARTS = {  # of a signature, by its algorithm
    HMAC: {"algorithm", "key_id", "value"},
    ED25519: {"algorithm", "public_key", "fingerprint", "value"},
}


class SealState(StrEnum):
    """What became of the check of a verdict's files."""

    VERIFIED = "signature verified"
    UNSIGNED = "not signed; the hashes agree"
    UNCHECKED = "signed, and no key to check it with; the hashes agree"
    UNPINNED = "signed by the key that it carries; whose key that is was not checked"
    OTHER_KEY = "signed with another key; the hashes agree"
    ALTERED = "altered"


@dataclass(frozen=True)
class SealCheck:
    """The state of a verdict's files, and what is wrong where something is.

    Attributes:
        state: what became of the check.
        reason: what is wrong, where something is.
        signed_by: what the signature names, verified or not; None where there is none, or the
            files were altered.
        record: of ``verdict.json``; empty where the files were altered.
        files: hashes of the pages; likewise.
    """

    state: SealState
    reason: str = ""
    signed_by: SignedBy | None = None
    record: dict[str, Any] = field(default_factory=dict, repr=False)
    files: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def ok(self) -> bool:
        """Whether the signature was verified; hashes alone keep out accidents, not forgers."""
        return self.state is SealState.VERIFIED


def sealed_document(
    record: Mapping[str, Any], pages: Mapping[str, str], signer: Signer | None
) -> dict[str, Any]:
    """The whole of ``verdict.json``.

    Args:
        record: plain JSON values, no NaN.
        pages: name and text of each page beside it.
        signer: signs; None leaves it unsigned.
    """
    content = content_hash(dict(record))
    files = {
        name: "sha256:" + hashlib.sha256(text.encode()).hexdigest() for name, text in pages.items()
    }
    return {
        "format": FORMAT,
        "record": dict(record),
        "content_sha256": content,
        "files": files,
        "signature": None if signer is None else signer.sign(content, files),
    }


def document_text(document: Mapping[str, Any]) -> str:
    """The one way in which a document is written, so that a changed byte is a changed document."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def check_audit_report(
    folder: Path, key: bytes | None = None, *, fingerprint: str | None = None
) -> SealCheck:
    """Check ``verdict.json`` and the pages beside it, byte by byte.

    Args:
        folder: where `write_audit_report` wrote.
        key: the secret that it was signed with.
        fingerprint: of the public key that it should be signed with, from
            `audit_ed25519.parse_fingerprint`. Without either only the hashes are checked, and
            that an Ed25519 signature fits the key that it carries.

    Raises:
        DataError: there is no verdict, or one of another format.
        MissingExtraError: it is signed with Ed25519, and cryptography is not installed.
    """
    path = folder / NAME
    try:
        text = path.read_bytes().decode()
        document = json.loads(text)
        known = document["format"] == FORMAT
    except FileNotFoundError:
        raise DataError(str(path), "no such file", "name the folder of a verdict") from None
    except OSError as error:
        raise DataError(str(path), f"cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(str(path), "is not a verdict", "it is cut off, or another file") from error
    if not known:
        raise DataError(str(path), f"is not of the format {FORMAT}", "take its own version")
    try:
        reason = _damage(folder, document, text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{NAME} lacks a part, or has one of another kind ({error})"
    if reason:
        return SealCheck(SealState.ALTERED, reason)
    found = _check_signature(document, key, fingerprint)
    if found.state is SealState.ALTERED:
        return found
    return replace(found, record=document["record"], files=document["files"])


def _damage(folder: Path, document: Mapping[str, Any], text: str) -> str:
    """The first thing that is not as it was written; empty for nothing."""
    if set(document) != {"format", "record", "content_sha256", "files", "signature"}:
        return f"{NAME} has lost a part, or gained one"
    if not isinstance(document["record"], dict) or not isinstance(document["files"], dict):
        return f"{NAME} has a part of another kind"
    if document_text(document) != text:
        return f"{NAME} is not written as it was"
    if content_hash(document["record"]) != document["content_sha256"]:
        return f"the record in {NAME} does not have the hash that it states"
    if set(document["files"]) != set(PAGES):
        return f"{NAME} does not name {' and '.join(PAGES)}"
    for name in PAGES:
        if (folder / name).exists() and not (folder / name).is_file():
            return f"{name} is not a file"
        try:
            digest = "sha256:" + file_sha256(folder / name)
        except OSError as error:
            return f"{name} cannot be read: {error.strerror or error}"
        if digest != document["files"][name]:
            return f"{name} does not have the hash that {NAME} states"
    return ""


def _altered(reason: str) -> SealCheck:
    return SealCheck(SealState.ALTERED, reason)


def _check_signature(
    document: Mapping[str, Any], key: bytes | None, fingerprint: str | None
) -> SealCheck:
    signature = document["signature"]
    if signature is None:
        return SealCheck(SealState.UNSIGNED)
    if not isinstance(signature, Mapping) or not isinstance(signature.get("algorithm"), str):
        return _altered("the signature has lost a part, or gained one")
    algorithm = signature["algorithm"]
    if algorithm not in PARTS:
        return _altered(f"the signature is neither {' nor '.join(PARTS)}")
    if set(signature) != PARTS[algorithm]:
        return _altered("the signature has lost a part, or gained one")
    if algorithm == ED25519:
        return _check_public(document, signature, fingerprint, key is not None)
    return _check_shared(document, signature, key, fingerprint is not None)


def _check_public(
    document: Mapping[str, Any],
    signature: Mapping[str, Any],
    fingerprint: str | None,
    other: bool,
) -> SealCheck:
    """An Ed25519 signature: first against the key that it carries, then against the pinned one."""
    if wrong := fault(signature, document["content_sha256"], document["files"]):
        return _altered(wrong)
    signed_by = SignedBy(ED25519, str(signature["fingerprint"]), public=True)
    if fingerprint is None and other:
        reason = f"it is signed with {ED25519}, not with a shared key"
        return SealCheck(SealState.OTHER_KEY, reason, signed_by)
    if fingerprint is None:
        return SealCheck(SealState.UNPINNED, "", signed_by)
    if fingerprint != signed_by.name:
        return SealCheck(SealState.OTHER_KEY, f"key {signed_by.name}", signed_by)
    return SealCheck(SealState.VERIFIED, "", signed_by)


def _check_shared(
    document: Mapping[str, Any], signature: Mapping[str, Any], key: bytes | None, other: bool
) -> SealCheck:
    """An HMAC signature against the shared key."""
    signed_by = SignedBy(HMAC, str(signature["key_id"])[:64], public=False)
    if key is None and other:
        reason = f"it is signed with {HMAC}, not with a public key"
        return SealCheck(SealState.OTHER_KEY, reason, signed_by)
    if key is None:
        return SealCheck(SealState.UNCHECKED, "", signed_by)
    signer = HmacSigner(key)
    expected = signer.sign(document["content_sha256"], document["files"])["value"]
    # Compared as bytes: compare_digest refuses strings that are not ASCII.
    given = str(signature["value"]).encode("utf-8", "replace")
    right = hmac.compare_digest(expected.encode(), given)
    if signature["key_id"] != signer.signed_by.name:
        if right:
            return _altered("the name of the key was changed")
        return SealCheck(SealState.OTHER_KEY, f"key {signed_by.name}", signed_by)
    if not right:
        return _altered("the signature does not verify")
    return SealCheck(SealState.VERIFIED, "", signed_by)
