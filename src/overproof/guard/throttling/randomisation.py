"""Exact p-values from our own coins (Fisher, *The Design of Experiments*, 1935, chapter 2).

Shapes: W windows, A assignments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc

__all__ = ["TwoSided", "assignments", "binomial_tails", "fisher_combined", "tails"]

Floats = npt.NDArray[np.float64]
EXACT_UP_TO = 14  # coins whose every outcome is looked at
DRAWS = 9_999
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class TwoSided:
    """Both one-sided p-values of one observed statistic."""

    upper: float
    lower: float


def assignments(windows: int, *, draws: int = DRAWS, seed: int = 0) -> tuple[Floats, bool]:
    """Outcomes of W fair coins as signs, A x W: all of them where feasible, else ``draws``.

    Returns:
        The signs, and whether they are all there are.
    """
    if windows <= EXACT_UP_TO:
        numbers = np.arange(1 << windows)[:, None] >> np.arange(windows)
        return np.where(numbers & 1, 1.0, -1.0), True
    flips = np.random.default_rng(seed).integers(0, 2, size=(draws, windows))
    return np.where(flips, 1.0, -1.0), False


def tails(observed: float, null: Floats, exact: bool) -> TwoSided:
    """How often coins alone give a statistic as high, and as low, as that seen.

    Args:
        observed: of the coins that fell.
        null: of other outcomes of the coins, A.
        exact: they are all outcomes; else the observed one counts as one more draw, which keeps
            the test exact: (b + 1) / (m + 1) (Phipson and Smyth 2010, arXiv 1603.05766).
    """
    slack = _TOLERANCE * (1 + abs(observed))
    high = int(np.count_nonzero(null >= observed - slack))
    low = int(np.count_nonzero(null <= observed + slack))
    if exact:
        return TwoSided(high / len(null), low / len(null))
    return TwoSided((high + 1) / (len(null) + 1), (low + 1) / (len(null) + 1))


def binomial_tails(hits: int, coins: int) -> TwoSided:
    """P(X >= hits) and P(X <= hits) for the number X of heads among fair coins, exactly."""
    whole = 1 << coins
    low = sum(math.comb(coins, k) for k in range(hits + 1))
    high = whole - low + math.comb(coins, hits)
    return TwoSided(high / whole, low / whole)


def fisher_combined(p_values: Sequence[float]) -> float:
    """One p-value from several, each valid given those before it.

    Fisher's method (1932): -2 times the sum of logs is chi-squared with two degrees of freedom for
    each; with p-values that take few values it errs on the safe side.
    """
    statistic = -2 * sum(math.log(max(p, 1e-300)) for p in p_values)
    return float(chdtrc(2 * len(p_values), statistic))
