"""How well a student's logits match the teacher on the tune split, at the best temperature.

Shapes: N inputs, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from overproof.stats.calibration import fit_temperature, negative_log_likelihood

__all__ = ["TuneScore", "tune_score"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TuneScore:
    """Logits against the teacher's soft labels.

    Attributes:
        temperature: at which the cross-entropy is lowest.
        agreement: share of inputs with the same arg max.
        loss: cross-entropy in nats at that temperature.
        uncalibrated_loss: the same at temperature one.
    """

    temperature: float
    agreement: float
    loss: float
    uncalibrated_loss: float


def tune_score(logits: Floats, target: Floats) -> TuneScore:
    """Fit the temperature, then score.

    Args:
        logits: (N, L), before temperature.
        target: (N, L) distributions.
    """
    # Logits that are all alike fit equally well at every temperature; one is the plain choice.
    says_nothing = float(np.ptp(logits, axis=1).max()) < 1e-12
    temperature = 1.0 if says_nothing else fit_temperature(logits, target)
    calibrated = log_softmax(logits / temperature, axis=1)
    return TuneScore(
        temperature=temperature,
        agreement=float((logits.argmax(axis=1) == target.argmax(axis=1)).mean()),
        loss=negative_log_likelihood(calibrated, target),
        uncalibrated_loss=negative_log_likelihood(log_softmax(logits, axis=1), target),
    )
