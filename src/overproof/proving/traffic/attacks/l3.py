"""L3: 46 requests a day and account, three in ten of them attack, the rest looks like people."""

from __future__ import annotations

from random import Random

from overproof.proving.traffic.attacks.pools import Pool, mixed, pool
from overproof.proving.traffic.attacks.recruits import Force, pivot
from overproof.proving.traffic.closed_loop import Actor
from overproof.proving.traffic.harvest import Injection, injections
from overproof.proving.traffic.queues import Ask
from overproof.proving.traffic.resale import resold
from overproof.proving.traffic.world import World

__all__ = ["ATTACK_SHARE", "campaign"]

ATTACK_SHARE = 0.3


def _asks(world: World, rng: Random) -> Ask:
    language = "zh" if rng.random() < 0.3 else "en"
    texts = injections(world, rng, language, n=3, families=2)
    attack = Injection(world, rng, texts, language, model=pivot(world, rng), graded=0.1)
    cover = resold(world, rng, users=30, programs=0)
    return mixed(attack.ask, ATTACK_SHARE, cover, rng)


POOL = Pool("L3", (46.0, 46.0), (0.75, 1.0), 0.3, ("flat", "consumer"), _asks)


def campaign(world: World, rng: Random, name: str, size: int) -> tuple[Force, list[Actor]]:
    """A slow pool under cover of chat."""
    return pool(POOL, world, rng, name, size)
