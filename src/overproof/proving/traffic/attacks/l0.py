"""L0: one key, Alpaca-style: 52,000 outputs at 20 instructions a call are 2,600 calls."""

from __future__ import annotations

from random import Random

from overproof.proving.traffic.arrivals import arrivals
from overproof.proving.traffic.attacks.recruits import Force, force, pivot
from overproof.proving.traffic.closed_loop import Actor, Stream
from overproof.proving.traffic.harvest import synthesis
from overproof.proving.traffic.identity import DAY_S
from overproof.proving.traffic.queues import alone, asked_at
from overproof.proving.traffic.world import World

__all__ = ["CALLS", "LEVEL", "campaign"]

LEVEL = "L0"
CALLS = 2_600


def campaign(world: World, rng: Random, name: str, size: int) -> tuple[Force, list[Actor]]:
    """One account that asks all it wants within hours or two days."""
    length = min(rng.lognormvariate(-0.7, 0.7), 2.5, 0.9 * world.plan.days) * DAY_S
    begin = world.start + rng.random() * (world.end - world.start - length)
    recruited = force(world, rng, size, (begin, begin + length), sharing=0.0)

    def stream() -> Stream:
        own = world.rng(name, "queue")
        for client in recruited.clients:
            world.enrol(client, "attack", name, name, LEVEL)
        client = recruited.clients[0]
        a_day = CALLS / (length / DAY_S)
        moments = arrivals(own, begin, begin + length, a_day, world.shape("flat", 0))
        return alone(client, asked_at(moments, synthesis(world, own, pivot(world, own))), own)

    return recruited, [Actor(begin, stream)]
