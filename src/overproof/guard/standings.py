"""Where each subject and each account stands on the ladder, and until when."""

from __future__ import annotations

from dataclasses import dataclass

from overproof.config.guard import LadderConfig
from overproof.records.traffic import Action

__all__ = ["Hold", "Standing", "lasts_s", "standing_at"]

DAY_S = 86400.0


@dataclass(slots=True)
class Hold:
    """What one subject's verdict means for one of its members.

    Attributes:
        action: the rung.
        since: when it came to that rung, event time.
        expires_at: when it falls to ``watch``, unless renewed.
        reasons: in words.
    """

    action: Action
    since: float
    expires_at: float
    reasons: tuple[str, ...]


@dataclass(slots=True)
class Standing:
    """One subject's rung, and what was last said of it.

    Attributes:
        said_until: the expiry that the last verdict named.
        said_of: the members that verdicts of this rung have named.
    """

    action: Action
    since: float
    expires_at: float
    said_until: float
    said_of: set[str]


def lasts_s(action: Action, config: LadderConfig) -> float:
    """How long a rung lasts unless renewed, in seconds."""
    days = {
        Action.LOG: 0.0,
        Action.WATCH: config.watch_days,
        Action.SOFTEN: config.soften_days,
        Action.WITHHOLD: config.withhold_days,
        Action.VERIFY: config.verify_days,
        Action.BLOCK: config.block_days,
    }
    return days[action] * DAY_S


def standing_at(held: Hold | Standing, now: float, config: LadderConfig) -> tuple[Action, float]:
    """The rung at ``now`` and its expiry: one that was not renewed falls to ``watch``, then off."""
    if now < held.expires_at:
        return held.action, held.expires_at
    later = held.expires_at + lasts_s(Action.WATCH, config)
    if held.action.rung > Action.WATCH.rung and now < later:
        return Action.WATCH, later
    return Action.LOG, later
