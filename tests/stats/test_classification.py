from __future__ import annotations

import numpy as np
import pytest

from overproof.stats.classification import (
    accuracy,
    confusion_counts,
    macro_f1,
    macro_f1_interval,
)


def test_confusion_has_a_column_for_invalid_answers() -> None:
    counts = confusion_counts(np.array([0, 0, 1, 2]), np.array([0, -1, 2, 2]), 3)
    assert counts.tolist() == [[1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 0]]
    assert accuracy(counts) == 0.5


def test_macro_f1_by_hand() -> None:
    gold, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, -1, 0])
    f1 = [2 * 2 / (3 + 3), 2 * 1 / (2 + 2), 0.0]
    assert macro_f1(confusion_counts(gold, predicted, 3)) == pytest.approx(np.mean(f1))


def test_a_label_absent_from_gold_is_left_out_but_not_free() -> None:
    gold = np.array([0, 0, 1, 1])
    clean = macro_f1(confusion_counts(gold, np.array([0, 0, 1, 1]), 3))
    strayed = macro_f1(confusion_counts(gold, np.array([0, 0, 1, 2]), 3))
    assert clean == 1.0
    assert strayed == pytest.approx((1.0 + 2 / 3) / 2)


def test_stacked_counts() -> None:
    one = confusion_counts(np.array([0, 1, 1]), np.array([0, 1, 0]), 2)
    two = confusion_counts(np.array([0, 1, 1]), np.array([1, 1, 1]), 2)
    assert macro_f1(np.stack([one, two])).tolist() == [macro_f1(one), macro_f1(two)]


def test_interval_covers() -> None:
    rng = np.random.default_rng(6)
    truth = np.array([[0.35, 0.05, 0.02, 0.01], [0.06, 0.25, 0.04, 0.0], [0.02, 0.03, 0.16, 0.01]])
    inside = truth[:, :3]
    f1 = 2 * np.diag(inside) / (truth.sum(axis=1) + inside.sum(axis=0))
    runs, hits = 400, 0
    for seed in range(runs):
        counts = rng.multinomial(400, truth.ravel()).reshape(3, 4)
        found = macro_f1_interval(counts, resamples=400, seed=seed)
        hits += found.low <= f1.mean() <= found.high
    assert abs(hits / runs - 0.95) <= 4 * (0.95 * 0.05 / runs) ** 0.5


def test_labels_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        confusion_counts(np.array([0, 3]), np.array([0, 0]), 3)
    with pytest.raises(ValueError, match="outside"):
        confusion_counts(np.array([0, -1]), np.array([0, 0]), 3)
    with pytest.raises(ValueError, match="shapes"):
        confusion_counts(np.array([0]), np.array([0, 1]), 2)
