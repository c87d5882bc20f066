"""Different organisations with one payer (Anthropic, February 2026).

One declared company with one payer has one organisation, and is not counted.
"""

from __future__ import annotations

from overproof.guard.crowd import network_share, percent
from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL"]


def _measure(community: Community) -> float:
    return network_share(community, "payer")


def _detail(community: Community) -> str:
    return f"{percent(_measure(community))} of members share a payer with another organisation"


SIGNAL = CommunitySignal("shared_payer", Family.NETWORK, _measure, _detail)
