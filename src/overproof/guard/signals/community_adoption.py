"""Members take to a new model in the same hours, and others do not.

The share of members whose first use of some further model falls within one day, less the share of
everybody that is away from its home model in the last week at its most.
"""

from __future__ import annotations

from bisect import bisect_right

from overproof.guard.crowd import percent
from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL"]

DAY_S = 86400.0


def _measure(community: Community) -> float:
    firsts: dict[str, list[float]] = {}
    for one in community.members:
        models = one.models
        if len(models) > 1:
            home = min(seen[0] for seen in models.values())
            for model, (since, _) in models.items():
                if since > home:
                    firsts.setdefault(model, []).append(since)
    most = 0
    for times in firsts.values():
        times.sort()
        together = [bisect_right(times, at + DAY_S) - place for place, at in enumerate(times)]
        most = max(most, *together)
    common = 0.0 if community.facts is None else float(community.facts.population.away.max())
    return most / len(community.members) - common


def _detail(community: Community) -> str:
    return (
        f"{percent(_measure(community))} more members than elsewhere took to one new model "
        "within a day"
    )


SIGNAL = CommunitySignal("adoption", Family.COORDINATION, _measure, _detail)
