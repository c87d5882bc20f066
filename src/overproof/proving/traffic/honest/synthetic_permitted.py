"""synthetic-permitted: training data made under contract, in an attacker's very words.

Nothing but the declared use and, for half of them, a signed exemption tells them from L0 and L1.
The other half, whose permission nobody signed, is a class of its own in the truth: no detector can
tell them from attackers, and none should be judged by them.
"""

from __future__ import annotations

from random import Random

from overproof.proving.traffic.arrivals import arrivals
from overproof.proving.traffic.closed_loop import Actor, Stream
from overproof.proving.traffic.harvest import rollouts, synthesis
from overproof.proving.traffic.queues import Roster, alone, asked_at, shared_queue
from overproof.proving.traffic.world import World

__all__ = ["CLASS", "UNSIGNED", "group"]

CLASS = "synthetic-permitted"
UNSIGNED = "synthetic-unsigned"
SIGNED = 0.5


def group(world: World, rng: Random, name: str, volume: float) -> list[Actor]:
    """A company with one key, Alpaca-style, or several that share rollouts."""
    begin, end, a_day = world.window(rng, volume)
    sampled = rng.random() < 0.5
    keys = world.company(
        rng, use="synthetic-data", keys=rng.randint(2, 10) if sampled else 1, begin=begin
    )
    for key in keys:
        key.use = "synthetic-data"
    signed = rng.random() < SIGNED
    if signed:
        world.exempt.append({"org": keys[0].org or "", "use": "synthetic-data"})
    shape = world.shape("flat", 0)

    def stream() -> Stream:
        own = world.rng(name, "queue")
        for key in keys:
            world.enrol(key, CLASS if signed else UNSIGNED, name)
        moments = arrivals(own, begin, end, a_day, shape)
        if not sampled:
            return alone(keys[0], asked_at(moments, synthesis(world, own)), own, patience=8)
        roster = Roster([(begin, key) for key in keys])
        return shared_queue(roster, moments, rollouts(world, own), own)

    return [Actor(begin, stream)]
