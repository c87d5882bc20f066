"""L1: ten keys on one queue, sixteen rollouts a prompt."""

from __future__ import annotations

from random import Random

from overproof.proving.traffic.arrivals import arrivals
from overproof.proving.traffic.attacks.recruits import Force, force, pivot
from overproof.proving.traffic.closed_loop import Actor, Stream
from overproof.proving.traffic.harvest import ROLLOUTS, rollouts
from overproof.proving.traffic.identity import DAY_S
from overproof.proving.traffic.queues import shared_queue
from overproof.proving.traffic.world import World

__all__ = ["LEVEL", "campaign"]

LEVEL = "L1"


def campaign(world: World, rng: Random, name: str, size: int) -> tuple[Force, list[Actor]]:
    """A laboratory's worth of keys that works off a set of prompts in a few days."""
    prompts = min(max(int(rng.lognormvariate(6.9, 0.5)), 300), 3_000, int(300 * world.plan.days))
    length = min(rng.uniform(1.0, 5.0), 0.9 * world.plan.days) * DAY_S
    begin = world.start + rng.random() * (world.end - world.start - length)
    recruited = force(world, rng, size, (begin, begin + length), sharing=0.5)

    def stream() -> Stream:
        own = world.rng(name, "queue")
        for client in recruited.clients:
            world.enrol(client, "attack", name, name, LEVEL)
        a_day = prompts * ROLLOUTS / (length / DAY_S)
        moments = arrivals(own, begin, begin + length, a_day, world.shape("flat", 0))
        ask = rollouts(world, own, pivot(world, own))
        return shared_queue(recruited.roster(), moments, ask, own)

    return recruited, [Actor(begin, stream)]
