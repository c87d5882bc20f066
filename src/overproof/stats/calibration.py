"""Calibration: does a confidence of 80 % come true in 80 % of cases?

Shapes: N inputs, L labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from overproof.stats.intervals import Estimate, bootstrap_rows

__all__ = [
    "ECE_BINS",
    "Bin",
    "ece_interval",
    "expected_calibration_error",
    "fit_temperature",
    "negative_log_likelihood",
    "reliability_bins",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
ECE_BINS = 15
_CELLS = 1 << 21  # cells of one block of redrawn outcomes
_LOG_T = (math.log(1e-2), math.log(1e2))


@dataclass(frozen=True)
class Bin:
    """Inputs whose confidence lies in (low, high], the first bin closed; means are NaN if none."""

    low: float
    high: float
    n: int
    n_right: int
    confidence: float


def _bin_of(confidence: Floats, bins: int) -> Ints:
    """Equal-width bins of [0, 1], each closed above, as in Guo et al. 2017."""
    numbers: Ints = np.ceil(confidence * bins - 1e-12).astype(np.int64) - 1
    return np.clip(numbers, 0, bins - 1)


def reliability_bins(confidence: Floats, right: Bools, bins: int = ECE_BINS) -> list[Bin]:
    """Confidence against share correct in ``bins`` equal-width bins, empty ones included.

    Args:
        confidence: N probabilities of the label that was answered.
        right: N booleans.
        bins: number of bins.
    """
    _check(confidence, right)
    number = _bin_of(confidence, bins)
    n = np.bincount(number, minlength=bins)
    total = np.bincount(number, weights=confidence, minlength=bins)
    hits = np.bincount(number, weights=right.astype(np.float64), minlength=bins)
    return [
        Bin(
            low=i / bins,
            high=(i + 1) / bins,
            n=int(n[i]),
            n_right=round(float(hits[i])),
            confidence=float(total[i] / n[i]) if n[i] else math.nan,
        )
        for i in range(bins)
    ]


def expected_calibration_error(confidence: Floats, right: Bools, bins: int = ECE_BINS) -> float:
    """Top-label expected calibration error over equal-width bins (Guo et al., arXiv:1706.04599).

    Args:
        confidence: N probabilities of the label that was answered.
        right: N booleans.
        bins: number of bins.

    Returns:
        The mean over inputs of each bin's |confidence - share correct|. In a finite sample it is
        above zero even for perfect calibration.
    """
    _check(confidence, right)
    gap = confidence - right
    return float(np.abs(np.bincount(_bin_of(confidence, bins), weights=gap)).sum() / len(gap))


def ece_interval(
    confidence: Floats,
    right: Bools,
    bins: int = ECE_BINS,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """``expected_calibration_error`` with an interval over inputs.

    The plain bootstrap fails here: resampling adds noise to every bin and the absolute value turns
    noise into error, so its percentiles lie too high, and zero is never among them. The upper end
    is that percentile: it errs on the side of more error. The lower end is the estimate less the
    error that noise alone makes, at ``level``: by the triangle inequality the true error cannot lie
    lower unless the noise was greater. The noise is that of outcomes redrawn from the confidences
    (consistency resampling, Broecker and Smith, Weather and Forecasting 22, 2007).

    Args:
        confidence: N probabilities of the label that was answered.
        right: N booleans.
        bins: number of equal-width bins.
        resamples: bootstrap resamples, and as many redrawn outcomes.
        seed: of both.
        level: confidence of the interval.
    """
    _check(confidence, right)
    gap, number = confidence - right, _bin_of(confidence, bins)
    above = bootstrap_rows(
        lambda rows: _binned_error(gap[rows], number[rows], bins),
        len(gap),
        resamples=resamples,
        seed=seed,
        confidence=level,
        method="percentile",
    )
    rng = np.random.default_rng([seed, 1])
    block = max(1, _CELLS // len(gap))
    noise = []
    for start in range(0, resamples, block):
        drawn = rng.random((min(block, resamples - start), len(gap))) < confidence
        noise.append(_binned_error(confidence - drawn, np.broadcast_to(number, drawn.shape), bins))
    by_chance = float(np.quantile(np.concatenate(noise), (1 + level) / 2))
    return Estimate(
        above.estimate,
        max(0.0, above.estimate - by_chance),
        max(above.high, above.estimate),
        level,
        f"{bins} equal-width bins; bootstrap above, noise bound below",
        len(gap),
    )


def _binned_error(gap: Floats, number: Ints, bins: int) -> Floats:
    """Calibration error of each of B rows of N gaps in numbered bins."""
    cell = number + bins * np.arange(len(gap))[:, None]
    total = np.bincount(cell.ravel(), weights=gap.ravel(), minlength=bins * len(gap))
    error: Floats = np.abs(total.reshape(len(gap), bins)).sum(axis=1) / gap.shape[1]
    return error


def negative_log_likelihood(log_probabilities: Floats, target: Floats) -> float:
    """Mean cross-entropy in nats of N x L log-probabilities against N x L target distributions.

    A target of zero adds nothing even where the log-probability is minus infinity.
    """
    if log_probabilities.shape != target.shape or target.ndim != 2:
        raise ValueError(f"shapes differ: {log_probabilities.shape} against {target.shape}")
    terms = np.zeros_like(target)
    np.multiply(target, log_probabilities, out=terms, where=target > 0)
    return float(-terms.sum(axis=1).mean())


def fit_temperature(logits: Floats, target: Floats) -> float:
    """The temperature T for which softmax(logits / T) fits the targets best.

    Minimises the cross-entropy, which is convex in 1 / T, over T in [0.01, 100] (Guo et al.,
    arXiv:1706.04599, section 4.2). Targets may be soft.

    Args:
        logits: N x L, finite; log-probabilities do as well.
        target: N x L distributions.

    Raises:
        ValueError: for shapes that differ, no rows, or values that are not finite.
    """
    if logits.shape != target.shape or logits.ndim != 2 or not len(logits):
        raise ValueError(f"shapes do not fit: {logits.shape} against {target.shape}")
    if not (np.isfinite(logits).all() and np.isfinite(target).all()):
        raise ValueError("logits and targets must be finite")

    def loss(log_t: float) -> float:
        return negative_log_likelihood(log_softmax(logits / math.exp(log_t), axis=1), target)

    found = minimize_scalar(loss, bounds=_LOG_T, method="bounded", options={"xatol": 1e-6})
    return math.exp(float(found.x))


def _check(confidence: Floats, right: Bools) -> None:
    if confidence.shape != right.shape or confidence.ndim != 1 or not len(right):
        raise ValueError(f"shapes do not fit: {confidence.shape} against {right.shape}")
    if not (confidence.min() >= -1e-9 and confidence.max() <= 1 + 1e-9):
        raise ValueError("confidences must lie in [0, 1]")
