"""Many organisations behind one crowd.

The chance that two members drawn without replacement belong to different organisations and payers
(Simpson 1949, unbiased). A declared company with many keys has 0: one organisation, one payer.
"""

from __future__ import annotations

import numpy as np

from overproof.guard.crowd import percent
from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL"]


def _measure(community: Community) -> float:
    names = [one.org or one.payer or one.account for one in community.members]
    total = len(names)
    if total < 2:
        return float("nan")
    counts = np.unique(np.array(names), return_counts=True)[1]
    return 1.0 - float((counts * (counts - 1)).sum()) / (total * (total - 1))


def _detail(community: Community) -> str:
    return f"two members are of different organisations in {percent(_measure(community))} of pairs"


SIGNAL = CommunitySignal("org_spread", Family.NETWORK, _measure, _detail)
