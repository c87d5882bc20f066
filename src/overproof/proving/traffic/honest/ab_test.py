"""ab-test: the same inputs through two variants of a prompt, or through two models."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from overproof.proving.traffic.application import Application
from overproof.proving.traffic.arrivals import Shape, arrivals
from overproof.proving.traffic.closed_loop import Actor, Stream
from overproof.proving.traffic.identity import Job
from overproof.proving.traffic.queues import alone
from overproof.proving.traffic.world import FLAGSHIP, LIGHT, World

__all__ = ["CLASS", "group"]

CLASS = "ab-test"


def group(world: World, rng: Random, name: str, volume: float) -> list[Actor]:
    """A company that compares two arms for a few days."""
    begin, end, a_day = world.window(rng, volume)
    zone = world.zone(rng)
    client = world.company(rng, use=rng.choice(("chat", "evaluation", None)), begin=begin)[0]
    language = world.language(rng, zone)
    first = Application(world, rng, "etl", language, model=lambda _: FLAGSHIP)
    second = Application(world, rng, "etl", language, model=lambda _: LIGHT)
    if rng.random() < 0.5:  # two models, one prompt
        second.template, second.system = first.template, first.system

    def stream() -> Stream:
        own = world.rng(name, client.account)
        world.enrol(client, CLASS, name)
        shape = world.shape("consumer", zone)
        return alone(client, _pairs(own, (first, second), (begin, end), a_day, shape), own)

    return [Actor(begin, stream)]


def _pairs(
    rng: Random,
    arms: tuple[Application, Application],
    span: tuple[float, float],
    a_day: float,
    shape: Shape,
) -> Iterator[tuple[float, Job]]:
    free = 0.0
    for begin in arrivals(rng, *span, a_day / 2.0, shape):
        ts = max(begin, free)
        into, out = arms[0].lengths.draw(rng)
        given = arms[0].payload(rng, into)
        if "other" in arms[1].template.names and "other" not in given:
            given["other"] = given["payload"]
        for arm in arms:
            yield ts, arm.filled(rng, ts, given, into, out)
            ts += 0.1
        free = ts
