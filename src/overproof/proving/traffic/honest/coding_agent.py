"""coding-agent: tools in a loop, long inputs and short outputs, all day long for some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from overproof.proving.traffic.application import chars_of
from overproof.proving.traffic.arrivals import Shape, arrivals
from overproof.proving.traffic.closed_loop import Actor, Stream
from overproof.proving.traffic.identity import Client, Job
from overproof.proving.traffic.lengths import CODE, tenant
from overproof.proving.traffic.queues import alone
from overproof.proving.traffic.world import World

__all__ = ["CLASS", "group", "loops"]

CLASS = "coding-agent"
TOOLS = (
    ("read_file", "edit_file", "run", "grep"),
    ("bash", "str_replace", "view"),
    ("open", "search", "apply_patch", "shell", "test"),
)
MEAN_STEPS = 14


def group(world: World, rng: Random, name: str, volume: float) -> list[Actor]:
    """A team with a key for each developer, or one developer on a plan of her own."""
    zone = world.zone(rng)
    begin, end, a_day = world.window(rng, volume)
    if rng.random() < 0.45:
        clients = [world.person(rng, use="coding", plan="pro", agents="cli", begin=begin)]
    else:
        clients = world.company(
            rng, use="coding", keys=rng.randint(2, 12), agents="cli", begin=begin
        )
    shape = world.shape("office", zone)
    actors = []
    for client in clients:

        def stream(client: Client = client) -> Stream:
            own = world.rng(name, client.account)
            world.enrol(client, CLASS, name)
            rate = a_day / len(clients) / MEAN_STEPS
            return alone(client, loops(world, own, (begin, end), rate, shape), own, patience=6)

        actors.append(Actor(begin, stream))
    return actors


def loops(
    world: World,
    rng: Random,
    span: tuple[float, float],
    tasks_a_day: float,
    shape: Shape,
    *,
    model: Callable[[float], str] | None = None,
) -> Iterator[tuple[float, Job]]:
    """Tasks, each a loop of tool calls a few seconds apart; the context grows with every step."""
    bank = world.bank
    system = rng.choice(bank.agents["system"])
    tools = rng.choice(TOOLS)
    asks = [bank.template(text) for text in bank.agents["ask"]]
    steps = [bank.template(text) for text in bank.agents["step"]]
    model = model or world.models(rng, eager=0.5)
    lengths = tenant(rng, CODE)
    limit = min(world.plan.text_chars, 900)
    free = 0.0
    for begin in arrivals(rng, *span, tasks_a_day, shape):
        ts = max(begin, free)
        messages = [
            {"role": "system", "content": system},
            {"role": "user", "content": rng.choice(asks).fill(rng)},
        ]
        context = 0
        used = model(ts)
        for _ in range(1 + int(rng.expovariate(1.0 / (MEAN_STEPS - 0.5)))):
            more, out = lengths.draw(rng)
            context = min(context + more // 60, 120_000)
            job = Job(used, messages, {"temperature": 0.0, "stream": True}, more + context, out)
            job.tools = tools
            job.finish = "tool_calls"
            if ts >= span[1]:
                return
            yield ts, job
            ts += 2.0 + rng.expovariate(1.0 / 7.0)
            given = {"payload": bank.payload(rng, chars_of(more, limit))}
            result = {"role": "user", "content": rng.choice(steps).fill(rng, given)}
            # The log keeps the system prompt, the task and the latest result of a long context.
            messages = [*messages[:2], result]
        free = ts
