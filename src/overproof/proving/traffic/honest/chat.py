"""chat: people. A course that signs up together, a family or an office, one who writes all day."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from overproof.proving.traffic.closed_loop import Actor, Stream
from overproof.proving.traffic.identity import DAY_S, Client, Job, identifier, network, subnet
from overproof.proving.traffic.queues import alone
from overproof.proving.traffic.talk import Talk, chatter
from overproof.proving.traffic.world import World

__all__ = ["CLASS", "crowd", "group"]

CLASS = "chat"
# Conversations of one light user: 1,039,785 of 204,736 users (WildChat).
MEAN_CONVERSATIONS = 5.0


def group(world: World, rng: Random, name: str, volume: float) -> list[Actor]:
    """A course (half of the groups), a household, or one busy person."""
    del volume
    kind = rng.random()
    if kind < 0.5:
        return _course(world, rng, name)
    if kind < 0.75:
        return _household(world, rng, name)
    return [_busy(world, rng, name)]


def _course(world: World, rng: Random, name: str) -> list[Actor]:
    """Students made within two days, on campus addresses, some working on the same hand-out."""
    zone = world.zone(rng)
    language = world.language(rng, zone)
    within, asn = subnet(rng), network(rng, "campus")
    enrolled = rng.uniform(world.start - 3 * DAY_S, world.start + 0.6 * (world.end - world.start))
    bank = world.bank
    handouts = [
        bank.template(rng.choice(bank.chat[language]["reason"]), language).fill(rng)
        for _ in range(6)
    ]
    actors = []
    for seat in range(rng.randint(8, 28)):
        made = enrolled + rng.random() * 2 * DAY_S
        first = max(made + rng.random() * DAY_S, world.start)

        def stream(seat: int = seat, made: float = made, first: float = first) -> Stream:
            own = world.rng(name, seat)
            client = world.person(
                own, use="education", plan="free", created=made, within=within, asn=asn
            )
            world.enrol(client, CLASS, name)
            asked = chatter(
                world.talk(language),
                own,
                (first, world.end),
                0.5 + own.expovariate(1.0),
                world.shape("office", zone),
                model=world.models(own),
            )
            return alone(client, _homework(asked, handouts, own), own)

        actors.append(Actor(first, stream))
    return actors


def _homework(
    asked: Iterator[tuple[float, Job]], handouts: list[str], rng: Random
) -> Iterator[tuple[float, Job]]:
    for ts, job in asked:
        if len(job.messages) == 1 and rng.random() < 0.35:
            job.messages = [{"role": "user", "content": rng.choice(handouts)}]
        yield ts, job


def _household(world: World, rng: Random, name: str) -> list[Actor]:
    zone = world.zone(rng)
    within, asn = subnet(rng), network(rng, "isp")
    shared_payer = identifier(rng, "pay") if rng.random() < 0.4 else None
    actors = []
    for seat in range(rng.randint(2, 6)):

        def stream(seat: int = seat) -> Stream:
            own = world.rng(name, seat)
            client = world.person(own, plan="pro", within=within, asn=asn)
            client.payer = shared_payer or client.payer
            world.enrol(client, CLASS, name)
            asked = _chat(world, own, client, zone, 0.5 + own.expovariate(0.7))
            return alone(client, asked, own)

        actors.append(Actor(world.start, stream))
    return actors


def _busy(world: World, rng: Random, name: str) -> Actor:
    zone = world.zone(rng)
    a_day = rng.lognormvariate(2.9, 0.6)

    def stream() -> Stream:
        own = world.rng(name, 0)
        client = world.enrol(world.person(own, plan="pro"), CLASS, name)
        talk = Talk(world.bank, world.language(own, zone), reason=own.uniform(0.1, 0.6))
        span = (max(world.start, client.created or 0.0), world.end)
        asked = chatter(
            talk, own, span, a_day, world.shape("consumer", zone), model=world.models(own)
        )
        return alone(client, asked, own)

    return Actor(world.start, stream)


def _chat(
    world: World, rng: Random, client: Client, zone: int, a_day: float
) -> Iterator[tuple[float, Job]]:
    span = (max(world.start, client.created or 0.0), world.end)
    talk = world.talk(world.language(rng, zone))
    return chatter(talk, rng, span, a_day, world.shape("consumer", zone), model=world.models(rng))


def crowd(world: World, n: int) -> Iterator[Actor]:
    """``n`` ordinary people who come by now and then, in order of their first visit.

    Each is a group of its own. Moments are uniform order statistics, drawn one after another, so
    that a crowd of a million costs no memory before it comes.
    """
    rng = world.rng("crowd")
    length = world.end - world.start
    left = 1.0
    for place in range(n):
        left *= rng.random() ** (1.0 / (n - place))
        first = world.start + length * (1.0 - left)

        def stream(place: int = place, first: float = first) -> Stream:
            own = world.rng("crowd", place)
            new = own.random() < 0.25
            made = first - own.random() * 3_600.0 if new else world.tenure(own, 0.0)
            client = world.person(own, created=made)
            world.enrol(client, CLASS, client.account)
            return alone(client, _visits(world, own, first), own, patience=2)

        yield Actor(first, stream)


def _visits(world: World, rng: Random, first: float) -> Iterator[tuple[float, Job]]:
    """A handful of conversations, most of them soon after one another."""
    zone = world.zone(rng)
    talk = world.talk(world.language(rng, zone))
    model = world.models(rng)
    shape = world.shape("consumer", zone)
    n = 1 + int(rng.expovariate(1.0 / (MEAN_CONVERSATIONS - 0.5)))
    ts = first
    for _ in range(n):
        for job in talk.conversation(rng, model(ts), {}):
            yield ts, job
            ts += 8.0 + rng.lognormvariate(3.8, 0.9)
        ts = shape.after(ts, rng.expovariate(1.0 / (0.7 * DAY_S)))
