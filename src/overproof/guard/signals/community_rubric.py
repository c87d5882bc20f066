"""Grading by rubric, across a community: a reward model is harvested (Anthropic, Feb 2026)."""

from __future__ import annotations

from overproof.guard.crowd import percent, trait_share
from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL"]


def _measure(community: Community) -> float:
    return trait_share(community, lambda one: one.rubric)


def _detail(community: Community) -> str:
    return f"{percent(_measure(community))} of requests ask for an answer to be graded"


SIGNAL = CommunitySignal("group_rubric", Family.TEXT, _measure, _detail)
