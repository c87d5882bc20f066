"""Calibration: a biased, overconfident teacher is put right without gold."""

from __future__ import annotations

import numpy as np
import pytest

from overproof.collect.calibrate import (
    apply_calibration,
    fit_bias,
    fit_calibration,
    log_masses,
    softmax,
)

UNIFORM = np.full(4, 0.25)


def honest(n: int, rng: np.random.Generator) -> np.ndarray:
    """Calibrated distributions over four equally common labels."""
    return rng.dirichlet(np.full(4, 0.4), size=n)


@pytest.mark.parametrize("prior", [UNIFORM, np.array([0.1, 0.2, 0.3, 0.4])])
def test_the_mean_of_the_corrected_distributions_is_the_prior(prior: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    log_p = log_masses(honest(500, rng) * np.array([8.0, 1.0, 0.2, 3.0]))
    corrected = softmax(log_p + fit_bias(log_p, prior))
    np.testing.assert_allclose(corrected.mean(axis=0), prior, atol=1e-7)


def test_a_known_bias_is_recovered() -> None:
    rng = np.random.default_rng(1)
    truth = honest(20_000, rng)
    bias = np.array([2.0, -1.0, 0.5, -1.5])
    biased = softmax(np.log(truth + 1e-9) + bias)
    np.testing.assert_allclose(fit_bias(log_masses(biased), UNIFORM), -bias, atol=0.1)


def test_prior_correction_mends_the_accuracy_of_a_biased_teacher() -> None:
    rng = np.random.default_rng(2)
    truth = honest(4000, rng)
    gold = np.array([rng.choice(4, p=row) for row in truth])
    biased = softmax(np.log(truth + 1e-9) + np.array([3.0, 0.0, 0.0, -3.0]))
    calibrated = apply_calibration(biased[2000:], fit_calibration(biased[:2000], UNIFORM))
    before = (biased[2000:].argmax(1) == gold[2000:]).mean()
    after = (calibrated.argmax(1) == gold[2000:]).mean()
    best = (truth[2000:].argmax(1) == gold[2000:]).mean()
    assert after > before + 0.1
    assert after == pytest.approx(best, abs=0.01)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_temperature_makes_confidence_predict_the_second_answer(sharpness: float) -> None:
    rng = np.random.default_rng(3)
    truth = honest(6000, rng)
    second = np.array([rng.choice(4, p=row) for row in truth])
    stated = softmax(np.log(truth + 1e-9) * sharpness)
    fitted = fit_calibration(stated, None, (stated, second))
    assert fitted.temperature == pytest.approx(sharpness, rel=0.1)
    assert fitted.n_repeats == 6000


def test_few_repeats_leave_the_temperature_alone() -> None:
    points = honest(100, np.random.default_rng(4))
    fitted = fit_calibration(points, UNIFORM, (points[:10], points[:10].argmax(1)))
    assert fitted.temperature == 1.0


def test_a_label_never_seen_stays_possible() -> None:
    points = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.2, 0.2, 0.3, 0.3]])
    soft = apply_calibration(points, fit_calibration(points, UNIFORM))
    assert np.isfinite(soft).all()
    np.testing.assert_allclose(soft.sum(axis=1), 1)
    assert (soft > 0).all()
