"""Did what was asked again and again change? A permutation test on distances between answers.

A series holds the answers to one question, in the order in which they were asked. While nothing
changes, the order means nothing: every order was as likely. The test compares the order that there
was with orders drawn at random (Mantel, *Cancer Research* 27, 1967: distance in kind against
distance in time), each series on its own, since questions differ in how far their answers scatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

__all__ = ["Series", "smallest_p", "trend_p_value"]

Floats = npt.NDArray[np.float64]

DRAWS = 1999
_ROUNDING = 1e-9
_AT_ONCE = 2**21  # distances that are shuffled at a time


@dataclass(frozen=True)
class Series:
    """Answers to one question.

    ``times`` is of shape (n,), when each was asked; ``distances`` of shape (kinds, n, n), how far
    apart they are in each of several ways: symmetric, with zeros on the diagonals.
    """

    times: Floats
    distances: Floats


def trend_p_value(series: Sequence[Series], *, draws: int = DRAWS, seed: int = 0) -> float:
    """One-sided p-value of the hypothesis that the order in which answers came means nothing.

    The statistic of one kind is the sum over all pairs of distance times time apart; the kinds
    are standardised by their own permutations and the largest counts. With ``draws`` random orders
    the p-value is (1 + those at least as extreme) / (1 + draws), which is never too small
    (Phipson and Smyth, *Stat. Appl. Genet. Mol. Biol.* 9, 2010). It assumes that without a change
    one answer's scatter does not depend on another's.

    Raises:
        ValueError: series with different numbers of kinds.
    """
    if not series:
        return 1.0
    if len({one.distances.shape[0] for one in series}) > 1:
        raise ValueError("every series needs the same kinds of distance")
    rng = np.random.default_rng(seed)
    kinds = series[0].distances.shape[0]
    totals_kd = np.zeros((kinds, draws + 1))
    for one in series:
        n = len(one.times)
        apart_nn = np.abs(one.times[:, None] - one.times[None, :])
        orders = rng.permuted(np.tile(np.arange(n), (draws + 1, 1)), axis=1)
        orders[0] = np.arange(n)
        size = max(1, _AT_ONCE // (kinds * n * n))
        for start in range(0, draws + 1, size):
            some_dn = orders[start : start + size]
            shuffled_kdnn = one.distances[:, some_dn[:, :, None], some_dn[:, None, :]]
            totals_kd[:, start : start + size] += 0.5 * np.einsum(
                "kdij,ij->kd", shuffled_kdnn, apart_nn
            )
    spread_k = totals_kd.std(axis=1)
    said_k = spread_k > _ROUNDING * (1.0 + np.abs(totals_kd).max(axis=1))
    if not said_k.any():  # every order gives the same: the answers never differed
        return 1.0
    centred_kd = totals_kd[said_k] - totals_kd[said_k].mean(axis=1, keepdims=True)
    extreme_d = (centred_kd / spread_k[said_k, None]).max(axis=0)
    as_extreme = np.count_nonzero(extreme_d[1:] >= extreme_d[0] - _ROUNDING)
    return float((1 + as_extreme) / (1 + draws))


def smallest_p(times: Sequence[float], series: int, *, draws: int = DRAWS) -> float:
    """The smallest p-value that so few answers can give: the floor of ``trend_p_value``.

    That of ``series`` questions, all asked at ``times``, whose answers all change once, for good,
    at the best moment and never scatter.

    Args:
        times: when each question was asked.
        series: number of questions.
        draws: as for ``trend_p_value``.
    """
    n = len(times)
    if n < 2 or series < 1:
        return 1.0
    least = 1.0 / (1 + draws)
    if n > 12:  # even one question's orders are more than the draws
        return least
    best = 1.0
    for changed in range(1, n):
        late = set(range(n - changed, n))
        observed = _apart(times, late)
        orders = [_apart(times, set(chosen)) for chosen in combinations(range(n), changed)]
        share = sum(value >= observed - _ROUNDING for value in orders) / math.comb(n, changed)
        best = min(best, share)
    return max(best**series, least)


def _apart(times: Sequence[float], late: set[int]) -> float:
    """The statistic where the answers at ``late`` are of one sort and the rest of another."""
    return sum(abs(times[i] - times[j]) for i in late for j in range(len(times)) if j not in late)
