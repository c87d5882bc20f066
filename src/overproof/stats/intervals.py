"""Confidence intervals for a share, and for anything that can be resampled.

Shapes: B resamples, N rows, K cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri
from scipy.stats import beta

__all__ = [
    "Estimate",
    "bootstrap_counts",
    "bootstrap_rows",
    "clopper_pearson",
    "ratio_bootstrap",
    "wilson",
    "wilson_bounds",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bootstrap = Literal["percentile", "bca"]
_CELLS = 1 << 21  # index cells of one block of resamples, 16 MiB


@dataclass(frozen=True)
class Estimate:
    """A point estimate with its interval at ``confidence``, from ``n`` observations."""

    estimate: float
    low: float
    high: float
    confidence: float
    method: str
    n: int


def wilson(k: int, n: int, confidence: float = 0.95) -> Estimate:
    """Wilson's score interval for the share k / n (Wilson, JASA 1927; Brown et al. 2001, 2.1).

    Raises:
        ValueError: unless ``0 <= k <= n`` and ``n >= 1``: no share of nothing.
    """
    _check_counts(k, n, confidence)
    z = float(ndtri(0.5 + confidence / 2))
    low, high = wilson_bounds(k / n, n, z)
    return Estimate(k / n, low, high, confidence, "Wilson score", n)


def wilson_bounds(share: float, n: int, z: float) -> tuple[float, float]:
    """Both ends of Wilson's interval for a share of ``n``, ``z`` standard errors either way."""
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    middle, scale = share + z * z / (2 * n), 1 + z * z / n
    # Exact at the ends, where rounding would leave 1e-17 outside of [0, 1].
    low = 0.0 if share == 0 else max(0.0, (middle - spread) / scale)
    high = 1.0 if share == 1 else min(1.0, (middle + spread) / scale)
    return low, high


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> Estimate:
    """The exact interval of Clopper and Pearson (Biometrika 1934): never below its confidence.

    Raises:
        ValueError: unless ``0 <= k <= n`` and ``n >= 1``.
    """
    _check_counts(k, n, confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else float(beta.ppf(tail, k, n - k + 1))
    high = 1.0 if k == n else float(beta.ppf(1 - tail, k + 1, n - k))
    return Estimate(k / n, low, high, confidence, "Clopper-Pearson", n)


def bootstrap_rows(
    statistic: Callable[[Ints], Floats],
    n: int,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    method: Bootstrap = "bca",
) -> Estimate:
    """Bootstrap interval of a statistic of rows drawn with replacement.

    Args:
        statistic: takes row numbers, B x N, and returns B values. It is called block by block.
        n: number of rows.
        resamples: number of bootstrap resamples.
        seed: of the resampling.
        confidence: of the interval.
        method: ``bca`` (Efron, JASA 1987) corrects for bias and skewness; ``percentile`` does not.
    """
    if n < 2:
        raise ValueError(f"a bootstrap needs at least two rows, not {n}")
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // n)
    point = float(statistic(np.arange(n, dtype=np.int64)[None])[0])
    draws = np.concatenate(
        [
            statistic(rng.integers(0, n, size=(min(block, resamples - start), n)))
            for start in range(0, resamples, block)
        ]
    )
    left_out: Floats | None = None
    if method == "bca":
        rows = np.arange(n - 1, dtype=np.int64)
        left_out = np.concatenate(
            [
                statistic(rows + (rows >= np.arange(start, min(start + block, n))[:, None]))
                for start in range(0, n, block)
            ]
        )
    low, high = _ends(point, draws, left_out, np.ones(n), confidence)
    return Estimate(point, low, high, confidence, f"bootstrap, {method}", n)


def bootstrap_counts(
    statistic: Callable[[Ints], Floats],
    counts: Ints,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    method: Bootstrap = "bca",
) -> Estimate:
    """Bootstrap interval of a statistic that sees rows only through counts in K cells.

    Drawing N rows with replacement draws the counts from a multinomial; so this equals
    ``bootstrap_rows`` in distribution at a cost that does not grow with N.

    Args:
        statistic: takes counts, B x K, and returns B values.
        counts: K counts of the N rows observed.
        resamples: number of bootstrap resamples.
        seed: of the resampling.
        confidence: of the interval.
        method: as in ``bootstrap_rows``.
    """
    n = int(counts.sum())
    if n < 2:
        raise ValueError(f"a bootstrap needs at least two rows, not {n}")
    rng = np.random.default_rng(seed)
    point = float(statistic(counts[None])[0])
    draws = statistic(rng.multinomial(n, counts / n, size=resamples).astype(np.int64))
    left_out: Floats | None = None
    filled = np.flatnonzero(counts)
    if method == "bca":
        left_out = statistic(counts[None] - np.eye(len(counts), dtype=np.int64)[filled])
    weights = counts[filled].astype(np.float64)
    low, high = _ends(point, draws, left_out, weights, confidence)
    return Estimate(point, low, high, confidence, f"bootstrap, {method}", n)


def ratio_bootstrap(
    top: npt.ArrayLike,
    bottom: npt.ArrayLike,
    *,
    resamples: int = 2000,
    seed: int | Sequence[int] = 0,
    confidence: float = 0.95,
) -> Estimate:
    """The ratio of two sums over the same units, with a percentile bootstrap over the units.

    Args:
        top: what each unit adds above, shape (N,).
        bottom: what each adds below, none negative, shape (N,).
        resamples: number of bootstrap resamples.
        seed: of the resampling.
        confidence: of the interval.

    Returns:
        The estimate; its ends are nan where there are fewer than two units.
    """
    above, below = np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64)
    n, point = len(above), float(above.sum() / below.sum())
    low = high = float("nan")
    if n >= 2:
        rng = np.random.default_rng(seed)
        draws = np.empty(resamples)
        block = max(1, _CELLS // n)
        for start in range(0, resamples, block):
            rows = min(block, resamples - start)
            times = rng.multinomial(n, np.full(n, 1 / n), size=rows)
            draws[start : start + rows] = (times @ above) / np.maximum(times @ below, 1e-300)
        low, high = _ends(point, draws, None, np.ones(n), confidence)
    return Estimate(point, low, high, confidence, "bootstrap, percentile", n)


def _ends(
    point: float, draws: Floats, left_out: Floats | None, weights: Floats, confidence: float
) -> tuple[float, float]:
    """BCa ends where there are jackknife values (with their multiplicities), else percentiles."""
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    if left_out is not None:
        tails = _bca_tails(tails, point, draws, left_out, weights)
    low, high = np.quantile(draws, tails)
    return float(low), float(high)


def _bca_tails(
    tails: Floats, point: float, draws: Floats, left_out: Floats, weights: Floats
) -> Floats:
    """Where to cut the bootstrap distribution (Efron and Tibshirani 1993, equations 14.9-14.15)."""
    below = float(np.mean(draws < point) + np.mean(draws == point) / 2)
    # A point outside of all draws would send the correction to infinity: half a draw is the most
    # that B draws can tell.
    bias = float(ndtri(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws))))
    gap = np.average(left_out, weights=weights) - left_out
    spread = float(np.sum(weights * gap**2))
    skew = 0.0 if spread <= 0 else float(np.sum(weights * gap**3)) / (6 * spread**1.5)
    z = bias + ndtri(tails)
    cut: Floats = ndtr(bias + z / (1 - skew * z))
    return cut


def _check_counts(k: int, n: int, confidence: float) -> None:
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"no share of {k} in {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), not {confidence}")
