from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from overproof.stats.two_sample import auc, auc_interval, classifier_two_sample


def test_auc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, size=(30, 4)).astype(float)  # with ties
    labels = (rng.random((30, 4)) < 0.4).astype(float)
    for column in range(4):
        high = scores[labels[:, column] == 1, column][:, None]
        low = scores[labels[:, column] == 0, column][None, :]
        expected = np.mean((high > low) + 0.5 * (high == low))
        assert auc(scores, labels)[column] == pytest.approx(expected)


def test_scores_are_those_of_ridge_regression_fold_by_fold() -> None:
    """The smoother against plain least squares on the rows themselves."""
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(20, 3)), rng.normal(size=(15, 3)) + 0.8
    found = classifier_two_sample(first, second, folds=3, permutations=19, penalty=0.5, seed=4)
    rows = np.concatenate([first, second])
    label = np.repeat([0.0, 1.0], [20, 15])
    again = np.random.default_rng(4)
    fold = np.concatenate([again.permutation(np.arange(n) % 3) for n in (20, 15)])
    areas = []
    for k in range(3):
        kept, held = fold != k, fold == k
        centred = rows[kept] - rows[kept].mean(axis=0)
        ridge = 0.5 * np.sum(centred**2) / kept.sum()
        weights = np.linalg.solve(
            centred.T @ centred + ridge * np.eye(3), centred.T @ (label[kept] - label[kept].mean())
        )
        score = rows[held] @ weights
        areas.append(auc(score[:, None], label[held][:, None])[0])
    assert found.auc.estimate == pytest.approx(np.mean(areas))


def test_under_one_distribution_p_is_uniform_and_the_interval_covers() -> None:
    """400 pairs of equal samples of unequal sizes: 5 % within its binomial bounds."""
    rng = np.random.default_rng(2)
    p_values, covered = [], 0
    for run in range(400):
        first, second = rng.normal(size=(24, 30)), rng.normal(size=(36, 30))
        found = classifier_two_sample(first, second, permutations=99, seed=run)
        p_values.append(found.p_value)
        covered += found.auc.low <= 0.5 <= found.auc.high
    values = np.array(p_values)
    for level in (0.05, 0.2, 0.5, 0.8):
        low, high = binom.ppf([0.0005, 0.9995], 400, level)
        assert low <= np.sum(values <= level + 1e-9) <= high
    assert covered / 400 > 0.93


def test_a_shift_is_found_and_more_of_it_is_easier() -> None:
    rng = np.random.default_rng(3)
    found = [
        classifier_two_sample(
            rng.normal(size=(100, 20)), rng.normal(size=(100, 20)) + shift, permutations=199
        )
        for shift in (0.2, 0.5, 3.0)
    ]
    assert found[1].p_value == found[2].p_value == 1 / 200
    areas = [each.auc.estimate for each in found]
    assert areas == sorted(areas)
    assert areas[2] == pytest.approx(1.0)
    assert found[2].auc.low < 1.0
    assert found[2].auc.high == 1.0
    assert found[1].auc.low > 0.5


def test_a_difference_in_spread_alone_is_beyond_a_linear_classifier() -> None:
    """Said here so that nobody takes a p-value of it for proof of equality."""
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(150, 5)), 3 * rng.normal(size=(150, 5))
    assert classifier_two_sample(first, second, permutations=99).p_value > 0.05


def test_interval_of_an_auc() -> None:
    middle = auc_interval(0.5, 50, 50)
    assert middle.low == pytest.approx(1 - middle.high)
    assert 0.38 < middle.low < 0.40
    assert auc_interval(1.0, 20, 20).high == 1.0
    assert 0.8 < auc_interval(1.0, 20, 20).low < 1.0
    assert auc_interval(0.0, 20, 20).low == 0.0
    wide = auc_interval(0.7, 50, 50, widen=2.0)
    assert (
        wide.low < auc_interval(0.7, 50, 50).low < 0.7 < auc_interval(0.7, 50, 50).high < wide.high
    )


def test_too_little_is_refused() -> None:
    rows = np.zeros((4, 2))
    for first, second, more in (
        (rows, np.zeros((9, 2)), {}),
        (np.zeros((9, 2)), np.zeros((9, 3)), {}),
        (np.zeros((9, 2)), np.zeros((9, 2)), {"permutations": 9}),
    ):
        with pytest.raises(ValueError, match=r"few|same features"):
            classifier_two_sample(first, second, **more)
    same = classifier_two_sample(np.ones((9, 2)), np.ones((9, 2)), permutations=19)
    assert same.auc.estimate == 0.5
    assert same.p_value == 1.0
