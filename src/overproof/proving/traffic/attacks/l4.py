"""L4: 26 requests a day and account, paraphrased instructions, resold honest traffic mixed in."""

from __future__ import annotations

from random import Random

from overproof.proving.traffic.attacks.pools import Pool, mixed, pool
from overproof.proving.traffic.attacks.recruits import Force, pivot
from overproof.proving.traffic.closed_loop import Actor
from overproof.proving.traffic.harvest import Injection, injections
from overproof.proving.traffic.queues import Ask
from overproof.proving.traffic.resale import resold
from overproof.proving.traffic.world import World

__all__ = ["ATTACK_SHARE", "PARAPHRASES", "campaign"]

PARAPHRASES = 40
ATTACK_SHARE = (0.3, 0.6)


def _asks(world: World, rng: Random) -> Ask:
    language = "zh" if rng.random() < 0.3 else "en"
    texts = injections(world, rng, language, n=PARAPHRASES, families=4)
    attack = Injection(world, rng, texts, language, model=pivot(world, rng), graded=0.05)
    honest = resold(world, rng, users=60, programs=6)
    return mixed(attack.ask, rng.uniform(*ATTACK_SHARE), honest, rng)


POOL = Pool("L4", (26.0, 26.0), (0.8, 1.0), 0.15, ("flat", "consumer"), _asks)


def campaign(world: World, rng: Random, name: str, size: int) -> tuple[Force, list[Actor]]:
    """The quiet crowd: little shared, nothing said twice in the same words for long."""
    return pool(POOL, world, rng, name, size)
