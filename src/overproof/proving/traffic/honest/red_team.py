"""red-team: sweeps over known ways round a refusal, mostly refused, for a customer's safety."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

from overproof.proving.traffic.arrivals import arrivals
from overproof.proving.traffic.closed_loop import Actor, Stream
from overproof.proving.traffic.identity import Client, Job
from overproof.proving.traffic.lengths import Lengths
from overproof.proving.traffic.queues import alone
from overproof.proving.traffic.world import World

__all__ = ["CLASS", "group", "probe"]

CLASS = "red-team"
PROBE = Lengths(90, 60, 0.6, 0.9)
REFUSED = 0.65


def group(world: World, rng: Random, name: str, volume: float) -> list[Actor]:
    """A security company or a company's own team; some hide behind personal accounts."""
    begin, end, a_day = world.window(rng, volume)
    use = rng.choice(("red-team", "evaluation", None))
    if rng.random() < 0.75:
        clients = world.company(rng, use=use, keys=rng.choice((1, 2, 4)), begin=begin)
    else:
        clients = [world.person(rng, use=use, plan="pro", agents="sdk", begin=begin)]
    shape = world.shape("office", world.zone(rng))
    actors = []
    for client in clients:

        def stream(client: Client = client) -> Stream:
            own = world.rng(name, client.account)
            world.enrol(client, CLASS, name)
            moments = arrivals(own, begin, end, a_day / len(clients), shape)
            return alone(client, _sweep(world, own, moments), own)

        actors.append(Actor(begin, stream))
    return actors


def _sweep(world: World, rng: Random, moments: Iterable[float]) -> Iterator[tuple[float, Job]]:
    model = world.models(rng)
    for ts in moments:
        yield ts, probe(world, rng, model(ts))


def probe(world: World, rng: Random, model: str) -> Job:
    """One attempt at one topic."""
    family = world.bank.family("techniques", rng)
    text = world.bank.written(family.text, rng, family.language)
    into, out = PROBE.draw(rng)
    refused = rng.random() < REFUSED
    job = Job(model, [{"role": "user", "content": text}], {"temperature": 1.0}, into, out)
    job.refused = refused
    job.finish = "content_filter" if refused and rng.random() < 0.3 else "stop"
    return job
