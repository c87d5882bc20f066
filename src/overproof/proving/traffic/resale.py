"""What a reseller's customers ask: many conversations side by side, and a few programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from overproof.proving.traffic.application import Application
from overproof.proving.traffic.identity import Job
from overproof.proving.traffic.queues import Ask
from overproof.proving.traffic.world import World

__all__ = ["resold"]


def resold(world: World, rng: Random, users: int, programs: int) -> Ask:
    """What a reseller's customers ask: open conversations side by side, and a few programs."""
    models: list[Callable[[float], str]] = [world.models(rng) for _ in range(6)]
    applications = [
        Application(world, rng, "etl", world.language(rng, world.zone(rng)))
        for _ in range(programs)
    ]
    opened: list[Iterator[Job]] = []

    def ask(ts: float) -> Job:
        if applications and rng.random() < 0.4:
            return rng.choice(applications).job(rng, ts)
        while True:
            if len(opened) < users:
                talk = world.talk(world.language(rng, world.zone(rng)))
                model = rng.choice(models)(ts)
                opened.append(talk.conversation(rng, model, {}))
            place = rng.randrange(len(opened))
            job = next(opened[place], None)
            if job is not None:
                return job
            opened[place] = opened[-1]
            opened.pop()

    return ask
