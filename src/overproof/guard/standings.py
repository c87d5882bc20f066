"""Where each subject and each account stands on the ladder, and until when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from overproof.config.guard import LadderConfig
from overproof.guard.parts import Decision
from overproof.records.traffic import Action

__all__ = [
    "Hold",
    "Standing",
    "held_from",
    "held_plain",
    "highest",
    "lasts_s",
    "renewed",
    "risen",
    "standing_at",
    "standings_from",
    "standings_plain",
    "unlapsed",
]

HOUR_S = 3600.0
DAY_S = 86400.0


@dataclass(slots=True)
class Hold:
    """What one subject's verdict means for one of its members.

    Attributes:
        action: the rung.
        since: when this member, not its community, came to that rung, event time.
        expires_at: when it falls to ``watch``, unless renewed.
        reasons: in words.
        members: of an organisation that is held as such, its accounts that evidence is about.
    """

    action: Action
    since: float
    expires_at: float
    reasons: tuple[str, ...]
    members: tuple[str, ...] = ()


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


Key = TypeVar("Key")
Held = TypeVar("Held", Hold, Standing)


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


def highest(holds: Iterable[Hold], now: float, config: LadderConfig) -> Decision:
    """The highest rung of several, and the first of equals."""
    best = Decision()
    for hold in holds:
        action, until = standing_at(hold, now, config)
        if action.rung > best.action.rung:
            best = Decision(action, hold.since, until, hold.reasons)
    return best


def unlapsed(held: Mapping[Key, Held], now: float, config: LadderConfig) -> dict[Key, Held]:
    """Those that have not fallen off the ladder."""
    return {
        key: one for key, one in held.items() if standing_at(one, now, config)[0] is not Action.LOG
    }


def renewed(
    before: Hold | None, action: Action, now: float, reasons: tuple[str, ...], config: LadderConfig
) -> Hold:
    """A member held to ``action`` from now on; whoever stood there already has stood as long."""
    stays = before is not None and standing_at(before, now, config)[0] is action
    since = before.since if before is not None and stays else now
    return Hold(action, since, now + lasts_s(action, config), reasons)


def risen(held: Hold | Standing, now: float, config: LadderConfig, *, may_block: bool) -> Action:
    """Where a renewal leads from here."""
    stood = now - held.since
    if held.action is Action.VERIFY:
        answered = stood < config.answer_days * DAY_S
        return Action.VERIFY if answered or not may_block else Action.BLOCK
    if stood < config.rise_after_h * HOUR_S:
        return held.action
    return list(Action)[min(held.action.rung + 1, Action.BLOCK.rung)]


def held_plain(holds: Mapping[Any, Hold]) -> list[list[Any]]:
    """Holds as plain values for a snapshot, each after its key."""
    return [
        [key, str(one.action), one.since, one.expires_at, list(one.reasons), list(one.members)]
        for key, one in holds.items()
    ]


def held_from(plain: Sequence[Any]) -> dict[Any, Hold]:
    """What `held_plain` gave."""
    return {
        key: Hold(Action(action), since, expires, tuple(reasons), tuple(members))
        for key, action, since, expires, reasons, members in plain
    }


def standings_plain(standings: Mapping[str, Standing]) -> list[list[Any]]:
    """Standings as plain values for a snapshot, each after its key."""
    return [
        [key, str(one.action), one.since, one.expires_at, one.said_until, sorted(one.said_of)]
        for key, one in standings.items()
    ]


def standings_from(plain: Sequence[Any]) -> dict[str, Standing]:
    """What `standings_plain` gave."""
    return {
        key: Standing(Action(action), since, expires, until, set(said))
        for key, action, since, expires, until, said in plain
    }
