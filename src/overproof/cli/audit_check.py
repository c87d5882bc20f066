"""``overproof audit check`` and ``overproof audit signing-key``: whose verdict is this, really?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from overproof.api.audit_checks import AuditCheck

__all__ = ["check_command", "signing_key_command"]

SIGNS = {"holds": "+", "does not hold": "!", "not checked": "?"}
WIDTH = 16


def check_command(
    folder: Annotated[Path, typer.Argument(help="With verdict.json and its pages.")],
    *,
    public_key: Annotated[
        Path | None, typer.Option(help="The signer's public key (PEM), got by another way.")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="Or its fingerprint, sha256:…, got by another way.")
    ] = None,
    key_env: Annotated[
        str | None, typer.Option(help="Or the variable with the shared secret (HMAC).")
    ] = None,
    plan_hash: Annotated[
        str | None, typer.Option(help="The plan's hash, as it was published before the data.")
    ] = None,
    case: Annotated[
        Path | None, typer.Option(help="With plan and findings.  [default: FOLDER]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check a verdict's signature and all that it rests on. Exit code 1 where not verified."""
    from dataclasses import asdict

    from overproof.api.audit_checks import audit_check
    from overproof.report.audit_view import shown

    found = audit_check(
        folder, public_key=public_key, fingerprint=fingerprint, key_env=key_env,
        plan_hash=plan_hash, case=case,
    )  # fmt: skip
    if as_json:
        body = {"verified": found.verified, "verdict": found.says,
                "signed_by": None if found.signed_by is None else asdict(found.signed_by),
                "checks": [asdict(line) for line in found.lines]}  # fmt: skip
        typer.echo(json.dumps(body, indent=2, ensure_ascii=True))
    else:
        for line in found.lines:
            # Names and reasons come from the files of a stranger: nothing that a terminal obeys.
            subject = shown(line.subject).ljust(WIDTH)
            typer.echo(f"{SIGNS[line.state.value]} {subject} {shown(line.words)}")
        says = f"; the verdict: {found.says}" if found.says else ""
        typer.echo(f"{_said(found)}{says}")
    if not found.verified:
        raise typer.Exit(1)


def _said(found: AuditCheck) -> str:
    """The outcome in a line; what was left open is never passed over."""
    if found.failed:
        return "NOT VERIFIED: what is marked with ! does not hold"
    if not found.verified:
        return "NOT VERIFIED: nothing was found wrong, and what is marked with ? is still open"
    return "VERIFIED, but for what is marked with ?" if found.left_open else "VERIFIED"


def signing_key_command(
    *,
    out: Annotated[Path, typer.Option(help="The private key's file; the public one is FILE.pub.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make an Ed25519 key pair to sign verdicts with; never overwrites one."""
    from overproof.report.audit_key_files import write_key_pair

    pair = write_key_pair(out)
    if as_json:
        body = {"private": str(pair.private), "public": str(pair.public),
                "fingerprint": pair.fingerprint}  # fmt: skip
        typer.echo(json.dumps(body, indent=2))
        return
    typer.echo(f"private key → {pair.private} (readable by you alone; keep it, and keep it secret)")
    typer.echo(f"public key  → {pair.public}")
    typer.echo(
        f"make this fingerprint known now, by another way than a verdict:\n{pair.fingerprint}"
    )
