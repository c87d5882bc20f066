"""batch-etl: one template, any number of payloads, through the night or round the clock."""

from __future__ import annotations

from random import Random

from overproof.proving.traffic.application import Application
from overproof.proving.traffic.arrivals import arrivals
from overproof.proving.traffic.closed_loop import Actor, Stream
from overproof.proving.traffic.identity import Client
from overproof.proving.traffic.queues import alone, asked_at
from overproof.proving.traffic.world import World

__all__ = ["CLASS", "group"]

CLASS = "batch-etl"


def group(world: World, rng: Random, name: str, volume: float) -> list[Actor]:
    """One company with a key or two that run the same job over different halves of the data."""
    zone = world.zone(rng)
    language = world.language(rng, zone)
    begin, end, a_day = world.window(rng, volume)
    keys = world.company(rng, use="batch-etl", keys=1 + (rng.random() < 0.25), begin=begin)
    shape = world.shape(rng.choice(("flat", "flat", "nightly")), zone)
    application = Application(world, rng, "etl", language)
    actors = []
    for key in keys:

        def stream(client: Client = key) -> Stream:
            own = world.rng(name, client.account)
            world.enrol(client, CLASS, name)
            moments = arrivals(own, begin, end, a_day / len(keys), shape)
            return alone(
                client, asked_at(moments, lambda ts: application.job(own, ts)), own, patience=8
            )

        actors.append(Actor(begin, stream))
    return actors
