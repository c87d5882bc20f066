"""Two classifiers on the same inputs: difference of their shares correct, and non-inferiority.

Of N paired inputs, ``first_only`` are right for the first alone and ``second_only`` for the second
alone; only these discordant pairs tell the two apart. Interval and test are Tango's score method
(Tango, *Equivalence test and confidence interval for the difference in proportions for the
paired-sample design*, Statistics in Medicine 17, 1998): both come from one statistic, so the test
rejects at alpha exactly when the one-sided limit lies above the margin. Its coverage is close to
nominal at small samples (Newcombe, Statistics in Medicine 17, 1998; Fagerland, Lydersen and Laake,
Statistics in Medicine 33, 2014).
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
from scipy.stats import binom

from overproof.stats.intervals import Estimate, wilson_bounds

__all__ = [
    "NonInferiority",
    "mcnemar_exact",
    "non_inferiority",
    "paired_difference",
    "partly_paired_non_inferiority",
    "score_statistic",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Verdict = Literal["non-inferior", "inferior", "inconclusive"]
_EDGE = 1.0 - 1e-12
_METHOD = "Tango score, paired"


@dataclass(frozen=True)
class NonInferiority:
    """First against second at a margin.

    ``difference`` is first minus second with the two-sided interval at ``1 - 2 alpha``: each of
    its ends is a one-sided limit at ``1 - alpha``, and the verdict is read off them. ``p_value`` is
    one-sided, of the hypothesis that the difference is ``-margin`` or worse.
    """

    difference: Estimate
    margin: float
    alpha: float
    p_value: float
    verdict: Verdict
    superior: bool
    first_only: int
    second_only: int


def score_statistic(
    first_only: npt.ArrayLike, second_only: npt.ArrayLike, n: int, difference: npt.ArrayLike
) -> Floats:
    """Tango's z for the hypothesis that the true difference is ``difference``; broadcasts.

    The variance is the maximum likelihood estimate under the hypothesis (Tango 1998, section 3).
    At a difference of zero it is McNemar's statistic.
    """
    b, c = np.asarray(first_only, dtype=np.float64), np.asarray(second_only, dtype=np.float64)
    delta = np.asarray(difference, dtype=np.float64)
    linear = -b - c + (2 * n - b + c) * delta
    constant = -c * delta * (1 - delta)
    root = np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0.0))
    share = np.maximum((root - linear) / (4 * n), 0.0)  # of "second alone", under the hypothesis
    variance = n * (2 * share + delta * (1 - delta))
    gap = b - c - n * delta
    with np.errstate(divide="ignore", invalid="ignore"):
        z = gap / np.sqrt(np.maximum(variance, 0.0))
    return np.where(np.abs(gap) < 1e-12, 0.0, z)


def _limit(first_only: int, second_only: int, n: int, z: float) -> float:
    """The difference whose score statistic is ``z``: a lower limit for ``z > 0``, else an upper."""

    def excess(delta: float) -> float:
        value = float(score_statistic(first_only, second_only, n, delta))
        return max(min(value, 1e6), -1e6) - z

    point = (first_only - second_only) / n
    low, high = (-_EDGE, min(point, _EDGE)) if z > 0 else (max(point, -_EDGE), _EDGE)
    if abs(point) == 1.0 and point * z < 0:
        return point
    if excess(low) <= 0:
        return -1.0
    if excess(high) >= 0:
        return 1.0
    return float(brentq(excess, low, high, xtol=1e-10))


def paired_difference(
    first_only: int, second_only: int, n: int, confidence: float = 0.95
) -> Estimate:
    """Difference of two paired shares, (first_only - second_only) / n, with Tango's interval.

    Raises:
        ValueError: for counts that do not fit into ``n`` pairs.
    """
    if n < 1 or first_only < 0 or second_only < 0 or first_only + second_only > n:
        raise ValueError(f"{first_only} and {second_only} discordant pairs do not fit into {n}")
    z = float(ndtri(0.5 + confidence / 2))
    return Estimate(
        (first_only - second_only) / n,
        _limit(first_only, second_only, n, z),
        _limit(first_only, second_only, n, -z),
        confidence,
        _METHOD,
        n,
    )


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Two-sided exact p-value that both are right equally often (McNemar 1947, binomial form)."""
    n = first_only + second_only
    if n == 0:
        return 1.0
    return min(1.0, 2 * float(binom.cdf(min(first_only, second_only), n, 0.5)))


def _verdict(difference: Estimate, margin: float) -> Verdict:
    if difference.low > -margin:
        return "non-inferior"
    return "inferior" if difference.high < -margin else "inconclusive"


