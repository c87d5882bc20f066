"""How long does a watermark scan take, on one core, and how much memory?

    python bench/audit_speed.py [--quick] [--one-in N] [--json]

Gumbel-max and SynthID-Text: 10^6 unique (context, token) pairs under 1,000 keys. KGW: the unique
contexts of 10^6 Zipf-distributed tokens under 999 keys; ``--quick`` times a part of each and
multiplies, since every key, block and list costs the same, and the metric says from how many.
Seconds are of the processor, in one thread; a neighbour that shares its caches still slows it down.
The peer of KGW is torch.randperm, one list a context.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402 (one thread, set before)

from bench_table import tell, with_target  # noqa: E402
from overproof.audit.watermarks.kgw import Kgw  # noqa: E402
from overproof.audit.watermarks.kgw_lists import PRIMES  # noqa: E402
from overproof.audit.watermarks.pairs import Pairs, pairs_of, unique_pairs  # noqa: E402
from overproof.audit.watermarks.schemes import Key, Scheme, make_scheme  # noqa: E402

VOCABULARY = 32_000
TOKENS = 1_000_000
KEYS = 1_000
LISTS = 999


def row(metric: str, value: float, unit: str, target: float, peer: Any = None) -> dict[str, Any]:
    return {
        "metric": metric, "value": value, "target": target, "unit": unit,
        "met": value <= target, "peer": peer,
    }  # fmt: skip


def seconds(scheme: Scheme, pairs: Pairs, keys: list[Key]) -> float:
    start = time.process_time()
    scheme.scan(pairs, keys)
    return time.process_time() - start


def keys_of(scheme: Scheme, count: int) -> list[Key]:
    rng = np.random.default_rng(0)
    return [scheme.draw(rng) for _ in range(count)]


def peak() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**30 if sys.platform == "darwin" else 2**20)


def scans(quick: bool) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    contexts = rng.integers(0, VOCABULARY, (TOKENS, 4))
    pairs = pairs_of(contexts, rng.integers(0, VOCABULARY, TOKENS))
    rows = []
    for name, part in (("gumbel", 20 if quick else KEYS), ("synthid", KEYS)):
        scheme = make_scheme(name, VOCABULARY)
        spent = seconds(scheme, pairs, keys_of(scheme, part)) * KEYS / part
        measured = "" if part == KEYS else f" (from {part})"
        rows.append(row(f"{name}: {TOKENS:,} pairs, {KEYS:,} keys{measured}", spent, "s", 60.0))
    return rows


def lists(one_in: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    zipf = 1 / np.arange(1, VOCABULARY + 1) ** 1.05
    text = rng.choice(VOCABULARY, size=TOKENS, p=zipf / zipf.sum())
    scheme = make_scheme("kgw", VOCABULARY)
    pairs = unique_pairs([text.tolist()], None, width=1, pad=None, vocabulary=VOCABULARY)
    unique = len(np.unique(pairs.contexts))
    # Lists are shared among contexts with the same factors above 23, so whole such groups stay in.
    rough = factors_above(pairs.contexts[:, 0])
    kept = np.isin(rough, rng.permutation(np.unique(rough))[::one_in])
    part = pairs.take(kept)
    key = scheme.draw(rng)
    assert isinstance(scheme, Kgw)
    keys = [key, *scheme.related(key, LISTS, rng)]
    taken = len(np.unique(part.contexts))
    spent = seconds(scheme, part, keys) * unique / taken
    memory = peak()  # before torch comes in
    peer = {"name": "torch.randperm", "value": torchs() * unique * LISTS, "unit": "s"}
    measured = "" if one_in == 1 else f" (from {taken:,})"
    name = f"kgw: {unique:,} unique contexts, {LISTS} keys{measured}"
    rows = [row(name, spent, "s", 600.0, peer)]
    if one_in == 1:
        rows.append(row("memory at its peak, KGW", memory, "GiB", 2.0))
    return rows


def factors_above(numbers: Any) -> Any:
    """Each number without its factors that related keys may hold."""
    left = np.maximum(numbers, 1)
    for prime in PRIMES:
        while (whole := left % prime == 0).any():
            left = np.where(whole, left // prime, left)
    return left


def torchs() -> float:
    import torch

    torch.set_num_threads(1)
    generator, start = torch.Generator(), time.process_time()
    for seed in range(200):
        torch.randperm(VOCABULARY, generator=generator.manual_seed(seed))
    return (time.process_time() - start) / 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a part of the keys and contexts")
    parser.add_argument("--one-in", type=int, help="of the groups of KGW contexts; 200 if quick")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    one_in = options.one_in or (200 if options.quick else 1)
    if one_in < 1:
        parser.error("--one-in is 1 or more")
    rows = scans(options.quick)
    rows.append(row("memory at its peak, Gumbel and SynthID", peak(), "GiB", 2.0))
    rows += lists(one_in)
    tell("audit_speed", rows, with_target, as_json=options.json)


if __name__ == "__main__":
    main()
