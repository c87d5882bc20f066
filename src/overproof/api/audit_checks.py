"""Checking a verdict that somebody else made: its files, its signature, and what it rests on.

A check never takes a word for it. The hashes are computed anew, the findings compared with those
that the verdict shows, and the verdict itself drawn from them once more by the planned rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from overproof.api.audit_grounds import CheckLine, CheckState, grounds, line
from overproof.errors import ConfigError, DataError, SecretError

if TYPE_CHECKING:
    from overproof.report.audit_seal import SealCheck
    from overproof.report.audit_signers import SignedBy

__all__ = ["AuditCheck", "CheckLine", "CheckState", "audit_check"]


@dataclass(frozen=True)
class AuditCheck:
    """All checks of one verdict.

    Attributes:
        says: what the verdict says; empty where its files were altered.
        signed_by: with what it is signed; None where it is not, or was altered.
        lines: the checks, in order.
    """

    says: str
    signed_by: SignedBy | None
    lines: tuple[CheckLine, ...]

    @property
    def verified(self) -> bool:
        """Whether everything that must hold was checked, and holds."""
        return all(each.state is CheckState.HOLDS for each in self.lines if each.needed)

    @property
    def left_open(self) -> bool:
        """Whether something was not checked."""
        return any(each.state is CheckState.UNCHECKED for each in self.lines)

    @property
    def failed(self) -> bool:
        """Whether something was found wrong, rather than left unchecked."""
        return any(each.state is CheckState.FAILS for each in self.lines)


def audit_check(
    folder: Path,
    *,
    public_key: Path | None = None,
    fingerprint: str | None = None,
    key_env: str | None = None,
    plan_hash: str | None = None,
    case: Path | None = None,
) -> AuditCheck:
    """Check a verdict against its signature, its plan and its findings.

    Args:
        folder: with ``verdict.json`` and its pages.
        public_key: PEM file of the key that it must be signed with.
        fingerprint: or that key's fingerprint.
        key_env: or the variable with the shared secret.
        plan_hash: the plan's hash as it was published before the data were seen.
        case: the folder of plan and findings, where the verdict was written elsewhere.

    Raises:
        ConfigError: more than one key, or something that is no hash.
        SecretError: the variable with the secret is not set.
        DataError: there is no verdict, or a file cannot be read.
        MissingExtraError: it is signed with Ed25519, and cryptography is not installed.
    """
    from overproof.report.audit_seal import SealState, check_audit_report

    key, pinned = _pinned(public_key, fingerprint, key_env)
    published = None if plan_hash is None else _whole_hash(plan_hash)
    seal = check_audit_report(folder, key, fingerprint=pinned)
    lines = [_files_line(seal)]
    if seal.state is SealState.ALTERED:
        return AuditCheck("", None, tuple(lines))
    lines.append(_signature_line(seal))
    where = folder if case is None else case
    if not where.is_dir():
        raise DataError(str(where), "no such folder", "name the one with the plan and the findings")
    try:
        says, rest = grounds(seal, where, published)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            str(folder / "verdict.json"), f"lacks a part, or has one of another kind ({error})",
            "its hashes agree, but no verdict looks like this",
        ) from error  # fmt: skip
    return AuditCheck(says, seal.signed_by, (*lines, *rest))


def _whole_hash(text: str) -> str:
    digits = text.strip().lower().removeprefix("sha256:")
    if not re.fullmatch("[0-9a-f]{64}", digits):
        raise ConfigError(
            f"--plan-hash {text[:100]!r}", "is not a whole SHA-256",
            "sha256: and 64 hex digits, as it was published",
        )  # fmt: skip
    return "sha256:" + digits


def _pinned(
    public_key: Path | None, fingerprint: str | None, key_env: str | None
) -> tuple[bytes | None, str | None]:
    """The shared secret, or the fingerprint of the public key; neither where none is given."""
    from overproof.report.audit_ed25519 import fingerprint_of, parse_fingerprint
    from overproof.report.audit_key_files import read_public_key
    from overproof.report.audit_signers import audit_key

    if sum(given is not None for given in (public_key, fingerprint, key_env)) > 1:
        raise ConfigError(
            "the signer's key", "is given more than once",
            "one of --public-key, --fingerprint and --key-env",
        )  # fmt: skip
    if public_key is not None:
        return None, fingerprint_of(read_public_key(public_key))
    if fingerprint is not None:
        return None, parse_fingerprint(fingerprint)
    if key_env is None:
        return None, None
    key = audit_key(name=key_env)
    if key is None:
        raise SecretError(
            f"environment variable {key_env}", "is not set or empty",
            "put the shared key there before checking",
        )  # fmt: skip
    return key, None


def _files_line(seal: SealCheck) -> CheckLine:
    from overproof.report.audit_seal import SealState

    return line(
        "files", seal.state is not SealState.ALTERED,
        "verdict.html, verdict.md and the record in verdict.json have the hashes stated",
        f"the verdict was altered: {seal.reason}",
    )  # fmt: skip


def _signature_line(seal: SealCheck) -> CheckLine:
    """The signature in words; a key that nobody named verifies nothing."""
    from overproof.report.audit_seal import SealState

    by = seal.signed_by
    name = "" if by is None else f"{by.algorithm}, key {by.name}"
    state, words = {
        SealState.VERIFIED: (CheckState.HOLDS, f"signed by the key that you named ({name})"),
        SealState.UNSIGNED: (
            CheckState.FAILS,
            "there is none: whoever has these files can have written them",
        ),
        SealState.UNCHECKED: (
            CheckState.UNCHECKED,
            f"there is one ({name}); only who holds the secret can check it: give --key-env",
        ),
        SealState.UNPINNED: (
            CheckState.UNCHECKED,
            f"consistent, and signed by some key ({name}); whose key that is, the file cannot "
            "tell: get the signer's fingerprint by another way and give it with --fingerprint",
        ),
        SealState.OTHER_KEY: (
            CheckState.FAILS,
            f"not signed by the key that you named: {seal.reason}",
        ),
    }[seal.state]
    return CheckLine("signature", state, words)
