"""Means of figures with known ends, such as scores in [0, 1]: alone, in pairs, and as a ratio.

The figures of an evaluation are often nearly all alike (every answer right, few pairs different),
and a bootstrap of such figures knows nothing of the rare loss that it has not seen: at 30 pairs of
which 4 % differ, its 90 % interval misses the truth in a third of the cases. So these are score
intervals: the statistic of a mean m is

    z(m) = (mean(x) - m) / sqrt(variance / n)

with the variance of the likeliest distribution on the figures seen *and the ends of the range* that
has the mean m: the nonparametric likelihood of Owen (Biometrika 75, 1988), whose constrained
weights are 1 / (n (1 + l (x - m))) with l in [-1 / (high - m), 1 / (m - low)], and what they lack
to one lies on the end of the range where l is at its bound. For zeros and ones this is Wilson's
score interval, for differences of such pairs Tango's (``stats.paired``). Interval, p-value and
verdict come from the one statistic, so they never contradict one another.

Shapes: N figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from overproof.stats.intervals import Estimate, wilson
from overproof.stats.paired import non_inferiority, paired_difference, score_statistic

__all__ = [
    "MeanComparison",
    "compare_means",
    "mean_interval",
    "ratio_of_means",
    "score_of_mean",
]

Floats = npt.NDArray[np.float64]
Verdict = Literal[
    "non-inferior", "inferior", "inconclusive", "better", "worse", "no difference shown"
]
_METHOD = "score, nonparametric"
_HUGE = 1e6
_LARGEST_RATIO = 1e4


@dataclass(frozen=True)
class MeanComparison:
    """The mean of first minus that of second, on the same items.

    With a ``margin`` the interval is two-sided at ``1 - 2 alpha``, so that each end is a one-sided
    limit at ``1 - alpha``, and ``p_value`` is one-sided, of a difference of ``-margin`` or worse.
    Without one the interval is at ``1 - alpha`` and ``p_value`` two-sided, of no difference.
    """

    difference: Estimate
    margin: float | None
    alpha: float
    p_value: float
    verdict: Verdict


def score_of_mean(values: Floats, mean: float, low: float, high: float) -> float:
    """The z of the hypothesis that the true mean is ``mean``; positive where figures are larger.

    Args:
        values: N figures in [low, high].
        mean: of the hypothesis.
        low: the least that a figure can be.
        high: the most.
    """
    seen, counts = np.unique(values, return_counts=True)
    return _score(seen - mean, counts, mean - low, high - mean)


def _score(gaps: Floats, counts: npt.NDArray[np.int64], below: float, above: float) -> float:
    """``gaps`` are figures less the mean, ``below`` and ``above`` the room on its two sides."""
    n, total = int(counts.sum()), float(gaps @ counts)
    if abs(total) < 1e-12 * n:
        return 0.0
    sign = 1.0 if total > 0 else -1.0
    room = below if total > 0 else above
    if room <= 0:  # a mean at the end of the range, and figures off it
        return sign * _HUGE
    bent = sign * gaps  # now l is sought on [0, 1 / room]

    def slope(tilt: float) -> float:
        return float(np.sum(counts * bent / (1 + tilt * bent)))

    most = (1 - 1e-12) / room
    tilt = most if slope(most) >= 0 else float(brentq(slope, 0.0, most, xtol=1e-13 / room))
    weights = counts / (n * (1 + tilt * bent))
    lacking = max(1.0 - float(weights.sum()), 0.0)  # of probability, for the end of the range
    variance = float(weights @ bent**2) + lacking * room**2
    return sign * min(abs(total) / math.sqrt(max(n * variance, 1e-300)), _HUGE)


def mean_interval(
    values: Floats, confidence: float = 0.95, *, low: float = 0.0, high: float = 1.0
) -> Estimate:
    """The mean of figures in [low, high] with its interval; Wilson's for zeros and ones.

    Raises:
        ValueError: without a figure, or with one outside of the range.
    """
    _check(values, low, high)
    if (low, high) == (0.0, 1.0) and _is_binary(values):
        return wilson(int(values.sum()), len(values), confidence)
    bottom, top = _limits(values, low, high, (1 - confidence) / 2)
    return Estimate(float(values.mean()), bottom, top, confidence, _METHOD, len(values))


def compare_means(
    first: Floats, second: Floats, *, margin: float | None, alpha: float
) -> MeanComparison:
    """Two contestants' scores in [0, 1] on the same items.

    Args:
        first: N scores.
        second: N scores of the same items.
        margin: the loss that would be accepted, in (0, 1); ``None`` asks which one is better.
        alpha: one-sided level with a margin, two-sided without.

    Raises:
        ValueError: they are not paired, lie outside of [0, 1], or a level makes no sense.
    """
    if first.shape != second.shape:
        raise ValueError(f"not paired: {first.shape} against {second.shape}")
    _check(first, 0.0, 1.0)
    _check(second, 0.0, 1.0)
    if not 0 < alpha < 0.5 or (margin is not None and not 0 < margin < 1):
        raise ValueError(f"no test at margin {margin} and level {alpha}")
    if _is_binary(first) and _is_binary(second):
        return _compare_binary(first > 0.5, second > 0.5, margin, alpha)
    gaps = first - second
    tail = alpha if margin is not None else alpha / 2
    low, high = _limits(gaps, -1.0, 1.0, tail)
    difference = Estimate(float(gaps.mean()), low, high, 1 - 2 * tail, _METHOD, len(gaps))
    z = score_of_mean(gaps, 0.0 if margin is None else -margin, -1.0, 1.0)
    p = float(ndtr(-z)) if margin is not None else 2 * float(ndtr(-abs(z)))
    return MeanComparison(difference, margin, alpha, p, _verdict(difference, margin))


def _compare_binary(
    first: npt.NDArray[np.bool_],
    second: npt.NDArray[np.bool_],
    margin: float | None,
    alpha: float,
) -> MeanComparison:
    if margin is not None:
        found = non_inferiority(first, second, margin, alpha)
        return MeanComparison(found.difference, margin, alpha, found.p_value, found.verdict)
    n, b, c = len(first), int(np.sum(first & ~second)), int(np.sum(second & ~first))
    difference = paired_difference(b, c, n, 1 - alpha)
    p = 2 * float(ndtr(-abs(float(score_statistic(b, c, n, 0.0))))) if b or c else 1.0
    return MeanComparison(difference, None, alpha, p, _verdict(difference, None))


def _verdict(difference: Estimate, margin: float | None) -> Verdict:
    if margin is not None:
        if difference.low > -margin:
            return "non-inferior"
        return "inferior" if difference.high < -margin else "inconclusive"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "no difference shown"


def ratio_of_means(first: Floats, second: Floats, confidence: float = 0.95) -> Estimate | None:
    """The mean of first as a share of that of second, on the same items, as Fieller has it.

    A ratio is in the interval unless the mean of ``first - ratio * second`` is shown not to be
    zero (Fieller, Journal of the Royal Statistical Society B 16, 1954; here with the score).

    Returns:
        ``None`` where second is zero throughout: there is no ratio.

    Raises:
        ValueError: they are not paired, or lie outside of [0, 1].
    """
    if first.shape != second.shape:
        raise ValueError(f"not paired: {first.shape} against {second.shape}")
    _check(first, 0.0, 1.0)
    _check(second, 0.0, 1.0)
    if not second.any():
        return None
    point = float(first.mean() / second.mean())
    limit = float(ndtri(0.5 + confidence / 2))

    def excess(ratio: float) -> float:
        # Divided by (1 + ratio), so that neither end of the range runs away.
        scale = 1 + ratio
        gaps = (first - ratio * second) / scale
        return score_of_mean(gaps, 0.0, -ratio / scale, 1 / scale)

    low = _crossing(lambda r: excess(r) - limit, 0.0, point)
    top = max(2 * point, 1.0)
    while excess(top) > -limit and top < _LARGEST_RATIO:
        top *= 2
    high = _crossing(lambda r: excess(r) + limit, point, top)
    method = f"Fieller, {_METHOD}"
    return Estimate(point, low, high, confidence, method, len(first))


def _limits(values: Floats, low: float, high: float, tail: float) -> tuple[float, float]:
    """Both one-sided limits at ``1 - tail``."""
    mean = float(values.mean())
    limit = float(ndtri(1 - tail))
    seen, counts = np.unique(values, return_counts=True)

    def z(at: float) -> float:
        return _score(seen - at, counts, at - low, high - at)

    return (
        _crossing(lambda at: z(at) - limit, low, mean),
        _crossing(lambda at: z(at) + limit, mean, high),
    )


def _crossing(falling: Callable[[float], float], left: float, right: float) -> float:
    """Where a falling function is zero, the nearer end where it is not within."""
    if right - left < 1e-12 or falling(left) <= 0:
        return left
    if falling(right) >= 0:
        return right
    return float(brentq(falling, left, right, xtol=1e-10))


def _is_binary(values: Floats) -> bool:
    return bool(np.all((values == 0.0) | (values == 1.0)))


def _check(values: Floats, low: float, high: float) -> None:
    if values.ndim != 1 or not len(values):
        raise ValueError(f"not a list of figures: {values.shape}")
    if not (np.all(values >= low) and np.all(values <= high)):
        raise ValueError(f"figures outside of [{low}, {high}]")
