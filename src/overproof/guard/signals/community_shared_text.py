"""How much of what members ask carries anything rare that they share.

A pool that paraphrases has no one template, but all its templates together are most of its work.
"""

from __future__ import annotations

import numpy as np

from overproof.guard.crowd import coverage_by_kind, owner_weights, percent
from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL"]


def _measure(community: Community) -> float:
    kinds = coverage_by_kind(community)
    if not kinds:
        return float("nan")
    weights = owner_weights(community)
    found = []
    for shares in kinds.values():
        seen = ~np.isnan(shares)
        if seen.any():
            share = float((shares[seen] * weights[seen]).sum() / weights[seen].sum())
            found.append(share)
    return max(found, default=float("nan"))


def _detail(community: Community) -> str:
    return f"{percent(_measure(community))} of requests carry something rare that members share"


SIGNAL = CommunitySignal("shared_text", Family.TEXT, _measure, _detail)
