"""The total of a population from a random sample of it.

A total over ``N`` of which ``n`` were sampled has the standard error ``s * sqrt(U + U**2 / n)``,
``U`` being those that the sample does not hold: it counts both the error of the mean and the
scatter of those ``U`` themselves, and with ``U = N - n`` it is the finite population correction
(Cochran, Sampling Techniques, 3rd ed., 2.6). Lengths and costs are skewed, so the interval is a
bootstrap-t (Efron & Tibshirani, An Introduction to the Bootstrap, 12.5; Hall, The Bootstrap and
Edgeworth Expansion, 3.10), and Student's t below ten. No sample knows of a tail that it has not
seen: below some 16, skewed figures are covered less often than claimed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

__all__ = ["Total", "population_total"]

FEW = 10
RESAMPLES = 1999


class Total(NamedTuple):
    """An estimated total with the ends of its interval; ``high`` is ``None`` without one."""

    estimate: float
    low: float
    high: float | None


def population_total(
    values: npt.NDArray[np.float64],
    unseen: int,
    population: int,
    rng: np.random.Generator,
    *,
    most: float | None = None,
    confidence: float = 0.95,
) -> Total | None:
    """The sum of a figure that is never negative over a population, ``None`` without a sample.

    Args:
        values: the sampled figures; shape ``[n]``.
        unseen: how many of the population the sample does not hold: ``population - n``, or all of
            them where the sample lies outside.
        population: its size; 0 sums to nothing.
        rng: draws the resamples.
        most: the largest that one figure can be, where that is known.
        confidence: of the interval.
    """
    n = len(values)
    if population == 0:
        return Total(0.0, 0.0, 0.0)
    if n == 0:
        return None
    mean = float(values.mean())
    seen = mean * (population - unseen)
    point = seen + unseen * mean
    if unseen == 0:
        return Total(point, point, point)
    end = None if most is None else seen + unseen * most
    if n == 1:
        return Total(point, seen, end)
    spread = float(values.std(ddof=1))
    error = spread * math.sqrt(unseen + unseen**2 / n)
    low_t, high_t = _t_ends(values, mean, spread, rng, (1 - confidence) / 2)
    high = max(point - low_t * error, point)
    return Total(point, max(point - high_t * error, seen), high if end is None else min(high, end))


def _t_ends(
    values: npt.NDArray[np.float64],
    mean: float,
    spread: float,
    rng: np.random.Generator,
    tail: float,
) -> tuple[float, float]:
    """The tail points of the studentised mean, by bootstrap where ``n`` allows."""
    n = len(values)
    student = float(stdtrit(n - 1, 1 - tail))
    if n < FEW or spread == 0.0:
        return -student, student
    draws = values[rng.integers(0, n, (RESAMPLES, n))]  # B x N
    spreads = draws.std(axis=1, ddof=1)
    varied = spreads > spread * 1e-9  # a resample of one value alone has no t
    t = (draws.mean(axis=1)[varied] - mean) / (spreads[varied] / math.sqrt(n))
    low, high = np.quantile(t, [tail, 1 - tail])
    return float(low), float(high)
