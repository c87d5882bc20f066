"""Left-hash green lists of many keys, each drawn once however many keys and contexts share it.

The seed of a list is ``key * context mod 2^32``. Keys that are multiples of one another by small
odd numbers therefore share lists: under key ``3b`` context 5 has the list that context 15 has under
key ``b``. With a thousand such keys over the contexts of a vocabulary, fewer than half of the lists
are different ones. And a key plus 2^31 gives every even context the list that it had. The rank of
the real key stays exact, see `related_keys`.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from overproof.audit.watermarks.mersenne import MASK, HeadOfPermutation
from overproof.audit.watermarks.pairs import Pairs

__all__ = ["ContextGroups", "group_contexts", "related_keys", "scan_lists", "smooth_numbers"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
PRIMES = (3, 5, 7, 11, 13, 17, 19, 23)
CELL_BITS = 25
CELLS = 1 << CELL_BITS  # (key, context) cells at once, 8 bytes each and as much again to sort
MOST_THREADS = 8
TURN = 1 << 15  # lists that one thread takes at once, whatever the number of processors
QUERIES = 1 << 18  # look-ups at once
WRAP = 2**64 - 1  # transformers takes seeds modulo this
RING = 1 << 32  # and torch modulo this
HALF = RING // 2  # what even contexts do not see of a key


@dataclass(frozen=True)
class ContextGroups:
    """Pairs sorted by the context token that seeds their list.

    Attributes:
        contexts: unique context tokens, shape (m,).
        starts: where each one's pairs begin, shape (m,).
        sizes: how many it has, shape (m,).
        tokens: of the pairs, sorted so, shape (n,).
        weights: of the pairs, likewise; None where each weighs 1.
        vocabulary: size of the vocabulary.
        green: tokens of a list.
    """

    contexts: Ints
    starts: Ints
    sizes: Ints
    tokens: Ints
    weights: Floats | None
    vocabulary: int
    green: int

    def head(self) -> HeadOfPermutation:
        """What draws the lists; one for each thread."""
        return HeadOfPermutation(self.vocabulary, self.green)


def group_contexts(pairs: Pairs, vocabulary: int, green: int) -> ContextGroups:
    """Group pairs by their last context token."""
    contexts, tokens, weights = pairs.contexts[:, -1], pairs.tokens, pairs.weights
    order = np.argsort(contexts, kind="stable")
    unique, starts, sizes = np.unique(contexts[order], return_index=True, return_counts=True)
    return ContextGroups(
        unique.astype(np.int64), starts.astype(np.int64), sizes.astype(np.int64),
        tokens[order].astype(np.int64), None if weights is None else weights[order],
        vocabulary, green,
    )  # fmt: skip


def smooth_numbers(count: int) -> list[int]:
    """The first odd numbers without a prime factor above 23, from 1 on.

    Of the sets tried, their products with 1, 2, 3 … repeat the most.
    """
    heap, found = [1], list[int]()
    seen = {1}
    while len(found) < count:
        smallest = heapq.heappop(heap)
        found.append(smallest)
        for prime in PRIMES:
            if smallest * prime not in seen:
                seen.add(smallest * prime)
                heapq.heappush(heap, smallest * prime)
    return found


def related_keys(
    key: int, count: int, rng: np.random.Generator, allowed: Callable[[int], bool]
) -> list[int]:
    """Alternates of ``key`` that share green lists with it and with each other.

    The family of a number b holds ``b h mod 2^32`` and ``b h + 2^31 mod 2^32`` for fixed odd
    multipliers h. The real key takes a place in it drawn at random, which settles b. Every place is
    a one-to-one map of the numbers modulo 2^32 (odd numbers have inverses), so for a key drawn
    uniformly every one of the family that is allowed is equally likely to be the real one, given
    all of them: they are exchangeable, which is all that a rank needs.

    Half of the lists of ``key + 2^31`` are those of the key itself, so under a trace that one
    alternate scores high too; the others share lists with it only after different contexts.

    Args:
        key: the real key, from 0 to 2^32 - 1.
        count: how many alternates.
        rng: draws the place, and which keys are left out where there are too many.
        allowed: whether a key could have been a real one; must hold of ``key``.
    """
    spare = 16 + count // 16  # one in 256 is too short a key
    multipliers = smooth_numbers((count + 2 + spare) // 2)
    place = int(rng.integers(2 * len(multipliers)))
    base = (key + HALF * (place % 2)) * pow(multipliers[place // 2], -1, RING)
    family = dict.fromkeys((base * h + more) % RING for h in multipliers for more in (0, HALF))
    others = [each for each in family if each != key and allowed(each)]
    if len(family) == 2 * len(multipliers) and len(others) >= count:
        chosen = np.sort(rng.permutation(len(others))[:count])
        return [others[i] for i in chosen]
    # A key that ends in 16 zeros or more has equal multiples: random ones are as likely as it is.
    found: list[int] = []
    while len(found) < count:
        other = key * (2 * int(rng.integers(RING // 2)) + 1) % RING
        if allowed(other):
            found.append(other)
    return found


def _seeds(groups: ContextGroups, key: int) -> npt.NDArray[np.uint64]:
    if 0 <= key <= MASK:  # no product reaches 2^64 - 1
        product = groups.contexts.astype(np.uint32) * np.uint32(key)
        return product.astype(np.uint64)
    return np.array([key * c % WRAP & MASK for c in groups.contexts.tolist()], dtype=np.uint64)


def scan_lists(
    groups: ContextGroups,
    keys: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> Floats:
    """Weighted green pairs under each key, shape (keys,).

    Memory is about 16 bytes a (key, context) cell, and at most 0.6 GB: beyond 2^25 cells the keys
    are taken in turns, and share lists only with those of the same turn.
    """
    totals = np.zeros(len(keys))
    if not len(groups.contexts):
        return totals
    step = max(1, CELLS // len(groups.contexts))
    for first in range(0, len(keys), step):
        part = keys[first : first + step]
        cells = np.stack([_seeds(groups, key) for key in part], axis=1).ravel()
        cells <<= np.uint64(CELL_BITS)
        cells |= np.arange(len(cells), dtype=np.uint64)
        cells.sort()

        def told(done: float, before: int = first, size: int = len(part)) -> None:
            if progress is not None:
                progress(before + round(size * done), len(keys))

        totals[first : first + step] = _scan_cells(cells, groups, len(part), told)
    return totals


def _scan_cells(
    cells: npt.NDArray[np.uint64],
    groups: ContextGroups,
    keys: int,
    told: Callable[[float], None],
) -> Floats:
    """The sums of one turn; ``cells`` are sorted: the seed above, context and key below."""
    seeds = cells >> np.uint64(CELL_BITS)
    bounds = np.flatnonzero(np.diff(seeds, prepend=seeds[:1] + np.uint64(1)))
    lists = seeds[bounds].astype(np.int64)
    del seeds
    bounds = np.append(bounds, len(cells))
    totals = np.zeros(keys)
    starts = range(0, len(lists), TURN)

    def take(first: int) -> Floats:
        last = min(first + TURN, len(lists))
        edges = bounds[first : last + 1]
        return _take_turn(lists[first:last], edges, cells, groups, keys)

    # numpy lets go of the interpreter's lock in all long steps. Sums are added up in order, so
    # that the number of processors changes no bit.
    with ThreadPoolExecutor(_threads()) as pool:
        parts = pool.map(take, starts) if len(starts) > 1 else map(take, starts)
        for done, part in enumerate(parts, 1):
            totals += part
            told(done / len(starts))
    return totals


def _threads() -> int:
    """As many as there are processors, or as OMP_NUM_THREADS allows."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    most = int(allowed) if allowed.isdecimal() and int(allowed) else MOST_THREADS
    return min(most, MOST_THREADS, os.cpu_count() or 1)


