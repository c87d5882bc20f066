"""The same rare instruction across accounts (Anthropic, February and September 2026).

The share of requests that carry the community's most used rare thing of text, every owner with one
vote: a pool puts one instruction into nearly all it asks; users of a framework share the frame of a
few requests, and what they ask differs.
"""

from __future__ import annotations

import numpy as np

from overproof.guard.crowd import owner_weights, percent
from overproof.guard.parts import Community, CommunitySignal, Family
from overproof.guard.shared import TEXT_KINDS

__all__ = ["SIGNAL"]


def _top(community: Community) -> tuple[float, str, int]:
    """Share of requests, kind and number of users of the most used thing."""
    facts = community.facts
    sketched = np.array([one.sketched for one in community.members], dtype=np.float64)
    if facts is None or not sketched.any():
        return float("nan"), "", 0
    weights = owner_weights(community)
    best = (0.0, "", 0)
    for thing in facts.things:
        if thing.kind in TEXT_KINDS and np.unique(facts.owners[thing.users]).size > 1:
            shares = np.minimum(thing.uses / np.maximum(sketched[thing.users], 1.0), 1.0)
            share = float((shares * weights[thing.users]).sum())
            best = max(best, (share, thing.kind, len(thing.users)))
    return best


def _detail(community: Community) -> str:
    share, kind, users = _top(community)
    members = len(community.members)
    return f"{users} of {members} accounts share a rare {kind}: {percent(share)} of requests"


SIGNAL = CommunitySignal("injection", Family.TEXT, lambda community: _top(community)[0], _detail)
