"""Conformal p-values: how far out a new score is among scores of known honest subjects.

Shapes: N calibration scores, M new ones. A higher score is stranger. The only assumption is that a
new honest subject is exchangeable with the calibration subjects (Vovk, Gammerman and Shafer,
*Algorithmic Learning in a Random World*, 2005, section 2.2); the smallest p-value that can be had
is ``1 / (N + 1)``. The guarantee is an average over calibration sets: what one frozen set realises
is Beta distributed (Vovk, arXiv 1209.2673), see `realised_rate`. P-values against one shared set
are positively dependent (PRDS; Bates et al., arXiv 2104.08279), as Benjamini and Hochberg ask.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["conformal_p", "p_floor", "rank_p", "realised_rate", "split_by_group"]

Floats = npt.NDArray[np.float64]
ROUNDING = 1e-9


def p_floor(n: float) -> float:
    """The smallest conformal p-value that ``n`` calibration subjects allow."""
    if not n >= 0:
        raise ValueError(f"a pool of {n} subjects")
    return 1.0 / (n + 1.0)


def conformal_p(
    calibration_n: npt.ArrayLike,
    scores_m: npt.ArrayLike,
    *,
    weights_n: npt.ArrayLike | None = None,
    rng: np.random.Generator | None = None,
) -> Floats:
    """The conformal p-value of each of M new scores.

    Without ``rng`` ties count against the new subject's strangeness, ``(1 + #{>=}) / (N + 1)``:
    conservative. With it they are broken at random, ``(#{>} + U (1 + #{=})) / (N + 1)``: exactly
    uniform under exchangeability.

    Args:
        calibration_n: N scores of honest subjects.
        scores_m: M new scores.
        weights_n: how many subjects each calibration score stands for (an audited one stands for
            those that were not picked); 1 each where None. The new one always counts once.
        rng: breaks ties at random.

    Raises:
        ValueError: a score that is not a number, or a weight that is negative or not finite.
    """
    calibration = np.asarray(calibration_n, dtype=np.float64).ravel()
    scores = np.asarray(scores_m, dtype=np.float64)
    weights = np.ones(len(calibration)) if weights_n is None else np.asarray(weights_n, np.float64)
    if np.isnan(calibration).any() or np.isnan(scores).any():
        raise ValueError("a score is not a number")
    if len(weights) != len(calibration) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("weights must be finite, not negative, and one a calibration score")
    order = np.argsort(calibration, kind="stable")
    ordered = calibration[order]
    above = np.concatenate([np.cumsum(weights[order][::-1])[::-1], [0.0]])
    at_least = above[np.searchsorted(ordered, scores, side="left")]
    total = float(above[0]) + 1.0
    if rng is None:
        return np.asarray((1.0 + at_least) / total)
    more = above[np.searchsorted(ordered, scores, side="right")]
    return np.asarray((more + rng.random(scores.shape) * (1.0 + at_least - more)) / total)


def rank_p(at_least: float, n: float) -> float:
    """The p-value of a subject that ``at_least`` of ``n`` calibration subjects equal or exceed."""
    return (1.0 + at_least) / (n + 1.0)


def realised_rate(n: int, alpha: float, level: float = 0.95) -> tuple[float, float, float]:
    """What share of honest subjects one frozen set of ``n`` flags at ``p <= alpha``.

    With ``k = floor(alpha (n + 1))`` and no ties that share is Beta(k, n + 1 - k) distributed over
    calibration sets (Vovk, arXiv 1209.2673, proposition 2b).

    Returns:
        mean, and the interval that holds it with probability ``level``; zeros where ``alpha`` lies
        under the floor, so that nobody is ever flagged.
    """
    from scipy.stats import beta

    k = math.floor(alpha * (n + 1) + ROUNDING)
    if k < 1:
        return 0.0, 0.0, 0.0
    if k > n:
        return 1.0, 1.0, 1.0
    tail = (1.0 - level) / 2.0
    low, high = beta.ppf([tail, 1.0 - tail], k, n + 1 - k)
    return k / (n + 1), float(low), float(high)


def split_by_group(groups_n: npt.ArrayLike, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """One subject drawn from each group, as indices in rising order.

    Subjects of one organisation are not exchangeable with those of another one by one, but one
    drawn from each is (Dunn, Wasserman and Ramdas, arXiv 1809.07441, section 3.2).
    """
    groups = np.asarray(groups_n)
    order = rng.permutation(len(groups))
    _, first = np.unique(groups[order], return_index=True)
    return np.sort(order[first])
