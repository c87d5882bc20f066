"""Attack levels, one file each, from one key in the open to a replay of real users' sessions."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from overproof.proving.traffic.attacks import l0, l1, l2, l3, l4, l5
from overproof.proving.traffic.attacks.recruits import Force
from overproof.proving.traffic.closed_loop import Actor
from overproof.proving.traffic.world import World

__all__ = ["CAMPAIGNS", "Campaign"]

Campaign = Callable[[World, Random, str, int], tuple[Force, list[Actor]]]
"""World, chance, the campaign's name, accounts at work at a time; its accounts, its actors."""

CAMPAIGNS: dict[str, Campaign] = {
    "L0": l0.campaign,
    "L1": l1.campaign,
    "L2": l2.campaign,
    "L3": l3.campaign,
    "L4": l4.campaign,
    "L5": l5.campaign,
}
