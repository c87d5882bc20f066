"""Eliciting the chain of thought, across a community (Anthropic, GTIG, CISA AA26-251A)."""

from __future__ import annotations

from overproof.guard.crowd import percent, trait_share
from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL"]


def _measure(community: Community) -> float:
    return trait_share(community, lambda one: one.elicitation)


def _detail(community: Community) -> str:
    return f"{percent(_measure(community))} of requests ask for reasoning to be written out"


SIGNAL = CommunitySignal("group_elicitation", Family.TEXT, _measure, _detail)
