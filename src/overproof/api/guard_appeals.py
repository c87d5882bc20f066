"""Appeals: writing a decision down."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from overproof.errors import ConfigError, SecretError

if TYPE_CHECKING:
    from overproof.guard.appeals import Appeal

__all__ = ["AUDIT_KEY", "guard_appeal"]

AUDIT_KEY = "OVERPROOF_AUDIT_KEY"


def guard_appeal(
    file: Path,
    account: str,
    *,
    outcome: str,
    action: str,
    decided_by: str,
    reason: str,
    at: float | None = None,
    audit_share: float = 0.1,
    key_env: str = AUDIT_KEY,
) -> Appeal:
    """Add one decided appeal to a file, all of it or nothing.

    `guard_replay` and `guard_calibrate` read such files. Whether the account is in the audit is
    drawn as ``Appeals(key, audit_share).audited(account)`` says.

    Args:
        file: one appeal a line; made where there is none.
        account: who appealed, as the log names it.
        outcome: ``upheld`` or ``rejected``.
        action: what the account stood under, such as ``verify``.
        decided_by: the person who answers for it.
        reason: in words.
        at: when it was decided, seconds since the epoch; now where None.
        audit_share: of all accounts, that the audit's draw picks.
        key_env: the environment variable that holds the key of the draw.

    Returns:
        What was written.

    Raises:
        ConfigError: an unknown outcome or action, an empty field, no time, a key that could be
            guessed, a share outside (0, 1], or a file that nothing can be added to.
        DataError: a line that is there already is no appeal.
        SecretError: the key is not in the environment.
        OSError: a full disk, a missing permission; the file is as it was.
    """
    from overproof.api.guard import need_guard

    need_guard()
    from overproof.guard.appeal_files import add_appeal
    from overproof.guard.appeals import AppealOutcome, Appeals
    from overproof.records.traffic import Action

    ends = [str(one) for one in AppealOutcome]
    _one_of("--outcome", outcome, ends)
    _one_of("--action", action, [str(one) for one in Action])
    for option, said in (("--account", account), ("--by", decided_by), ("--reason", reason)):
        if not said.strip():
            raise ConfigError(option, "is empty", "say who appealed, who decided, and why")
    key = os.environb.get(os.fsencode(key_env), b"").strip()
    if not key:
        raise SecretError(
            key_env,
            "the key of the audit's draw is not in the environment",
            f"set it, and keep it: export {key_env}=$(openssl rand -hex 32)",
        )
    decided = Appeals(key, audit_share).decide(
        account,
        time.time() if at is None else at,
        outcome=AppealOutcome(outcome),
        action=Action(action),
        decided_by=decided_by,
        reason=reason,
    )
    add_appeal(file, decided)
    return decided


def _one_of(option: str, said: str, known: list[str]) -> None:
    if said not in known:
        raise ConfigError(option, f"is {said[:80]!r}", f"write one of {', '.join(known)}")
