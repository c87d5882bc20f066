"""Calibrating a teacher on training inputs without gold: prior correction, temperature.

A small teacher favours some labels whatever it is asked. *Prior correction* (batch calibration,
arXiv 2309.17249, carried to its fixed point) finds one bias a label so that the mean of the
corrected distributions over the training inputs is the recipe's prior. *Temperature* is then the
one that best predicts the teacher's own second answer on training inputs asked twice.
Neither sees any input of the tune or test pool. The gold labels of the examples pool may set the
prior (``prior = "examples"``); no other gold label is seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from overproof.records.dataset import TeacherCalibration

__all__ = ["apply_calibration", "fit_bias", "fit_calibration", "softmax"]

FLOOR = 1e-6
LEAST_REPEATS = 30


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax over the last axis."""
    shifted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def log_masses(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of the normalised masses, shape (n, labels), floored so that nothing is impossible."""
    normalised = points / points.sum(axis=-1, keepdims=True)
    return np.asarray(np.log(np.maximum(normalised, FLOOR)))


def fit_bias(
    log_p: NDArray[np.float64],
    prior: NDArray[np.float64],
    *,
    tolerance: float = 1e-9,
    steps: int = 2000,
) -> NDArray[np.float64]:
    """Bias of shape (labels,) with ``mean(softmax(log_p + bias)) == prior``.

    The fixed point of ``bias += log(prior / mean)``: the maximum of a concave function, so it is
    unique up to a shift, which is removed (mean zero).
    """
    bias = np.zeros(log_p.shape[1])
    for _ in range(steps):
        step = np.log(prior) - np.log(softmax(log_p + bias).mean(axis=0))
        bias += step
        if np.abs(step).max() < tolerance:
            break
    return np.asarray(bias - bias.mean())


def fit_calibration(
    points: NDArray[np.float64],
    prior: NDArray[np.float64] | None,
    second: tuple[NDArray[np.float64], NDArray[np.int64]] | None = None,
    *,
    fitted_on: str = "training inputs, no gold",
) -> TeacherCalibration:
    """Fit on training inputs.

    Args:
        points: masses of shape (n, labels), valid answers only.
        prior: shares of the labels to assume, ``None`` for no prior correction.
        second: masses of shape (m, labels) of inputs asked twice, and the label (index) that the
            second asking chose, made with the same bias.
        fitted_on: what the inputs and the prior are, in words.

    Returns:
        The frozen calibration.
    """
    size = points.shape[1]
    log_p = log_masses(points)
    bias = np.zeros(size) if prior is None else fit_bias(log_p, prior)
    method = "none" if prior is None else "prior correction (batch calibration, fixed point)"
    temperature, repeats = 1.0, 0
    if second is not None and len(second[1]) >= LEAST_REPEATS:
        temperature = _fit_temperature(log_masses(second[0]) + bias, second[1])
        repeats = len(second[1])
        method += "; temperature from a second asking"
    return TeacherCalibration(
        bias=tuple(float(b) for b in bias),
        temperature=temperature,
        method=method,
        fitted_on=fitted_on,
        n=len(points),
        n_repeats=repeats,
    )


def _fit_temperature(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Temperature in [0.05, 20] with the least cross-entropy of ``labels``."""
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        picked = softmax(scores / np.exp(log_t))[rows, labels]
        return float(-np.log(np.maximum(picked, FLOOR)).mean())

    limit = float(np.log(20.0))
    return float(np.exp(minimize_scalar(loss, bounds=(-limit, limit), method="bounded").x))


def apply_calibration(
    points: NDArray[np.float64], calibration: TeacherCalibration
) -> NDArray[np.float64]:
    """Calibrated soft labels of shape (n, labels); rows sum to one."""
    bias = np.array(calibration.bias)
    return softmax((log_masses(points) + bias) / calibration.temperature)
