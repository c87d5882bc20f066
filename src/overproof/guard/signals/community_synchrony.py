"""Active together beyond their own habits and everybody's hours (after SynchroTrap, CCS 2014).

The mean correlation, over pairs of members, of activity by half hour, less what each account does
at that half hour on other days and what everybody does then. A mean over pairs: unlike a sum it
does not grow with the community.
"""

from __future__ import annotations

import numpy as np

from overproof.guard.parts import Community, CommunitySignal, Family
from overproof.guard.synchrony import expected

__all__ = ["SIGNAL"]

LEAST_SLOTS = 8


def _measure(community: Community) -> float:
    facts = community.facts
    if facts is None:
        return float("nan")
    active = facts.active[(facts.active > 0).sum(axis=1) >= LEAST_SLOTS]
    if len(active) < 2:
        return float("nan")
    on, chance = expected(active, facts.population.shape)
    rest = on - chance
    unit = rest / np.maximum(np.sqrt((rest * rest).sum(axis=1)), 1e-9)[:, None]
    together = unit.sum(axis=0)
    every = float((together * together).sum())
    alone = float((unit * unit).sum())
    return (every - alone) / (len(active) * (len(active) - 1))


def _detail(community: Community) -> str:
    return f"members are active in the same half hours, correlation {_measure(community):.3f}"


SIGNAL = CommunitySignal("synchrony", Family.COORDINATION, _measure, _detail)
