"""New accounts at full use from their first day (CISA AA26-251A).

The mean over members of first-day requests over the daily mean of the days after, squashed to 0–1.
57 % of a cloud's new tenants reached 80 % of their peak on day one, so alone it says little.
"""

from __future__ import annotations

from overproof.guard.crowd import one_vote_each, percent
from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL"]

DAY_S = 86400.0
LEAST_REQUESTS = 5


def _measure(community: Community) -> float:
    shares = []
    for one in community.members:
        made = one.created if one.created == one.created else one.first_seen
        full_days = int((community.now - one.first_seen) // DAY_S)
        later = list(one.daily[1:full_days])
        fresh = one.first_seen - made < 2 * DAY_S
        if fresh and later and sum(later) >= LEAST_REQUESTS:
            usual = sum(later) / len(later)
            shares.append(one.daily[0] / (one.daily[0] + usual))
    return one_vote_each(shares)


def _detail(community: Community) -> str:
    return f"first day against later days of new members: {percent(_measure(community))}"


SIGNAL = CommunitySignal("group_first_day", Family.USE, _measure, _detail)
