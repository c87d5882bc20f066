"""E-values: evidence that is at most 1 on average where there is nothing to find.

An e-variable ``E >= 0`` has ``E[E] <= 1`` under the null hypothesis, so that ``P(E >= 1/alpha)`` is
at most ``alpha`` (Markov). Averages of e-values are e-values *however they depend on each other*
(Vovk and Wang, *Annals of Statistics* 49, 2021, arXiv 1912.06116, section 3); products are so only
where each is an e-value given the ones before it. Features of one account, and looks at one
account, are dependent: nothing here multiplies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = [
    "average_e",
    "conformal_e",
    "mixture_calibrator",
    "power_calibrator",
    "rank_e",
    "running_e",
    "threshold_calibrator",
]

Floats = npt.NDArray[np.float64]
NEAR_ONE = 1e-3  # where the closed form of the mixture loses its digits


def _p(values: npt.ArrayLike) -> Floats:
    p = np.asarray(values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values lie between 0 and 1")
    return p


def power_calibrator(p: npt.ArrayLike, kappa: float = 0.5) -> Floats:
    """``kappa * p ** (kappa - 1)``: an e-value of a p-value (Vovk and Wang, 2021, section 2).

    Raises:
        ValueError: ``kappa`` outside of (0, 1), or p-values outside of [0, 1].
    """
    if not 0 < kappa < 1:
        raise ValueError(f"kappa is {kappa}, not between 0 and 1")
    with np.errstate(divide="ignore"):
        return np.asarray(kappa * _p(p) ** (kappa - 1.0))


def mixture_calibrator(p: npt.ArrayLike) -> Floats:
    """The power calibrators averaged over ``kappa``, ``(1 - p + p ln p) / (p (ln p)^2)``.

    Vovk and Wang, 2021, equation 2.2. 1/2 at ``p = 1``, infinite at 0.
    """
    values = _p(p)
    log = np.log(np.clip(values, np.finfo(float).tiny, 1.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = (1.0 - values + values * log) / (values * log**2)
    # Around 1 numerator and denominator vanish together: their series, with h = -ln p.
    series = 0.5 - log / 6.0
    mixed = np.where(log > -NEAR_ONE, series, exact)
    return np.asarray(np.where(values == 0, np.inf, mixed))


def threshold_calibrator(p: npt.ArrayLike, alpha: float) -> Floats:
    """All or nothing: ``1 / alpha`` where ``p <= alpha``, else 0."""
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha is {alpha}, not in (0, 1]")
    return np.where(_p(p) <= alpha, 1.0 / alpha, 0.0)


@lru_cache(maxsize=256)
def _mean_power(n: int, steepness: float) -> float:
    ranks = np.arange(1, n + 2, dtype=np.float64)
    return float(np.mean(ranks**-steepness))


def rank_e(p: float, n: float, steepness: float = 1.0) -> float:
    """The e-value of a conformal p-value, scaled so that its mean is exactly 1.

    A conformal p-value takes the values ``k / (n + 1)``. A calibrator for continuous p-values
    wastes what lies under the floor; ``k ** -steepness`` over its mean over ``k = 1 .. n + 1``
    wastes nothing. It is bounded: at most ``n + 1``, for a steepness without bound.

    Args:
        p: conformal p-value against ``n`` subjects; between two ranks, the higher one counts.
        n: calibration subjects (or their weight).
        steepness: 1 spreads the evidence over the ranks, higher piles it on the first few.
    """
    if not 0 < p <= 1 or n < 0:
        raise ValueError(f"p = {p} against {n} subjects")
    whole = math.floor(n + 1e-9)
    rank = max(1.0, math.ceil(p * (whole + 1) - 1e-9))
    return float(rank**-steepness / _mean_power(whole, steepness))


def conformal_e(calibration_n: npt.ArrayLike, scores_m: npt.ArrayLike) -> Floats:
    """``(N + 1) s / (s + sum of calibration scores)``, for scores that are not negative.

    Its mean is 1 under exchangeability, by symmetry alone, and it never exceeds ``N + 1``
    (Balinsky and Balinsky, arXiv 2403.19082; Vovk, arXiv 2001.05989). 1 where all are zero.

    Raises:
        ValueError: a score that is negative or not finite.
    """
    calibration = np.asarray(calibration_n, dtype=np.float64).ravel()
    scores = np.asarray(scores_m, dtype=np.float64)
    for values in (calibration, scores):
        if not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError("scores must be finite and not negative")
    total = scores + calibration.sum()
    share = np.divide(scores, total, out=np.full_like(scores, np.nan), where=total > 0)
    return np.asarray(np.where(total > 0, share * (len(calibration) + 1), 1.0))


def average_e(e_values: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """The weighted mean: an e-value under any dependence.

    Raises:
        ValueError: negative e-values or weights, shapes that do not fit, or nothing to average.
    """
    e = np.asarray(e_values, dtype=np.float64).ravel()
    w = np.ones_like(e) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    if len(w) != len(e) or not len(e) or not w.sum() > 0:
        raise ValueError("as many weights as e-values, and not all zero")
    if not ((e >= 0).all() and (w >= 0).all()):
        raise ValueError("e-values and weights are not negative")
    return float(np.dot(e[w > 0], w[w > 0]) / w.sum())


def running_e(e_looks: Sequence[float | None], weights: Sequence[float]) -> list[float]:
    """What J looks have amounted to after each of them: partial sums of ``weights * e``.

    The weights sum to 1 *over all J looks*, so that the last sum is an average and thus an
    e-value; the earlier ones are below it, so that ``P(any of them >= 1/alpha) <= alpha`` by
    Markov's inequality on the last. A look that did not take place (None) adds nothing. It holds
    at these J looks and at no other time.

    Raises:
        ValueError: weights that do not sum to 1, or more looks than weights.
    """
    if len(e_looks) > len(weights) or not math.isclose(sum(weights), 1.0, rel_tol=1e-9):
        raise ValueError("weights must sum to 1, and there must be one a look")
    total, sums = 0.0, []
    for e, weight in zip(e_looks, weights, strict=False):
        if e is not None:
            if not e >= 0:
                raise ValueError(f"an e-value of {e}")
            total += weight * e
        sums.append(total)
    return sums