def _take_turn(
    lists: Ints,
    edges: Ints,
    cells: npt.NDArray[np.uint64],
    groups: ContextGroups,
    keys: int,
) -> Floats:
    """The sums of some lists, list i being that of the cells from ``edges[i]`` on."""
    head, totals = groups.head(), np.zeros(keys)
    for some in head.batches(lists):
        ends = edges[some.start : some.stop + 1]
        rows = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        which = (cells[ends[0] : ends[-1]] & np.uint64(CELLS - 1)).astype(np.int64)
        context, key = np.divmod(which, keys)
        # Keys that share the list of the same context share its sum.
        new = np.ones(len(which), dtype=bool)
        new[1:] = (context[1:] != context[:-1]) | (rows[1:] != rows[:-1])
        rows, context, owner = rows[new], context[new], np.cumsum(new) - 1
        sums = np.concatenate(
            [_sums(groups, head, rows[piece], context[piece])
             for piece in _pieces(groups.sizes[context])]
        )  # fmt: skip
        totals += np.bincount(key, sums[owner], keys)
    return totals


def _pieces(sizes: Ints) -> Iterator[slice]:
    """Runs of cells with no more look-ups than memory allows, a cell at least."""
    ends = np.cumsum(sizes)
    if ends[-1] <= QUERIES:
        yield slice(0, len(sizes))
        return
    first = 0
    while first < len(sizes):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + QUERIES, side="right")))
        yield slice(first, last)
        first = last


def _sums(groups: ContextGroups, head: HeadOfPermutation, rows: Ints, context: Ints) -> Floats:
    """Weighted hits of each context under the list of its row."""
    sizes = groups.sizes[context]
    starts = np.cumsum(sizes) - sizes
    index = np.repeat(groups.starts[context] - starts, sizes) + np.arange(sizes.sum())
    found = head.stands(np.repeat(rows, sizes), groups.tokens[index])
    hits = found.astype(np.float64) if groups.weights is None else found * groups.weights[index]
    return np.asarray(np.add.reduceat(hits, starts))
