"""release-day: a new model comes out, and within a day they try it, measure it and move."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from random import Random

from overproof.proving.traffic.application import Application
from overproof.proving.traffic.arrivals import Shape, arrivals
from overproof.proving.traffic.closed_loop import Actor, Stream
from overproof.proving.traffic.honest.evaluator import sweep
from overproof.proving.traffic.identity import DAY_S, Client, Job
from overproof.proving.traffic.queues import alone
from overproof.proving.traffic.world import FLAGSHIP, RELEASED, World

__all__ = ["CLASS", "group"]

CLASS = "release-day"


def group(world: World, rng: Random, name: str, volume: float) -> list[Actor]:
    """A company with one to six keys that all move on the day of the release."""
    zone = world.zone(rng)
    keys = world.company(rng, use=rng.choice(("coding", "chat", None)), keys=rng.randint(1, 6))
    moved = world.release + 900.0 + rng.random() * 18 * 3_600.0
    application = Application(
        world,
        rng,
        "etl",
        world.language(rng, zone),
        model=lambda ts: RELEASED if ts >= moved else FLAGSHIP,
    )
    tries = int(volume * 0.3 / len(keys))
    a_day = volume * 0.7 / world.plan.days / len(keys)
    shape = world.shape("office", zone)
    actors = []
    for key in keys:

        def stream(client: Client = key) -> Stream:
            own = world.rng(name, client.account)
            world.enrol(client, CLASS, name)
            tried = _tried(world, own, moved, tries)
            used = _used(world, own, application, a_day, shape)
            return alone(client, heapq.merge(used, tried, key=lambda due: due[0]), own)

        actors.append(Actor(world.start, stream))
    return actors


def _used(
    world: World, rng: Random, application: Application, a_day: float, shape: Shape
) -> Iterator[tuple[float, Job]]:
    for ts in arrivals(rng, world.start, world.end, a_day, shape):
        yield ts, application.job(rng, ts)


def _tried(world: World, rng: Random, moved: float, tries: int) -> Iterator[tuple[float, Job]]:
    begin = moved - rng.random() * min(moved - world.release, 0.2 * DAY_S)
    for ts, job in sweep(world, rng, begin, tries):
        job.model = RELEASED
        yield ts, job
