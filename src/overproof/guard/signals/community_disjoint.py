"""How far members' content overlaps: high among evaluators of one benchmark, low in a pool.

Negative, so that higher is more suspicious: it speaks for a group that repeats.
"""

from __future__ import annotations

from overproof.guard.parts import Community, CommunitySignal, Family
from overproof.guard.signals.community_coverage import disjoint

__all__ = ["SIGNAL"]


def _detail(community: Community) -> str:
    return f"members' last turns overlap by {100 * (1 - disjoint(community)):.1f} %"


SIGNAL = CommunitySignal("disjoint_turns", Family.COVERAGE, disjoint, _detail)
