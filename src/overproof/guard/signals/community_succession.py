"""A new pool takes over after bans (Anthropic, CISA AA26-251A).

The share of members, not blocked themselves, that use a thing known from blocked accounts. A thing
counts from the time of the ban, and members that came up to a week before it or later.
"""

from __future__ import annotations

import numpy as np

from overproof.guard.crowd import percent
from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL"]

WEEK_S = 7 * 86400.0


def _measure(community: Community) -> float:
    facts = community.facts
    if facts is None or facts.banned.all():
        return float("nan")
    first = np.array([one.first_seen for one in community.members])
    heir = np.zeros(len(community.members), dtype=np.bool_)
    for thing in facts.things:
        if thing.banned == thing.banned:
            late = first[thing.users] >= thing.banned - WEEK_S
            heir[thing.users[late]] = True
    free = ~facts.banned
    return float(heir[free].mean())


def _detail(community: Community) -> str:
    return f"{percent(_measure(community))} of members took up what blocked accounts had used"


SIGNAL = CommunitySignal("succession", Family.COORDINATION, _measure, _detail)
