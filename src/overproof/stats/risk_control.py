"""Choosing a threshold so that a stated loss is kept: conformal risk control, and its surer kin.

Each item has a loss that falls, or stays, as the threshold rises: a student that answers only what
it is more sure of than the threshold errs less often the higher it lies. Shapes: N calibration
items, M thresholds.

Two guarantees, for a new item exchangeable with the calibration items:

* *in expectation* (Angelopoulos et al., arXiv 2208.02814, theorem 1): the expected loss at the
  threshold chosen is at most ``alpha``, on average over calibration sets and new items;
* *with probability* ``1 - delta`` over the calibration set (Bates et al., arXiv 2101.02703, with
  the exact binomial bound of Clopper and Pearson, Biometrika 1934): the expected loss of the
  threshold that *this* set led to is at most ``alpha``. For losses of 0 and 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

__all__ = ["RiskControl", "control_risk", "control_selective_risk", "most_errors"]


ROUNDING = 1e-12


@dataclass(frozen=True)
class RiskControl:
    """The threshold chosen.

    ``risk`` is the mean loss of the calibration items at it. ``suffices`` is false where no
    threshold keeps the loss but the highest, at which nothing is lost: with so few items, or so
    small an ``alpha``, nothing else can be promised. ``guarantee`` says in words what holds.
    """

    threshold: float
    risk: float
    alpha: float
    n: int
    suffices: bool
    guarantee: str


def control_risk(
    losses_nm: npt.ArrayLike, thresholds_m: npt.ArrayLike, alpha: float, *, bound: float = 1.0
) -> RiskControl:
    """The lowest threshold whose expected loss is at most ``alpha``.

    That is the lowest with ``(sum of losses + bound) / (N + 1) <= alpha``. Nothing is assumed of
    the thresholds but that they were not chosen by the losses, unless they are all places where
    the losses change.

    Args:
        losses_nm: the loss of each item at each threshold, N x M, in ``[-inf, bound]`` and never
            rising along a row; at the highest threshold at most ``alpha``, whatever the item.
        thresholds_m: M thresholds, rising.
        alpha: the expected loss that is allowed.
        bound: the largest loss that an item can have.

    Raises:
        ValueError: losses that rise with the threshold, exceed ``bound`` or are no numbers; a
            highest threshold that does not keep every item's loss; shapes that do not fit.
    """
    losses = np.asarray(losses_nm, dtype=np.float64)
    thresholds = np.asarray(thresholds_m, dtype=np.float64)
    if losses.ndim != 2 or thresholds.ndim != 1 or losses.shape[1] != len(thresholds):
        raise ValueError(f"shapes do not fit: {losses.shape} losses, {thresholds.shape} thresholds")
    if not losses.size:
        raise ValueError("there is nothing to calibrate on")
    if np.isnan(losses).any() or np.isnan(thresholds).any() or losses.max() > bound:
        raise ValueError(f"losses must be numbers of at most {bound}, and thresholds numbers")
    if (np.diff(thresholds) <= 0).any() or (np.diff(losses, axis=1) > 0).any():
        raise ValueError("thresholds must rise, and no loss with them")
    if losses[:, -1].max() > alpha:
        raise ValueError("the highest threshold must keep every item's loss at alpha or below")
    n = len(losses)
    fits = (losses.sum(axis=0) + bound) / (n + 1) <= alpha + ROUNDING
    first = int(np.argmax(fits)) if fits.any() else len(thresholds) - 1
    return RiskControl(
        float(thresholds[first]),
        float(losses[:, first].mean()),
        alpha,
        n,
        bool(fits.any()),
        _in_expectation(alpha, n),
    )


def control_selective_risk(
    confidence: npt.ArrayLike,
    wrong: npt.ArrayLike,
    alpha: float,
    *,
    delta: float | None = None,
    lowest: float = 0.0,
    highest: float = 1.0,
) -> RiskControl:
    """The lowest threshold above which items are taken, with at most ``alpha`` taken and wrong.

    An item is taken where its confidence is *above* the threshold, so that its loss, 1 where it is
    taken and wrong, is continuous from the right, as the theorem asks. The share is one of all
    items, those that are passed on among them, which lose nothing.

    Args:
        confidence: N numbers in ``[lowest, highest]``; equal ones are taken or passed on together.
        wrong: N booleans.
        alpha: the share of taken and wrong items that is allowed, in (0, 1).
        delta: how often, over calibration sets, more may be lost; ``None`` for the guarantee in
            expectation.
        lowest: the lowest threshold. Items that are not above it are never taken.
        highest: the highest; no item is above it.

    Raises:
        ValueError: values outside of their ranges; shapes that do not fit.
    """
    scores = np.asarray(confidence, dtype=np.float64)
    errs = np.asarray(wrong).astype(np.bool_)
    if scores.ndim != 1 or scores.shape != errs.shape or not len(scores):
        raise ValueError(f"shapes do not fit: {scores.shape} against {errs.shape}")
    if not ((scores >= lowest) & (scores <= highest)).all():
        raise ValueError(f"confidences must lie in [{lowest}, {highest}]")
    n = len(scores)
    allowed = most_errors(n, alpha, delta)
    falling = np.sort(scores[errs])[::-1]
    if allowed < 0:
        threshold = highest
    elif allowed >= len(falling):
        threshold = lowest
    else:  # the first error that may not be taken any more
        threshold = float(falling[allowed])
    risk = float(np.mean(errs & (scores > threshold)))
    guarantee = _in_expectation(alpha, n)
    if delta is not None:
        guarantee = (
            f"with probability {1 - delta:g} over the {n} calibration items, an expected loss of "
            f"at most {alpha:g} (arXiv 2101.02703, exact binomial bound)"
        )
    return RiskControl(threshold, risk, alpha, n, allowed >= 0, guarantee)


def most_errors(n: int, alpha: float, delta: float | None = None) -> int:
    """How many of ``n`` calibration items may be taken and wrong; -1 where even none is too many.

    In expectation the largest k with ``(k + 1) / (n + 1) <= alpha``; with ``delta`` the largest
    whose chance is at most ``delta`` where the true share is ``alpha``.

    Raises:
        ValueError: no items, or shares that are not in (0, 1).
    """
    if n < 1 or not 0 < alpha < 1 or not (delta is None or 0 < delta < 1):
        raise ValueError(f"no threshold from n = {n}, alpha = {alpha}, delta = {delta}")
    if delta is None:
        return math.floor(alpha * (n + 1) - 1 + ROUNDING * n)
    k = int(binom.ppf(delta, n, alpha))  # the smallest whose chance is at least delta
    return k if binom.cdf(k, n, alpha) <= delta else k - 1


def _in_expectation(alpha: float, n: int) -> str:
    return (
        f"an expected loss of at most {alpha:g}, on average over sets of {n} calibration items "
        "(conformal risk control, arXiv 2208.02814)"
    )
