"""reseller: one key or a few, behind which hundreds of unrelated people and programs ask."""

from __future__ import annotations

from random import Random

from overproof.proving.traffic.arrivals import arrivals
from overproof.proving.traffic.closed_loop import Actor, Stream
from overproof.proving.traffic.identity import AGENTS, Client
from overproof.proving.traffic.queues import alone, asked_at
from overproof.proving.traffic.resale import resold
from overproof.proving.traffic.world import World

__all__ = ["CLASS", "group"]

CLASS = "reseller"


def group(world: World, rng: Random, name: str, volume: float) -> list[Actor]:
    """A reseller with one to four keys; its users' programs show in the user agent."""
    begin, end, a_day = world.window(rng, volume)
    keys = world.company(
        rng,
        use=rng.choice(("reseller", "chat", None)),
        keys=rng.choice((1, 1, 2, 4)),
        plan=rng.choice(("team", "enterprise")),
        machines=rng.randint(2, 30),
        begin=begin,
    )
    shape = world.shape("consumer", world.zone(rng))
    actors = []
    for key in keys:
        if rng.random() < 0.5:
            key.agents = AGENTS["sdk"]

        def stream(client: Client = key) -> Stream:
            own = world.rng(name, client.account)
            world.enrol(client, CLASS, name)
            ask = resold(world, own, users=40, programs=own.randint(2, 10))
            moments = arrivals(own, begin, end, a_day / len(keys), shape)
            return alone(client, asked_at(moments, ask), own)

        actors.append(Actor(begin, stream))
    return actors
