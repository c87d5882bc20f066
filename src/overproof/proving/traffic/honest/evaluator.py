"""evaluator: whole benchmarks, k samples an item, over a grid of temperatures.

Several evaluators run the same public benchmarks with the same wrapper: they repeat one another,
which a pool that divides a data set does not. Few benchmarks are run by many, most by few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from random import Random

from overproof.proving.traffic.closed_loop import Actor, Stream
from overproof.proving.traffic.identity import DAY_S, Client, Job
from overproof.proving.traffic.lengths import Lengths, tenant
from overproof.proving.traffic.queues import alone
from overproof.proving.traffic.texts import Bank, Family, Template, expand
from overproof.proving.traffic.world import FLAGSHIP, LIGHT, RELEASED, World

__all__ = ["BENCHMARKS", "CLASS", "Benchmark", "benchmarks", "group", "sweep"]

CLASS = "evaluator"
BENCHMARKS = 60
SMALLEST, LARGEST = 60, 6_000
# Log-normal sizes: a median of some 500 items, one in six of more than 1,600.
LOG_MEDIAN, LOG_SPREAD = 6.2, 1.2
MOST_AT_A_LAB = 4
ONSETS = ("ar", "ber", "cor", "dal", "fen", "gra", "hel", "ju", "lim", "mor", "or", "quil")
CODAS = ("bench", "eval", "qa", "math", "sci", "code", "logic", "hop", "facts", "exam")
WORKED = Lengths(180, 420, 0.5, 0.7)
GRIDS = ((0.0,), (0.0,), (0.7,), (0.2, 0.8), (0.0, 0.3, 0.7, 1.0))


Benchmark = tuple[str, int]
"""A name, and how many items."""


@lru_cache(maxsize=8)
def benchmarks(bank: str) -> tuple[tuple[Benchmark, ...], tuple[float, ...]]:
    """The public benchmarks of a bank, most popular first, and cumulative weights by Zipf's law."""
    rng = Random(f"benchmarks/{bank}")
    names = [f"{onset}{coda}" for onset in ONSETS for coda in CODAS]
    found = tuple(
        (name, min(LARGEST, max(SMALLEST, int(rng.lognormvariate(LOG_MEDIAN, LOG_SPREAD)))))
        for name in rng.sample(names, BENCHMARKS)
    )
    return found, tuple(accumulate(1.0 / rank for rank in range(1, BENCHMARKS + 1)))


def _chosen(world: World, rng: Random, n: int) -> list[Benchmark]:
    """What a laboratory runs: ``n`` benchmarks or, where it drew one twice, fewer."""
    known, weights = benchmarks(world.bank.name)
    return list(dict.fromkeys(rng.choices(known, cum_weights=weights, k=n)))


def group(world: World, rng: Random, name: str, volume: float) -> list[Actor]:
    """A laboratory with one to three keys, each of which sweeps now and then."""
    clients = world.company(rng, use="evaluation", keys=rng.choice((1, 1, 2, 3)))
    suite = _chosen(world, rng, rng.randint(1, MOST_AT_A_LAB))
    actors = []
    for client in clients:

        def stream(client: Client = client) -> Stream:
            own = world.rng(name, client.account)
            world.enrol(client, CLASS, name)
            return alone(
                client, _sweeps(world, own, volume / len(clients), suite), own, patience=10
            )

        actors.append(Actor(world.start, stream))
    return actors


def _sweeps(
    world: World, rng: Random, volume: float, suite: Sequence[Benchmark]
) -> Iterator[tuple[float, Job]]:
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
        for ts, job in sweep(world, rng, max(begin, free), each, suite):
            yield ts, job
            free = ts + 1.0


def sweep(
    world: World,
    rng: Random,
    begin: float,
    most: int,
    suite: Sequence[Benchmark] = (),
) -> Iterator[tuple[float, Job]]:
    """One run of one benchmark, as fast as a few workers go, of at most ``most`` requests.

    Args:
        world: the log's.
        rng: of the run.
        begin: seconds since the epoch.
        most: requests that it may send.
        suite: benchmarks to choose from; any public one, by popularity, where none is given.
    """
    bank = world.bank
    benchmark, size = rng.choice(suite or _chosen(world, rng, 1))
    items = bank.benchmark(benchmark, size)
    family = _wrapper(world.bank, benchmark)
    wrapper = bank.template(expand(family.text, Random(benchmark)), family.language)
    grid = rng.choice(GRIDS)
    samples = rng.choice((1, 1, 4, 8, 16))
    logprobs = rng.random() < 0.2
    model = FLAGSHIP if rng.random() < 0.7 else LIGHT
    if begin > world.release and rng.random() < 0.7:
        model = RELEASED
    pace = rng.lognormvariate(0.0, 0.6)
    lengths = tenant(rng, WORKED)
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
                into, out = lengths.draw(rng)
                params: dict[str, object] = {"temperature": temperature, "max_tokens": 2048}
                if logprobs:
                    params |= {"logprobs": True, "top_logprobs": 5}
                job = Job(model, [{"role": "user", "content": text}], params, into, out)
                if reasons:
                    job.reasoning = out * 2
                yield at, job
                sent += 1
                at += pace * rng.expovariate(1.0)


def _wrapper(bank: Bank, benchmark: str) -> Family:
    """A public harness wraps a benchmark in one way for everybody."""
    return bank.family("benchmarks", Random(f"wrapper/{bank.name}/{benchmark}"))


def _wrapped(wrapper: Template, item: str) -> str:
    """The item in its wrapper; options are the item's own, whoever runs it."""
    own = Random(item)
    options = {f"o{n}": str(own.randrange(900)) for n in range(1, 5)}
    return wrapper.fill(own, {"question": item} | options)
