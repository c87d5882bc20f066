"""corporate-multikey: one company, one payer, 5 to 60 keys, one template, all on one clock.

Half of them have a gateway of their own that balances load over the keys: it reacts to throttling
as an attacker's shared queue does, and is nobody's attack.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from overproof.proving.traffic.application import Application
from overproof.proving.traffic.arrivals import HOUR, arrivals
from overproof.proving.traffic.closed_loop import Actor, Stream
from overproof.proving.traffic.identity import Client
from overproof.proving.traffic.queues import Roster, alone, asked_at, shared_queue
from overproof.proving.traffic.world import World

__all__ = ["CLASS", "group"]

CLASS = "corporate-multikey"
FEWEST, MOST = 5, 60


def group(world: World, rng: Random, name: str, volume: float) -> list[Actor]:
    """One company; its keys work off one queue, or start together every hour."""
    zone = world.zone(rng)
    begin, end, a_day = world.window(rng, volume)
    keys = world.company(
        rng,
        use=rng.choice(("batch-etl", "chat", "coding")),
        keys=min(MOST, FEWEST + int(rng.expovariate(1.0 / 14.0))),
        plan=rng.choice(("team", "enterprise")),
        machines=rng.randint(1, 12),
        begin=begin,
    )
    application = Application(world, rng, "etl", world.language(rng, zone))
    shape = world.shape(rng.choice(("flat", "office")), zone)
    if rng.random() < 0.5:

        def queue() -> Stream:
            own = world.rng(name, "queue")
            for key in keys:
                world.enrol(key, CLASS, name)
            roster = Roster([(begin, key) for key in keys])
            moments = arrivals(own, begin, end, a_day, shape)
            return shared_queue(roster, moments, lambda ts: application.job(own, ts), own)

        return [Actor(begin, queue)]
    every = rng.choice((0.25, 0.5, 1.0, 2.0)) * HOUR
    actors = []
    for key in keys:

        def stream(client: Client = key) -> Stream:
            own = world.rng(name, client.account)
            world.enrol(client, CLASS, name)
            moments = _on_the_hour(own, begin, end, a_day / len(keys), every)
            return alone(client, asked_at(moments, lambda ts: application.job(own, ts)), own)

        actors.append(Actor(begin, stream))
    return actors


def _on_the_hour(
    rng: Random, begin: float, end: float, a_day: float, every: float
) -> Iterator[float]:
    """Bursts that begin at the same clock time for every key."""
    tick = begin - begin % every + every
    each = a_day * every / (24 * HOUR)
    while tick < end:
        ts = tick + rng.random() * 20.0
        n = int(each) + (rng.random() < each % 1.0)
        for _ in range(n):
            if ts >= end:
                return
            yield ts
            ts += rng.expovariate(1.0 / 4.0)
        tick = max(tick + every, ts - ts % every + every)
