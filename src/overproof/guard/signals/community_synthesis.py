"""Asking for instructions, questions and answers to train on, across a whole community."""

from __future__ import annotations

from overproof.guard.crowd import percent, trait_share
from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL"]


def _measure(community: Community) -> float:
    return trait_share(community, lambda one: one.synthesis)


def _detail(community: Community) -> str:
    return (
        f"{percent(_measure(community))} of a member's requests, on average: asks for training data"
    )


SIGNAL = CommunitySignal("group_synthesis", Family.TEXT, _measure, _detail)
