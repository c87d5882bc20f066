"""Are two samples of one distribution? A classifier two-sample test with an exact p-value.

Whatever tells the samples apart better than chance on rows that it has not seen shows that they
differ (Lopez-Paz and Oquab, *Revisiting classifier two-sample tests*, arXiv 1610.06545). The
classifier is ridge regression, whose cross-validated scores are linear in the labels: so one
factorisation serves all permutations, and the permutation p-value is exact.

Shapes: N rows, D features, P permutations, K folds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import rankdata

from overproof.stats.intervals import Estimate

__all__ = ["TwoSample", "auc", "auc_interval", "classifier_two_sample"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_BLOCK = 256  # permutations looked at at once


@dataclass(frozen=True)
class TwoSample:
    """How well two samples are told apart.

    ``auc`` is the chance that a row of the second sample scores above one of the first, 0.5 where
    they cannot be told apart. ``p_value`` is one-sided, with the floor 1 / (permutations + 1).
    """

    auc: Estimate
    p_value: float
    permutations: int


def classifier_two_sample(
    first: npt.NDArray[np.floating],
    second: npt.NDArray[np.floating],
    *,
    folds: int = 5,
    permutations: int = 999,
    penalty: float = 1.0,
    seed: int = 0,
    confidence: float = 0.95,
) -> TwoSample:
    """Test whether two samples come from one distribution.

    Folds hold the same shares of both samples, and labels are permuted within folds: under the
    null hypothesis all these labellings are equally likely, so that the p-value is exact.

    Args:
        first: rows of the first sample, N1 x D.
        second: rows of the second, N2 x D.
        folds: K, of the cross-validation.
        permutations: P.
        penalty: of the ridge, in units of the mean squared length of a centred row.
        seed: of folds and permutations.
        confidence: of the interval of the AUC.

    Raises:
        ValueError: fewer than 19 permutations, which reach no 5 %; a sample has fewer
            rows than there are folds, or the features do not match.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(f"not two samples of the same features: {first.shape}, {second.shape}")
    if folds < 2 or min(len(first), len(second)) < folds:
        raise ValueError(f"{len(first)} and {len(second)} rows are too few for {folds} folds")
    if permutations < 19:
        raise ValueError(f"{permutations} permutations are too few: take at least 19")
    rng = np.random.default_rng(seed)
    rows = np.concatenate([first, second]).astype(np.float64)
    label = np.repeat([0.0, 1.0], [len(first), len(second)])
    fold = np.concatenate(
        [rng.permutation(np.arange(len(part)) % folds) for part in (first, second)]
    )
    members = [np.flatnonzero(fold == k) for k in range(folds)]
    smoother = _smoother(rows @ rows.T, members, penalty)
    observed = float(_mean_auc(smoother @ label[:, None], label[:, None], members)[0])
    null = np.empty(permutations)
    for start in range(0, permutations, _BLOCK):
        labels = np.repeat(label[:, None], min(_BLOCK, permutations - start), axis=1)
        for rows_of_fold in members:
            labels[rows_of_fold] = rng.permuted(labels[rows_of_fold], axis=0)
        null[start : start + labels.shape[1]] = _mean_auc(smoother @ labels, labels, members)
    as_high = int(np.sum(null >= observed - 1e-12))
    # Scores of a cross-validation hang together, so that their AUC spreads more than that of
    # independent scores: by how much, the permutations tell.
    spread = float(np.sqrt(np.mean((null - 0.5) ** 2)))
    excess = spread / _standard_error(0.5, len(first), len(second))
    return TwoSample(
        auc=auc_interval(
            observed, len(first), len(second), confidence=confidence, widen=max(1.0, excess)
        ),
        p_value=(1 + as_high) / (1 + permutations),
        permutations=permutations,
    )


def auc(scores: Floats, labels: Floats) -> Floats:
    """Area under the ROC curve of each column, ties counted half (Mann and Whitney 1947).

    Args:
        scores: N x P.
        labels: N x P of 0 and 1, both of which occur in every column.
    """
    ranks = rankdata(scores, axis=0)
    positive = labels.sum(axis=0)
    negative = len(labels) - positive
    area: Floats = ((ranks * labels).sum(axis=0) - positive * (positive + 1) / 2) / (
        positive * negative
    )
    return area


def auc_interval(
    area: float, n_first: int, n_second: int, *, confidence: float = 0.95, widen: float = 1.0
) -> Estimate:
    """Newcombe's interval of an AUC (*Statistics in Medicine* 25, 2006, part 2, method 5).

    Every end is the AUC whose own standard error would just reach the one observed; so it stays
    sound at 0 and 1. ``widen`` multiplies the standard errors.
    """
    z = widen * float(ndtri(0.5 + confidence / 2))

    def deviance(theta: float) -> float:
        return abs(area - theta) - z * _standard_error(theta, n_first, n_second)

    def end(outer: float) -> float:
        inner = area
        if deviance(outer) <= 0:
            return outer
        for _ in range(60):
            middle = (inner + outer) / 2
            inner, outer = (inner, middle) if deviance(middle) > 0 else (middle, outer)
        return (inner + outer) / 2

    return Estimate(area, end(0.0), end(1.0), confidence, "Newcombe", n_first + n_second)


def _standard_error(area: float, n_first: int, n_second: int) -> float:
    """Of an AUC of independent scores (Hanley and McNeil 1982, with Newcombe's mean size)."""
    n = (n_first + n_second) / 2 - 1
    spread = area * (1 - area) * (1 + n * (1 - area) / (2 - area) + n * area / (1 + area))
    return math.sqrt(max(spread, 0.0) / (n_first * n_second))


def _smoother(gram: Floats, members: Sequence[Ints], penalty: float) -> Floats:
    """The matrix that turns labels into cross-validated ridge scores, N x N.

    The scores of a fold come from the other folds' rows alone, centred by their mean, which is the
    intercept (dual form; Saunders, Gammerman and Vovk, ICML 1998).
    """
    n = len(gram)
    smoother = np.zeros((n, n))
    for held in members:
        kept = np.setdiff1d(np.arange(n), held)
        inner = gram[np.ix_(kept, kept)]
        mean = inner.mean(axis=0)
        centred = inner - mean[:, None] - mean[None, :] + mean.mean()
        cross = gram[np.ix_(held, kept)]
        cross = cross - cross.mean(axis=1, keepdims=True) - mean[None, :] + mean.mean()
        scale = float(np.trace(centred)) / len(kept)
        ridge = centred + max(penalty * scale, 1e-12) * np.eye(len(kept))
        weights = np.linalg.solve(ridge, cross.T).T
        # Centring the labels adds a constant to a fold's scores, which its AUC does not see.
        smoother[np.ix_(held, kept)] = weights - weights.mean(axis=1, keepdims=True)
    return smoother


def _mean_auc(scores: Floats, labels: Floats, members: Sequence[Ints]) -> Floats:
    """AUC within folds, averaged: scores of different folds are of different models."""
    areas: Floats = np.mean([auc(scores[held], labels[held]) for held in members], axis=0)
    return areas
