from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from overproof.config.recipe import ProbeConfig
from overproof.records.dataset import LabelRow
from overproof.train.bases import load_base
from overproof.train.batches import encode
from overproof.train.compute import logits_of
from overproof.train.logistic import fit_logistic
from overproof.train.probe import embed, fit_probe, probe_learning_curve, probe_module
from overproof.train.scores import tune_score
from overproof.train.signals import SoftLabels

LABELS = ("animal", "number", "place")


def test_logistic_regression_finds_the_minimum_that_scipy_finds() -> None:
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(60, 4)), rng.dirichlet(np.ones(3), size=60)
    l2 = 0.03

    def objective(flat: np.ndarray) -> float:
        weight, bias = flat[:12].reshape(3, 4), flat[12:]
        logits = log_softmax(x @ weight.T + bias, axis=1)
        return float(-(target * logits).sum(axis=1).mean() + 0.5 * l2 * (weight**2).sum())

    best = minimize(objective, np.zeros(15), method="BFGS", options={"gtol": 1e-6})
    fitted = fit_logistic(x, target, l2)
    mine = objective(np.concatenate([fitted.weight.ravel(), fitted.bias]))
    assert mine == pytest.approx(best.fun, abs=1e-9)
    np.testing.assert_allclose(fitted.weight, best.x[:12].reshape(3, 4), atol=1e-4)
    # Where the minimum is, the residuals of each label cancel out: the bias is not penalised.
    residual = softmax(fitted.logits(x), axis=1) - target
    np.testing.assert_allclose(residual.mean(axis=0), 0, atol=1e-5)


def test_the_start_does_not_change_where_it_ends() -> None:
    rng = np.random.default_rng(1)
    x, target = rng.normal(size=(40, 3)), rng.dirichlet(np.ones(2), size=40)
    cold = fit_logistic(x, target, 0.01)
    warm = fit_logistic(x, target, 0.01, start=fit_logistic(x, target, 1.0))
    np.testing.assert_allclose(cold.weight, warm.weight, atol=1e-5)


def test_the_penalty_with_the_lowest_tune_loss_is_kept() -> None:
    rng = np.random.default_rng(2)
    true = rng.normal(size=(5, 3))
    x, x_tune = rng.normal(size=(40, 5)), rng.normal(size=(200, 5))
    target = np.eye(3)[[rng.choice(3, p=p) for p in softmax(x @ true, axis=1)]]
    fitted = fit_probe(x, target, x_tune, softmax(x_tune @ true, axis=1), (1e-4, 1e-1, 10.0))
    losses = {tried.l2: tried.tune_loss for tried in fitted.tried}
    assert set(losses) == {1e-4, 1e-1, 10.0}
    assert fitted.l2 == min(losses, key=losses.__getitem__)
    assert fitted.score.loss == losses[fitted.l2]
    assert fitted.score == tune_score(fitted.linear.logits(x_tune), softmax(x_tune @ true, axis=1))


def test_temperature_of_logits_that_are_a_known_factor_too_large() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(50, 4))
    score = tune_score(3.0 * logits, softmax(logits, axis=1))
    assert score.temperature == pytest.approx(3.0, rel=1e-4)
    assert score.agreement == 1.0
    assert score.loss < score.uncalibrated_loss
    assert tune_score(np.zeros((5, 2)), np.full((5, 2), 0.5)).temperature == 1.0


def test_embeddings_have_length_one_and_the_module_gives_the_fitted_logits(
    tiny_base: Path, rows: Callable[..., list[LabelRow]]
) -> None:
    base = load_base("tiny", tiny_base, 32)
    soft = SoftLabels.from_rows(rows(30, seed=4), LABELS)
    vectors = embed(base, soft.texts)
    assert vectors.shape == (30, 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    linear = fit_logistic(vectors, soft.probabilities, 1e-3)
    logits = logits_of(probe_module(base, linear), encode(base.tokenizer, soft.texts))
    np.testing.assert_allclose(logits, linear.logits(vectors), atol=1e-4)


def test_learning_curve_has_the_sizes_asked_for_and_ends_before_the_whole() -> None:
    rng = np.random.default_rng(5)
    true = rng.normal(size=(6, 3)) * 3
    x, x_tune = rng.normal(size=(200, 6)), rng.normal(size=(300, 6))
    soft = SoftLabels(tuple(map(str, range(200))), softmax(x @ true, axis=1), {})
    config = ProbeConfig(learning_curve=(0.5, 0.05, 1.0), repeats=3, l2=(1e-3,))
    heard: list[float] = []
    curve = probe_learning_curve(
        x, soft, x_tune, softmax(x_tune @ true, axis=1), config, seed=0, step=heard.append
    )
    assert [(p.n_train, p.repeats) for p in curve] == [(10, 3), (100, 3)]
    assert curve[0].tune_loss > curve[1].tune_loss
    assert curve[0].tune_agreement < curve[1].tune_agreement
    assert heard == [0.5, 1.0]
