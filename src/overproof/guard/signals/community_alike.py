"""Members' rates too much alike: a balancer gives every account its share.

Honest customers differ by orders of magnitude (in ServeGen the ten largest carry 63 to 93 % of
traffic). The log of requests a day has a spread of more than 1 among them; of accounts that draw
from one queue, little more than the noise of counting, which is taken off.
"""

from __future__ import annotations

from math import log

import numpy as np

from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL"]

DAY_S = 86400.0
LEAST_MEMBERS = 3
LEAST_REQUESTS = 5


def _spread(community: Community) -> float:
    """Standard deviation of log requests a day, less the counting noise; NaN for too few."""
    rates: list[float] = []
    noise: list[float] = []
    for one in community.members:
        days = max(float(one.last_seen - one.first_seen) / DAY_S, 0.25)
        if one.requests >= LEAST_REQUESTS:
            rates.append(log(one.requests / days))
            noise.append(1 / one.requests)  # delta method: the variance of the log of a Poisson
    if len(rates) < LEAST_MEMBERS:
        return float("nan")
    variance = float(np.var(rates, ddof=1)) - float(np.mean(noise))
    return float(np.sqrt(max(variance, 0.0)))


def _measure(community: Community) -> float:
    return -float(np.log(_spread(community) + 0.05))


def _detail(community: Community) -> str:
    return f"members' rates differ by a factor of {np.exp(_spread(community)):.2f} (one sigma)"


SIGNAL = CommunitySignal("rates_alike", Family.COORDINATION, _measure, _detail)
