"""Writing the verdict of an audit: ``verdict.html``, ``verdict.md`` and ``verdict.json``.

The JSON holds the attestation, the findings, the plan and the digests of the data as they were
given, and the hashes and the signature of `overproof.report.audit_seal`. It is written last, so
that a verdict never vouches for pages that are not there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from overproof import __version__
from overproof.config.audit import AuditPlan
from overproof.errors import RunError
from overproof.records.audit import TestFinding
from overproof.records.files import write_atomically
from overproof.records.hashing import content_hash
from overproof.report.audit_html import render_audit_html
from overproof.report.audit_markdown import render_audit_markdown
from overproof.report.audit_seal import NAME, PAGES, document_text, sealed_document
from overproof.report.audit_signers import SignedBy, Signer
from overproof.report.audit_view import AuditView, view_of

__all__ = ["AuditReportPaths", "pages_of", "write_audit_report"]


class AuditReportPaths(NamedTuple):
    """Where the three faces of a verdict lie."""

    html: Path
    markdown: Path
    json: Path


def _plain(value: Any) -> Any:
    """``value`` as JSON holds it: what is not a number by its name, no lone surrogates.

    Raises:
        TypeError: a value of a kind that JSON does not have.
    """
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return _plain(value.tolist())
    raise TypeError(f"a verdict cannot hold {type(value).__name__}")


def pages_of(
    record: Mapping[str, Any],
    findings: Mapping[str, TestFinding],
    signed_by: SignedBy | None,
) -> dict[str, str]:
    """The pages of a verdict, by their names, as they follow from its record.

    Args:
        record: of ``verdict.json``.
        findings: of the record, read.
        signed_by: with what it is signed.

    Raises:
        DataError: its parts do not agree.
    """
    plan = AuditPlan.model_validate(record["plan"])
    view = view_of(
        record["attestation"], findings, plan=plan, data=record["data"],
        made_at=record["made_at"], version=record["overproof"],
    )  # fmt: skip
    return _drawn(view, content_hash(record), signed_by)


def _drawn(view: AuditView, content: str, signed_by: SignedBy | None) -> dict[str, str]:
    texts = (
        render_audit_html(view, content_sha256=content, signed_by=signed_by),
        render_audit_markdown(view, content_sha256=content, signed_by=signed_by),
    )
    return dict(zip(PAGES, texts, strict=True))


def write_audit_report(
    attestation: Mapping[str, Any],
    findings: Mapping[str, TestFinding],
    out: Path,
    *,
    plan: AuditPlan,
    data: Sequence[Mapping[str, Any]] = (),
    finding_files: Mapping[str, str] | None = None,
    signer: Signer | None = None,
    made_at: str | None = None,
) -> AuditReportPaths:
    """Write a verdict as a page, as Markdown and for machines.

    Args:
        attestation: the ``to_json()`` of what `attest` returned.
        findings: by the test's name in the plan, as they were attested.
        out: the folder; made where it is not there.
        plan: as sealed.
        data: digests of what was tested: ``{test, at, files: {name: hash}}``.
        finding_files: of each finding the ``sha256:…`` of its file's bytes, where it has one.
        signer: signs, an `HmacSigner` or an `Ed25519Signer`. None leaves the verdict unsigned,
            and it says so.
        made_at: ISO 8601; now where None, left out where empty.

    Returns:
        The paths written.

    Raises:
        DataError: attestation, findings and plan do not agree.
        RunError: the folder cannot be written to.
    """
    made = datetime.now(UTC).isoformat(timespec="seconds") if made_at is None else made_at
    record = _plain(
        {
            "made_at": made,
            "overproof": __version__,
            "attestation": attestation,
            "findings": {name: finding.to_json() for name, finding in findings.items()},
            "finding_files": dict(finding_files or {}),
            "plan": plan.model_dump(mode="json"),
            "data": list(data),
        }
    )
    view = view_of(attestation, findings, plan=plan, data=data, made_at=made, version=__version__)
    pages = _drawn(view, content_hash(record), None if signer is None else signer.signed_by)
    document = document_text(sealed_document(record, pages, signer))
    paths = AuditReportPaths(out / PAGES[0], out / PAGES[1], out / NAME)
    for path, text in zip(paths, (*pages.values(), document), strict=True):
        try:
            write_atomically(path, text)
        except OSError as error:
            raise RunError(
                str(path),
                f"cannot be written: {error.strerror or error}",
                "make room or name another folder, and write the verdict again",
            ) from error
    return paths
