"""Accounts made close together.

Minus the log of the median distance of members' creation from their median, in units of 30 days.
"""

from __future__ import annotations

import numpy as np

from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL"]

HOUR_S = 3600.0
MONTH_S = 30 * 24 * HOUR_S
LEAST_MEMBERS = 3


def _spread(community: Community) -> float:
    created = np.array([one.created for one in community.members], dtype=np.float64)
    created = created[~np.isnan(created)]
    if created.size < LEAST_MEMBERS:
        return float("nan")
    return float(np.median(np.abs(created - np.median(created))))


def _measure(community: Community) -> float:
    return -float(np.log((_spread(community) + HOUR_S) / MONTH_S))


def _detail(community: Community) -> str:
    return f"half of the members were made within {_spread(community) / HOUR_S:.1f} h of each other"


SIGNAL = CommunitySignal("creation_burst", Family.COORDINATION, _measure, _detail)
