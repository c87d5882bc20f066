"""Different organisations with one device (Anthropic, February 2026).

One declared company with one payer has one organisation, and is not counted.
"""

from __future__ import annotations

from overproof.guard.crowd import network_share, percent
from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL"]


def _measure(community: Community) -> float:
    return network_share(community, "device")


def _detail(community: Community) -> str:
    return f"{percent(_measure(community))} of members share a device with another organisation"


SIGNAL = CommunitySignal("shared_device", Family.NETWORK, _measure, _detail)
