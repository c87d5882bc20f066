from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from overproof.stats.calibration import (
    ece_interval,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability_bins,
)


def test_ece_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    right = np.array([True, True, True, False, True, False])
    expected = 4 / 6 * 0.2 + 2 / 6 * 0.05
    assert expected_calibration_error(confidence, right) == pytest.approx(expected)
    assert expected_calibration_error(confidence, right, bins=1) == pytest.approx(4.9 / 6 - 4 / 6)


def test_bins_are_closed_above_and_lose_nothing() -> None:
    confidence = np.array([0.0, 0.1, 0.1000001, 0.3, 1.0])
    bins = reliability_bins(confidence, np.array([True, False, True, True, True]), bins=10)
    assert [b.n for b in bins] == [2, 1, 1, 0, 0, 0, 0, 0, 0, 1]
    assert [b.n_right for b in bins][:3] == [1, 1, 1]
    assert bins[0].confidence == pytest.approx(0.05)
    assert np.isnan(bins[5].confidence)
    assert (bins[3].low, bins[3].high) == pytest.approx((0.3, 0.4))


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.15])
def test_the_interval_covers_the_true_error(shift: float) -> None:
    """Confidences that are ``shift`` too high have a true binned error of ``shift``."""
    rng = np.random.default_rng(7)
    runs, n, hits = 120, 500, 0
    for seed in range(runs):
        confidence = 0.5 + rng.beta(4, 1.5, size=n) / 2
        right = rng.random(n) < confidence - shift
        found = ece_interval(confidence, right, resamples=200, seed=seed)
        hits += found.low <= shift <= found.high
    assert hits / runs >= 0.95 - 3 * (0.95 * 0.05 / runs) ** 0.5


def test_the_interval_is_reproducible_and_holds_the_estimate() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.4, 1.0, size=300)
    right = rng.random(300) < 0.5
    found = ece_interval(confidence, right, seed=3)
    assert found == ece_interval(confidence, right, seed=3)
    assert 0 < found.low < found.estimate < found.high
    assert found.estimate == pytest.approx(expected_calibration_error(confidence, right))


def test_negative_log_likelihood() -> None:
    log_p = np.log(np.array([[0.5, 0.5], [0.25, 0.75]]))
    target = np.array([[1.0, 0.0], [0.5, 0.5]])
    expected = -(np.log(0.5) + (np.log(0.25) + np.log(0.75)) / 2) / 2
    assert negative_log_likelihood(log_p, target) == pytest.approx(expected)
    impossible = np.array([[0.0, -np.inf]])
    assert negative_log_likelihood(impossible, np.array([[1.0, 0.0]])) == 0.0
    with pytest.raises(ValueError, match="shapes"):
        negative_log_likelihood(log_p, target[:1])


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 20.0])
def test_fit_temperature_recovers_the_truth(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(scale=3, size=(400, 5))
    target = softmax(logits / temperature, axis=1)
    assert fit_temperature(logits, target) == pytest.approx(temperature, rel=1e-3)
    assert fit_temperature(log_softmax(logits, axis=1), target) == pytest.approx(
        temperature, rel=1e-3
    )


def test_fit_temperature_on_drawn_labels() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(scale=2, size=(3000, 3))
    p = softmax(logits / 1.7, axis=1)
    drawn = np.eye(3)[[rng.choice(3, p=row) for row in p]]
    assert fit_temperature(logits, drawn) == pytest.approx(1.7, rel=0.1)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(np.array([[0.0, -np.inf]]), np.array([[1.0, 0.0]]))
    with pytest.raises(ValueError, match="shapes"):
        fit_temperature(np.zeros((0, 2)), np.zeros((0, 2)))
    with pytest.raises(ValueError, match="shapes"):
        expected_calibration_error(np.zeros(0), np.zeros(0, bool))
    with pytest.raises(ValueError, match="confidences"):
        expected_calibration_error(np.array([1.2]), np.array([True]))
