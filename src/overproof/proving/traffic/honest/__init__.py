"""Honest classes, one file each; every one of them is hard for some signal of the detector."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from overproof.proving.traffic.closed_loop import Actor
from overproof.proving.traffic.honest import (
    ab_test,
    batch_etl,
    chat,
    coding_agent,
    corporate_multikey,
    evaluator,
    framework_user,
    llm_judge,
    red_team,
    release_day,
    reseller,
    synthetic_permitted,
)
from overproof.proving.traffic.world import World

__all__ = ["BUILDERS", "HEAVY", "Builder"]

Builder = Callable[[World, Random, str, float], list[Actor]]
"""World, chance, the group's name, requests that it has to send in all; its actors."""

BUILDERS: dict[str, Builder] = {
    "chat": chat.group,
    "coding-agent": coding_agent.group,
    "batch-etl": batch_etl.group,
    "evaluator": evaluator.group,
    "framework-user": framework_user.group,
    "corporate-multikey": corporate_multikey.group,
    "reseller": reseller.group,
    "llm-judge": llm_judge.group,
    "red-team": red_team.group,
    "release-day": release_day.group,
    "synthetic-permitted": synthetic_permitted.group,
    "ab-test": ab_test.group,
}
# Classes whose volume comes from the plan's budget, and what a group's share of it is times.
HEAVY = {
    "coding-agent": 1.0,
    "batch-etl": 2.0,
    "evaluator": 1.0,
    "corporate-multikey": 1.2,
    "reseller": 1.4,
    "llm-judge": 0.8,
    "red-team": 0.25,
    "release-day": 0.5,
    "synthetic-permitted": 1.0,
    "ab-test": 0.6,
}
