"""Load balancing: the sum is steadier than independent accounts could make it.

Independent members' variances add. From one day to the next of the last week, the variance of the
sum of half-hourly requests is set against the sum of the members' variances. Independent members
give a ratio near 1 whatever their number; one queue of constant rate, dealt out at random, gives
less (the members' shares are negatively correlated); what drives all together gives more.
"""

from __future__ import annotations

import numpy as np

from overproof.guard.activity import SLOTS
from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL"]

PER = 4  # two hours: long enough for a slow account to have a count
LEAST_MEMBERS = 3
LEAST_DAYS = 3


def _ratio(community: Community) -> float:
    """Variance of the sum over the sum of variances, by the same hours of successive days."""
    facts = community.facts
    if facts is None or len(community.members) < LEAST_MEMBERS:
        return float("nan")
    counts = facts.active.reshape(len(facts.active), SLOTS // PER, PER).sum(axis=2, dtype=np.int64)
    total = counts.sum(axis=0)
    begun = np.flatnonzero(total)
    a_day = SLOTS // PER // 7
    if not begun.size or counts.shape[1] - begun[0] < LEAST_DAYS * a_day:
        return float("nan")
    counts = counts[:, begun[0] :]
    steps = counts[:, a_day:] - counts[:, :-a_day]
    each = float((steps.astype(np.float64) ** 2).mean(axis=1).sum())
    both = float((steps.sum(axis=0).astype(np.float64) ** 2).mean())
    return both / each if each > 0 else float("nan")


def _measure(community: Community) -> float:
    ratio = _ratio(community)
    return -float(np.log(ratio + 0.02))


def _detail(community: Community) -> str:
    return (
        f"the sum of members varies {_ratio(community):.2f} times as much as if they were "
        "independent (1 is independent, less is balanced)"
    )


SIGNAL = CommunitySignal("load_balance", Family.COORDINATION, _measure, _detail)
