"""L2: one fixed instruction injected across a pool, 700 to 850 requests a day and account."""

from __future__ import annotations

from random import Random

from overproof.proving.traffic.attacks.pools import Pool, pool
from overproof.proving.traffic.attacks.recruits import Force, pivot
from overproof.proving.traffic.closed_loop import Actor
from overproof.proving.traffic.harvest import Injection, injections
from overproof.proving.traffic.queues import Ask
from overproof.proving.traffic.world import World

__all__ = ["campaign"]


def _asks(world: World, rng: Random) -> Ask:
    language = "zh" if rng.random() < 0.3 else "en"
    texts = injections(world, rng, language, n=1, families=1)
    graded = rng.uniform(0.2, 0.5) if rng.random() < 0.35 else 0.0
    return Injection(world, rng, texts, language, model=pivot(world, rng), graded=graded).ask


POOL = Pool("L2", (700.0, 850.0), (0.6, 1.0), 0.5, ("flat",), _asks)


def campaign(world: World, rng: Random, name: str, size: int) -> tuple[Force, list[Actor]]:
    """Round the clock, everything through one queue."""
    return pool(POOL, world, rng, name, size)
