"""Findings about accounts and communities, as the ladder is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from overproof.config.guard import GuardConfig, LadderConfig, LooksConfig
from overproof.guard.ladder import Ladder
from overproof.guard.parts import Family, Finding
from overproof.records.traffic import Evidence

KEY = b"sixteen bytes and more"
HOUR_S, DAY_S = 3600.0, 86400.0
# One in a thousand, so that the numbers of the tests read easily.
CONFIG = GuardConfig(
    looks=LooksConfig(false_positive_rate=0.001), ladder=LadderConfig(family_p=0.05, strong=0.1)
)
TWO = {Family.TEXT: 0.001, Family.USE: 0.01, Family.SAMPLING: 0.7}
ONE = {Family.TEXT: 0.0001, Family.USE: 0.2, Family.SAMPLING: 0.7}


@dataclass
class Account:
    index: int
    account: str
    org: str | None = None
    declared_use: str | None = None
    tokens_out: int = 1000
    known_since: float = 0.0


def found(
    at: float, p: float = 0.0005, families: dict[Family, float] = TWO, **more: object
) -> Finding:
    evidence = (
        Evidence("hours", "use", "24 of 24 hours", 0.01),
        Evidence("injection", "text", "one opening in 90 % of requests", 0.001),
    )
    plain = Finding("account", (0,), at, 9.0, p, 50.0, 5000, families, evidence, "pro",
                    p_now=p, assumption="exchangeable")  # fmt: skip
    return replace(plain, **more)  # type: ignore[arg-type]


def together(
    at: float, p: float = 0.0005, families: dict[Family, float] = TWO, **more: object
) -> Finding:
    return found(at, p, families, **{"kind": "community", "subject": "c1"} | more)


def knowing(*accounts: Sequence[Account]) -> Ladder:
    """A ladder that knows these accounts and no others."""
    ladder = Ladder(CONFIG)
    ladder.known = [one for some in accounts for one in some]
    return ladder
