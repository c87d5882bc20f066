"""How rare what ties the members is: nats of the edges of the median member's heaviest thing."""

from __future__ import annotations

import numpy as np

from overproof.guard.parts import Community, CommunitySignal, Family
from overproof.guard.shared import TEXT_KINDS

__all__ = ["SIGNAL"]


def _measure(community: Community) -> float:
    facts = community.facts
    if facts is None:
        return float("nan")
    heaviest = np.zeros(len(community.members))
    for thing in facts.things:
        if thing.kind in TEXT_KINDS:
            heaviest[thing.users] = np.maximum(heaviest[thing.users], thing.weight)
    return float(np.median(heaviest))


def _detail(community: Community) -> str:
    chance = np.exp(-_measure(community))
    return f"the chance that an unrelated account has the same text is about {chance:.1g}"


SIGNAL = CommunitySignal("rarity", Family.TEXT, _measure, _detail)