def non_inferiority(
    first_right: Bools, second_right: Bools, margin: float, alpha: float = 0.05
) -> NonInferiority:
    """Is the first at most ``margin`` worse than the second, on the same inputs?

    Args:
        first_right: N booleans.
        second_right: N booleans of the same inputs.
        margin: the loss that would be accepted, in (0, 1).
        alpha: one-sided level.
    """
    if first_right.shape != second_right.shape or first_right.ndim != 1:
        raise ValueError(f"not paired: {first_right.shape} against {second_right.shape}")
    _check_level(margin, alpha)
    n = len(first_right)
    first_only = int(np.sum(first_right & ~second_right))
    second_only = int(np.sum(second_right & ~first_right))
    difference = paired_difference(first_only, second_only, n, 1 - 2 * alpha)
    p_value = float(ndtr(-score_statistic(first_only, second_only, n, -margin)))
    return NonInferiority(
        difference=difference,
        margin=margin,
        alpha=alpha,
        p_value=p_value,
        verdict=_verdict(difference, margin),
        superior=difference.low > 0,
        first_only=first_only,
        second_only=second_only,
    )


def partly_paired_non_inferiority(
    first_right: Bools,
    second_right: Bools,
    second_known: Bools,
    margin: float,
    alpha: float = 0.05,
) -> NonInferiority:
    """Non-inferiority where the second is known on some of the first's inputs only.

    Square-and-add of the two Wilson intervals (Newcombe 1998, method 10; Zou and Donner,
    *Construction of confidence limits about effect measures*, Statistics in Medicine 27, 2008). The
    correlation that shared inputs bring is estimated on them and used only where it widens the
    interval: a positive one, which would narrow it, is taken as zero. The inputs with a second
    answer must be a random part of all.

    Args:
        first_right: N booleans.
        second_right: N booleans, read only where ``second_known``.
        second_known: N booleans.
        margin: the loss that would be accepted, in (0, 1).
        alpha: one-sided level.
    """
    _check_level(margin, alpha)
    n, m = len(first_right), int(second_known.sum())
    if m < 1:
        raise ValueError("no input has a second answer")
    if m == n:
        return non_inferiority(first_right, second_right, margin, alpha)
    first, second = first_right[second_known], second_right[second_known]
    p_first, p_second = float(first_right.mean()), float(second.mean())
    correlation = min(0.0, _phi(first, second)) * math.sqrt(m / n)

    def limit(z: float) -> float:
        """Lower limit for ``z > 0``, upper for ``z < 0``."""
        down, up = wilson_bounds(p_first, n, abs(z)), wilson_bounds(p_second, m, abs(z))
        side_first = p_first - down[0] if z > 0 else down[1] - p_first
        side_second = up[1] - p_second if z > 0 else p_second - up[0]
        square = side_first**2 + side_second**2 - 2 * correlation * side_first * side_second
        return p_first - p_second - math.copysign(math.sqrt(max(square, 0.0)), z)

    z = float(ndtri(1 - alpha))
    difference = Estimate(
        p_first - p_second, limit(z), limit(-z), 1 - 2 * alpha, "square-and-add of Wilson", m
    )
    return NonInferiority(
        difference=difference,
        margin=margin,
        alpha=alpha,
        p_value=_p_value(limit, p_first - p_second, margin),
        verdict=_verdict(difference, margin),
        superior=difference.low > 0,
        first_only=int(np.sum(first & ~second)),
        second_only=int(np.sum(second & ~first)),
    )


def _p_value(limit: Callable[[float], float], point: float, margin: float) -> float:
    """The level at which the one-sided limit would meet the margin."""
    sign = 1.0 if point > -margin else -1.0

    def excess(size: float) -> float:
        return sign * (limit(sign * size) + margin)

    if abs(point + margin) < 1e-12 or excess(1e-9) <= 0:
        return 0.5
    if excess(40.0) >= 0:
        return 0.0 if sign > 0 else 1.0
    return float(ndtr(-sign * brentq(excess, 1e-9, 40.0)))


def _phi(first: Bools, second: Bools) -> float:
    """Correlation of two binary variables; zero where one of them does not vary."""
    spread = float(first.std() * second.std())
    if spread == 0:
        return 0.0
    return float(np.mean(first & second) - first.mean() * second.mean()) / spread


def _check_level(margin: float, alpha: float) -> None:
    if not 0 < margin < 1:
        raise ValueError(f"margin must lie in (0, 1), not {margin}")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must lie in (0, 0.5), not {alpha}")
