"""Different organisations with one address (Anthropic, February 2026).

One declared company with one payer has one organisation, and is not counted.
"""

from __future__ import annotations

from overproof.guard.crowd import network_share, percent
from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL"]


def _measure(community: Community) -> float:
    return network_share(community, "address")


def _detail(community: Community) -> str:
    return f"{percent(_measure(community))} of members share a address with another organisation"


SIGNAL = CommunitySignal("shared_address", Family.NETWORK, _measure, _detail)
