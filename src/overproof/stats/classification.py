"""Scores of a classifier from its confusion counts.

Shapes: N inputs, L labels, B resamples. An invalid answer has label -1: it is wrong, and it stands
in a column of its own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from overproof.stats.intervals import Bootstrap, Estimate, bootstrap_counts

__all__ = ["accuracy", "confusion_counts", "macro_f1", "macro_f1_interval"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def confusion_counts(gold: Ints, predicted: Ints, n_labels: int) -> Ints:
    """Gold by predicted label, L x (L + 1); the last column counts invalid answers.

    Args:
        gold: N labels in [0, L).
        predicted: N labels in [-1, L); -1 is an invalid answer.
        n_labels: L.
    """
    if gold.shape != predicted.shape:
        raise ValueError(f"shapes differ: {gold.shape} against {predicted.shape}")
    if len(gold) and (gold.min() < 0 or max(gold.max(), predicted.max()) >= n_labels):
        raise ValueError(f"a label lies outside of [0, {n_labels})")
    column = np.where(predicted < 0, n_labels, predicted)
    width = n_labels + 1
    counts: Ints = np.bincount(gold * width + column, minlength=n_labels * width)
    return counts.reshape(n_labels, width)


def accuracy(counts: Ints) -> Floats:
    """Share of the confusion counts (... x L x (L + 1)) on the diagonal."""
    right = np.trace(counts, axis1=-2, axis2=-1)
    share: Floats = right / counts.sum(axis=(-2, -1))
    return share


def macro_f1(counts: Ints) -> Floats:
    """Unweighted mean F1 of the labels that occur in gold.

    Each F1 is 2 TP / (gold count + predicted count). A label absent from gold has no F1 and is left
    out; predicting it still costs the true label its recall. An invalid answer costs recall too.

    Args:
        counts: confusion counts, ... x L x (L + 1).
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    in_gold = counts.sum(axis=-1)
    predicted = counts[..., :-1].sum(axis=-2)
    scores = 2 * hits / np.maximum(in_gold + predicted, 1)
    present = in_gold > 0
    mean: Floats = (scores * present).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)
    return mean


def macro_f1_interval(
    counts: Ints,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    method: Bootstrap = "bca",
) -> Estimate:
    """``macro_f1`` of confusion counts, L x (L + 1), with a bootstrap interval over inputs."""
    shape = counts.shape
    return bootstrap_counts(
        lambda cells: macro_f1(cells.reshape(len(cells), *shape)),
        counts.ravel(),
        resamples=resamples,
        seed=seed,
        confidence=confidence,
        method=method,
    )
