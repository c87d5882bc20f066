"""Many samples of the same prompt, across a community (OpenThoughts samples 16 a question).

The mean over members of requests that repeat a recent prompt, ask for several samples, or ask for
log-probabilities.
"""

from __future__ import annotations

from overproof.guard.crowd import one_vote_each, percent
from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL"]

LEAST_REQUESTS = 3


def _measure(community: Community) -> float:
    return one_vote_each(
        [
            min((one.repeats + one.sampled + one.logprobs) / one.requests, 1.0)
            for one in community.members
            if one.requests >= LEAST_REQUESTS
        ]
    )


def _detail(community: Community) -> str:
    return (
        f"{percent(_measure(community))} of requests repeat a prompt, ask for several samples "
        "or for log-probabilities"
    )


SIGNAL = CommunitySignal("group_sampling", Family.SAMPLING, _measure, _detail)
