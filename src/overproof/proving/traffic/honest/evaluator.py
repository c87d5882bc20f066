"""evaluator: whole benchmarks, k samples an item, over a grid of temperatures.

Several evaluators run the same public benchmarks with the same wrapper: they repeat one another,
which a pool that divides a data set does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from overproof.proving.traffic.closed_loop import Actor, Stream
from overproof.proving.traffic.identity import DAY_S, Client, Job
from overproof.proving.traffic.lengths import Lengths
from overproof.proving.traffic.queues import alone
from overproof.proving.traffic.texts import Family, Template, expand
from overproof.proving.traffic.world import FLAGSHIP, LIGHT, RELEASED, World

__all__ = ["BENCHMARKS", "CLASS", "group", "sweep"]

CLASS = "evaluator"
BENCHMARKS = (("arith", 1_319), ("contest", 60), ("general", 900), ("science", 448), ("words", 250))
WORKED = Lengths(180, 420, 0.5, 0.7)
GRIDS = ((0.0,), (0.0,), (0.7,), (0.2, 0.8), (0.0, 0.3, 0.7, 1.0))


def group(world: World, rng: Random, name: str, volume: float) -> list[Actor]:
    """A laboratory with one to three keys, each of which sweeps now and then."""
    clients = world.company(rng, use="evaluation", keys=rng.choice((1, 1, 2, 3)))
    actors = []
    for client in clients:

        def stream(client: Client = client) -> Stream:
            own = world.rng(name, client.account)
            world.enrol(client, CLASS, name)
            return alone(client, _sweeps(world, own, volume / len(clients)), own, patience=10)

        actors.append(Actor(world.start, stream))
    return actors


def _sweeps(world: World, rng: Random, volume: float) -> Iterator[tuple[float, Job]]:
    left = int(volume)
    span = world.end - world.start
    begins = sorted(world.start + rng.random() * span * 0.95 for _ in range(40))
    if rng.random() < 0.6:
        begins.insert(0, world.release + rng.expovariate(1.0 / (0.4 * DAY_S)))
        begins.sort()
    # Few sweeps of many items rather than many of few: a small budget is one afternoon.
    starts = sorted(rng.sample(begins, min(len(begins), 1 + left // 1_500)))
    free = 0.0
    each = max(1, left // len(starts))
    for begin in starts:
        for ts, job in sweep(world, rng, max(begin, free), each):
            yield ts, job
            free = ts + 1.0


def sweep(world: World, rng: Random, begin: float, most: int) -> Iterator[tuple[float, Job]]:
    """One run of one benchmark, as fast as a few workers go, of at most ``most`` requests."""
    bank = world.bank
    benchmark, size = rng.choice(BENCHMARKS)
    items = bank.benchmark(benchmark, size)
    family = _wrapper(world, benchmark)
    wrapper = bank.template(expand(family.text, rng), family.language)
    grid = rng.choice(GRIDS)
    samples = rng.choice((1, 1, 4, 8, 16))
    logprobs = rng.random() < 0.2
    model = FLAGSHIP if rng.random() < 0.7 else LIGHT
    if begin > world.release and rng.random() < 0.7:
        model = RELEASED
    pace = rng.lognormvariate(0.0, 0.6)
    reasons = rng.random() < 0.3
    at = begin
    sent = 0
    # A quota too small for the whole is spent on the first items, as harnesses' `limit` does.
    for item in items:
        text = _wrapped(wrapper, item)
        for temperature in grid:
            for _ in range(samples):
                if sent >= most:
                    return
                into, out = WORKED.draw(rng)
                params: dict[str, object] = {"temperature": temperature, "max_tokens": 2048}
                if logprobs:
                    params |= {"logprobs": True, "top_logprobs": 5}
                job = Job(model, [{"role": "user", "content": text}], params, into, out)
                if reasons:
                    job.reasoning = out * 2
                yield at, job
                sent += 1
                at += pace * rng.expovariate(1.0)


def _wrapper(world: World, benchmark: str) -> Family:
    """A public harness wraps a benchmark in one way for everybody."""
    families = world.bank.families["benchmarks"]
    return Random(f"wrapper/{world.bank.name}/{benchmark}").choice(families)


def _wrapped(wrapper: Template, item: str) -> str:
    """The item in its wrapper; options are the item's own, whoever runs it."""
    own = Random(item)
    options = {f"o{n}": str(own.randrange(900)) for n in range(1, 5)}
    return wrapper.fill(own, {"question": item} | options)
