"""``overproof guard appeal``: one decided appeal into a file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["appeal_command"]

DAY_S = 86_400.0


def appeal_command(
    file: Annotated[Path, typer.Argument(help="Decided appeals (JSON Lines); made if missing.")],
    *,
    account: Annotated[str, typer.Option(help="Who appealed, as the log names it.")],
    outcome: Annotated[str, typer.Option(help="What came of it: upheld or rejected.")],
    action: Annotated[str, typer.Option(help="What the account stood under, such as verify.")],
    by: Annotated[str, typer.Option("--by", help="Who decided, and answers for it.")],
    reason: Annotated[str, typer.Option(help="Why, in words.")],
    at: Annotated[
        str | None,
        typer.Option(help="When, such as 2026-03-05T10:00Z, or in seconds.  [default: now]"),
    ] = None,
    audit_share: Annotated[
        float, typer.Option(help="The share of all accounts that the audit's draw picks.")
    ] = 0.1,
    key_env: Annotated[
        str, typer.Option(help="The environment variable with the key of the audit's draw.")
    ] = "OVERPROOF_AUDIT_KEY",
) -> None:
    """Write down what came of an appeal, for replay --appeals and calibrate --appeals."""
    import time

    from overproof.api.guard_appeals import guard_appeal

    decided = guard_appeal(
        file,
        account,
        outcome=outcome,
        action=action,
        decided_by=by,
        reason=reason,
        at=None if at is None else _seconds(at),
        audit_share=audit_share,
        key_env=key_env,
    )
    if decided.at > time.time() + DAY_S:
        typer.echo(f"warning: --at: {at} is over a day ahead: it counts from then on", err=True)
    drawn = "in the audit" if decided.audited else "not in the audit"
    when = datetime.fromtimestamp(decided.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    typer.echo(f"{decided.outcome} at {when} UTC, {drawn} → {file}")


def _seconds(text: str) -> float:
    """A date with a time, in UTC where it names no zone, or seconds since the epoch."""
    from overproof.errors import ConfigError

    try:
        return float(text)
    except ValueError:
        pass
    try:
        if not {"T", " "} & set(text):
            raise ValueError("a day alone")
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ConfigError(
            "--at", f"{text[:40]!r} is no date with a time", "write 2026-03-05T10:00Z"
        ) from None
