"""Complementary coverage: evaluators repeat a benchmark, a pool partitions a data set.

Of the distinct turns that the community's members sample (the 32 smallest hashes, the same for
every account: Beyer et al. 2007), how many belong to one owner alone; times the share of requests
that carry a shared template, as disjoint turns mean nothing among people who do different things.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from overproof.guard.crowd import coverage_by_kind, owner_weights, percent
from overproof.guard.parts import Community, CommunitySignal, Family

__all__ = ["SIGNAL", "disjoint"]

Sampled = tuple[int, npt.NDArray[np.uint64], bool]

LEAST_TURNS = 3
MOST_PAIRS = 512
FRAMES = ("template", "opening", "closing", "shingle")


def disjoint(community: Community) -> float:
    """1 − the mean overlap of pairs of members, on the part of hash space both sketches cover."""
    sketches = []
    for at, one in enumerate(community.members):
        hashes = np.array(one.turns.hashes, dtype=np.uint64)
        if hashes.size >= LEAST_TURNS:
            sketches.append((at, hashes, len(hashes) == 32))
    if len(sketches) < 2:
        return float("nan")
    count = len(sketches)
    stride = max(1, count * (count - 1) // 2 // MOST_PAIRS)
    overlaps, place = [], 0
    for first in range(count):
        for second in range(first + 1, count):
            place += 1
            if place % stride:
                continue
            overlaps.append(_overlap(sketches[first], sketches[second]))
    return 1.0 - float(np.mean(overlaps))


def _overlap(a: Sampled, b: Sampled) -> float:
    """Shared turns over those of the account with fewer, |A ∩ B| / min(|A|, |B|)."""
    one, other = a[1], b[1]
    end = min(one[-1] if a[2] else _END, other[-1] if b[2] else _END)
    one, other = one[one <= end], other[other <= end]
    fewer = min(one.size, other.size)
    return np.intersect1d(one, other).size / fewer if fewer else 0.0


_END = np.uint64(2**64 - 1)


def _framed(community: Community) -> float:
    """Share of requests within a shared frame."""
    kinds = coverage_by_kind(community)
    weights = owner_weights(community)
    best = 0.0
    for kind in FRAMES:
        shares = kinds.get(kind)
        if shares is not None:
            best = max(best, float((np.nan_to_num(shares) * weights).sum()))
    return best


def _measure(community: Community) -> float:
    return disjoint(community) * _framed(community)


def _detail(community: Community) -> str:
    return (
        f"{percent(_framed(community))} of requests share a frame, and members fill it with "
        f"{percent(disjoint(community))} different content: a data set divided up"
    )


SIGNAL = CommunitySignal("partition", Family.COVERAGE, _measure, _detail)
