"""framework-user: unrelated customers who send the same system prompt, because a framework does.

A third of the frameworks are released during the log, so that their prompt is new when hundreds
of payers begin to send it.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from overproof.proving.traffic.application import chars_of
from overproof.proving.traffic.arrivals import arrivals
from overproof.proving.traffic.closed_loop import Actor, Stream
from overproof.proving.traffic.identity import DAY_S, Job
from overproof.proving.traffic.lengths import CONVERSATION, tenant
from overproof.proving.traffic.queues import alone
from overproof.proving.traffic.texts import expand
from overproof.proving.traffic.world import World

__all__ = ["CLASS", "group"]

CLASS = "framework-user"
NEW = 0.33
NAMES = ("Orchard", "Lattice", "Tugboat", "Quillon", "Marrow", "Sextant", "Fjord", "Palisade",
         "Thicket", "Beacon", "Gantry", "Rivet")  # fmt: skip
TOOLS = (None, None, ("search", "calculator"), ("retrieve",), ("browse", "python"))


def group(world: World, rng: Random, name: str, volume: float) -> list[Actor]:
    """One framework and everybody who uses it; the group is the framework."""
    del volume
    bank = world.bank
    family = bank.family("frameworks", rng)
    brand = f"{rng.choice(NAMES)}{rng.choice(('', 'Kit', 'Flow', 'AI', 'Chain'))}"
    template = bank.template(expand(family.text, rng), family.language)
    system = template.fill(rng, {"name": brand})
    tools = rng.choice(TOOLS)
    length = world.end - world.start
    released = world.start
    if rng.random() < NEW:
        released += rng.uniform(0.05, 0.7) * length
    actors = []
    for seat in range(rng.randint(*world.plan.framework_users)):
        begin = released
        if released > world.start:
            begin += min(rng.expovariate(1.0 / (2.0 * DAY_S)), 0.98 * (world.end - released))

        def stream(seat: int = seat, begin: float = begin) -> Stream:
            own = world.rng(name, seat)
            if own.random() < 0.5:
                client = world.person(own, use="coding", agents="sdk", begin=begin)
            else:
                client = world.company(own, use=own.choice(("coding", "chat", None)), begin=begin)[
                    0
                ]
            world.enrol(client, CLASS, name)
            asked = _runs(world, own, begin, system=system, tools=tools, language=family.language)
            return alone(client, asked, own)

        actors.append(Actor(begin, stream))
    return actors


def _runs(
    world: World,
    rng: Random,
    begin: float,
    *,
    system: str,
    tools: tuple[str, ...] | None,
    language: str,
) -> Iterator[tuple[float, Job]]:
    """Runs of a few steps each, on tasks that are the user's own."""
    bank = world.bank
    model = world.models(rng)
    params = world.params(rng)
    lengths = tenant(rng, CONVERSATION)
    tasks = bank.lines("open", language)
    limit = world.plan.text_chars
    a_day = rng.lognormvariate(0.6, 1.1)
    shape = world.shape(rng.choice(("office", "consumer", "flat")), world.zone(rng))
    free = 0.0
    for moment in arrivals(rng, begin, world.end, a_day, shape):
        ts = max(moment, free)
        messages = [
            {"role": "system", "content": system},
            {"role": "user", "content": rng.choice(tasks).fill(rng)},
        ]
        for _ in range(rng.randint(1, 6)):
            into, out = lengths.draw(rng)
            yield ts, Job(model(ts), messages, params, into, out, tools=tools)
            ts += 3.0 + rng.expovariate(1.0 / 9.0)
            seen = bank.payload(rng, chars_of(into, limit), language)
            messages = [*messages[:2], {"role": "user", "content": f"Observation: {seen}"}]
        free = ts
