"""The ghosts test in pre-planned stages: looks at n_1 < n_2 < … prompts, each level exact.

A spending function says how much of α may be used up by the time a share of the planned prompts
has been seen (Lan and DeMets, Biometrika 70, 1983). The boundary of each look is the smallest
whole-number sum of ranks at which the probability of having crossed by then, under the null
hypothesis, stays within what may be spent. That probability is exact: the distribution of the sum
is convolved on from look to look with the mass beyond each boundary removed (an absorbing
boundary). What a look cannot spend, because the sum is discrete, is left to the next.

Looks may come at other numbers of prompts and ghosts than planned, as long as that does not depend
on what was seen: the boundaries are computed from the numbers that came.

The p-value orders outcomes by stage: an earlier crossing is stronger than a later one, and within a
look a larger sum is. So ``p = P(crossed before) + P(not crossed before, sum >= seen)``, exact like
the boundaries; it is at most the level exactly where the boundary was reached (Tsiatis, Rosner and
Mehta, Biometrics 40, 1984).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy.special import ndtr, ndtri

from overproof.audit.lattice import Lattice, convolve, sum_of, uniform_lattice, upper_tail
from overproof.audit.ranks import ScoredPool, doubled_midranks, pool_lattice

__all__ = [
    "Decision",
    "Look",
    "SequentialPlan",
    "Spending",
    "boundaries",
    "crossings",
    "monitor",
    "monitor_pools",
]

Parts = list[tuple[Lattice, int]]  # independent variables, each with its number of copies


class Spending(StrEnum):
    """How α is spent over the planned prompts."""

    OBRIEN_FLEMING = "like O'Brien and Fleming's: little early, most at the end"
    POCOCK = "like Pocock's: evenly"


class Decision(StrEnum):
    """What a look says."""

    CONTINUE = "continue"
    REJECT = "reject"
    END = "the plan is at its end without a rejection"


@dataclass(frozen=True)
class SequentialPlan:
    """Written and hashed before any data is seen.

    Attributes:
        looks: numbers of prompts at which to look, increasing; the last ends the test.
        ghosts: K.
        alpha: over all looks together.
        spending: how it is spent.

    Raises:
        ValueError: looks that do not increase, no ghosts, or an alpha outside of (0, 1).
    """

    looks: tuple[int, ...]
    ghosts: int
    alpha: float
    spending: Spending = Spending.OBRIEN_FLEMING

    def __post_init__(self) -> None:
        rises = all(a < b for a, b in zip((0, *self.looks), self.looks, strict=False))
        if not self.looks or not rises:
            raise ValueError(f"looks at {self.looks} do not increase from 1")
        if self.ghosts < 1 or not 0 < self.alpha < 1:
            raise ValueError(f"{self.ghosts} ghosts at level {self.alpha}")

    def spent_by(self, share: float) -> float:
        """α that may be used up when ``share`` of the planned prompts has been seen."""
        share = min(1.0, share)
        if share <= 0:
            return 0.0
        if share >= 1:
            return self.alpha
        if self.spending is Spending.POCOCK:
            return self.alpha * math.log1p((math.e - 1) * share)
        z = -float(ndtri(self.alpha / 2))
        return min(self.alpha, 2 * float(ndtr(-z / math.sqrt(share))))


@dataclass(frozen=True)
class Look:
    """One look.

    Attributes:
        prompts: seen so far.
        boundary: the smallest sum of ranks that rejects; None where nothing could.
        spent: exact probability of having crossed by now under the null hypothesis.
        allowed: what the spending function allows by now.
        statistic: the sum seen; None for a plan.
        decision: None for a plan.
        p_value: exact, by the order of stages (earlier is stronger); None before a decision.
        log10: of the p-value.
        floor_log10: of the smallest p-value that the looks so far could have given.
    """

    prompts: int
    boundary: int | None
    spent: float
    allowed: float
    statistic: int | None = None
    decision: Decision | None = None
    p_value: float | None = None
    log10: float | None = None
    floor_log10: float = 0.0


def boundaries(plan: SequentialPlan) -> list[Look]:
    """The boundary of every planned look, with the exact level spent by then."""
    steps = [int(step) for step in np.diff((0, *plan.looks))]
    part = uniform_lattice(plan.ghosts)
    walked = _walk(plan, [[(part, step)] for step in steps], steps, _planned_shares(plan))
    return [look for look, _ in walked]


def crossings(plan: SequentialPlan, looks: Sequence[Look], part: Lattice) -> list[float]:
    """The probability of crossing first at each look, where ranks are drawn from ``part``.

    Args:
        plan: the plan.
        looks: its `boundaries`.
        part: the distribution of one prompt's rank; under the null hypothesis uniform.
    """
    alive, found = Lattice(0, np.ones(1)), []
    for step, look in zip(np.diff((0, *plan.looks)), looks, strict=True):
        arrived = convolve(alive, sum_of([(part, int(step))]))
        kept = len(arrived.pmf)
        if look.boundary is not None:
            kept = min(max(0, look.boundary - arrived.low), kept)
        found.append(float(arrived.pmf[kept:].sum()))
        if not kept:
            return found + [0.0] * (len(looks) - len(found))
        alive = Lattice(arrived.low, arrived.pmf[:kept], arrived.lost)
    return found


def _planned_shares(plan: SequentialPlan) -> list[float]:
    return [look / plan.looks[-1] for look in plan.looks]


def _walk(
    plan: SequentialPlan,
    parts_by_look: Sequence[Parts],
    prompts_by_look: Sequence[int],
    shares: Sequence[float],
) -> list[tuple[Look, Lattice]]:
    """Each look with the distribution of the sum before its boundary absorbs."""
    alive = Lattice(0, np.ones(1))
    crossed, seen = 0.0, 0
    largest, floor = 0.0, 0.0  # log10 of the chance of the largest sum, now and where it first wins
    may_reject = False
    found = []
    for i, (parts, new, share) in enumerate(
        zip(parts_by_look, prompts_by_look, shares, strict=False)
    ):
        seen += new
        largest += sum(n * math.log10(p.pmf[np.flatnonzero(p.pmf)[-1]]) for p, n in parts)
        arrived = convolve(alive, sum_of(parts))
        # The last planned look spends what is left; looks beyond the plan never come.
        is_last = i == len(plan.looks) - 1
        allowed = plan.alpha if is_last else plan.spent_by(share)
        survival = arrived.survival()
        # What was trimmed counts as crossed, so that the level is never exceeded.
        fits = np.flatnonzero((crossed + survival + arrived.lost <= allowed) & (arrived.pmf > 0))
        boundary = arrived.low + int(fits[0]) if len(fits) else None
        kept = int(fits[0]) if len(fits) else len(arrived.pmf)
        if boundary is not None:
            crossed += float(survival[fits[0]])
        if not may_reject:
            floor, may_reject = largest, boundary is not None
        found.append((Look(seen, boundary, crossed, allowed, floor_log10=floor), arrived))
        alive = Lattice(arrived.low, arrived.pmf[:kept], arrived.lost)
    return found


def monitor(
    plan: SequentialPlan,
    ranks_by_look: Sequence[Sequence[int]],
    ghosts_by_look: Sequence[Sequence[int]] | None = None,
) -> list[Look]:
    """Take the looks that have come, up to the one that decides.

    Args:
        plan: as it was written.
        ranks_by_look: R of the prompts that are *new* at each look, ties broken at random.
        ghosts_by_look: K of each of them; the plan's for all where it is None.

    Raises:
        ValueError: more looks than planned, an empty one, or ranks outside of 0..K.
    """
    if ghosts_by_look is None:
        ghosts_by_look = [[plan.ghosts] * len(ranks) for ranks in ranks_by_look]
    if len(ranks_by_look) > len(plan.looks):
        raise ValueError(f"{len(ranks_by_look)} looks where {len(plan.looks)} were planned")
    for ranks, ghosts in zip(ranks_by_look, ghosts_by_look, strict=True):
        if not len(ranks) or any(not 0 <= r <= k for r, k in zip(ranks, ghosts, strict=True)):
            raise ValueError("each look has new ranks, and each lies between 0 and its K")
    parts = [_uniform_parts(ghosts) for ghosts in ghosts_by_look]
    counts = [len(ranks) for ranks in ranks_by_look]
    shares = [seen / plan.looks[-1] for seen in np.cumsum(counts)]
    return _judged(plan, parts, counts, shares, [int(sum(ranks)) for ranks in ranks_by_look])


def _uniform_parts(ghosts: Sequence[int]) -> Parts:
    sizes, copies = np.unique(np.asarray(ghosts, dtype=np.int64), return_counts=True)
    return [(uniform_lattice(int(k)), int(n)) for k, n in zip(sizes, copies, strict=True)]


def monitor_pools(plan: SequentialPlan, batches: Sequence[Sequence[ScoredPool]]) -> list[Look]:
    """Take the looks that have come on pools of scores, up to the one that decides.

    Ranks are *doubled mid-ranks*, exact given the ties, so that no coin is tossed and an earlier
    look is the same whenever it is computed. Pools of another size than planned are weighed by
    1/(M+1) against the planned one, rounded and at least 1, whatever comes later.

    Args:
        plan: as it was written; a look spends what its *planned* number of prompts may spend,
            whether or not some of them had to be left out.
        batches: the pools that are *new* at each look; one that has none is allowed.

    Returns:
        Looks whose statistics and boundaries are twice the sum of mid-ranks.

    Raises:
        ValueError: more looks than planned.
    """
    if len(batches) > len(plan.looks):
        raise ValueError(f"{len(batches)} looks where {len(plan.looks)} were planned")
    parts, sums = [], []
    for batch in batches:
        copies: dict[int, tuple[Lattice, int]] = {}
        total = 0
        for pool in batch:
            weight = max(1, round((plan.ghosts + 2) / (len(pool.scores) + 1)))
            part, value = pool_lattice(doubled_midranks(pool.scores), pool.served, weight)
            total += value
            copies[id(part)] = (part, copies.get(id(part), (part, 0))[1] + 1)
        parts.append(list(copies.values()))
        sums.append(total)
    return _judged(plan, parts, [len(batch) for batch in batches], _planned_shares(plan), sums)


def _judged(
    plan: SequentialPlan,
    parts_by_look: Sequence[Parts],
    prompts_by_look: Sequence[int],
    shares: Sequence[float],
    sums: Sequence[int],
) -> list[Look]:
    """Each look with its sum, decision and p-value, up to the one that decides."""
    total, before = 0, 0.0
    seen: Parts = []
    taken: list[Look] = []
    walked = _walk(plan, parts_by_look, prompts_by_look, shares)
    for (look, arrived), parts, new in zip(walked, parts_by_look, sums, strict=True):
        total += new
        seen += parts
        decision = Decision.CONTINUE
        if look.boundary is not None and total >= look.boundary:
            decision = Decision.REJECT
        elif len(taken) == len(plan.looks) - 1:
            decision = Decision.END
        p_value = log10 = None
        if decision is not Decision.CONTINUE:
            log10 = _stage_wise(before, arrived, seen, total, look.floor_log10)
            p_value = 10.0**log10
        before = look.spent
        taken.append(
            replace(look, statistic=total, decision=decision, p_value=p_value, log10=log10)
        )
        if decision is not Decision.CONTINUE:
            break
    return taken


def _stage_wise(before: float, arrived: Lattice, seen: Parts, total: int, floor: float) -> float:
    """log10 of ``P(crossed before) + P(not crossed before, sum >= total)``."""
    if before == 0:  # nothing was absorbed: the whole tail, precise however small
        return min(0.0, max(floor, upper_tail(seen, total).log10))
    place = min(max(0, total - arrived.low), len(arrived.pmf))
    beyond = float(arrived.pmf[place:].sum()) + arrived.lost
    return min(0.0, max(floor, math.log10(before + beyond)))
