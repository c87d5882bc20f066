"""The linear probe: logistic regression on a frozen encoder's embeddings, the cheap baseline.

Shapes: N inputs, D width, L labels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from overproof.config.recipe import ProbeConfig
from overproof.records.student import LearningPoint
from overproof.train.bases import Base
from overproof.train.batches import encode
from overproof.train.classifier import EncoderClassifier
from overproof.train.compute import all_cores, best_device, embed_all, one_core
from overproof.train.logistic import Linear, fit_logistic
from overproof.train.scores import TuneScore, tune_score
from overproof.train.signals import SoftLabels

__all__ = ["FittedProbe", "Penalty", "embed", "fit_probe", "probe_learning_curve", "probe_module"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Penalty:
    """One penalty that was tried, with its calibrated loss and agreement on the tune split."""

    l2: float
    tune_loss: float
    tune_agreement: float


@dataclass(frozen=True)
class FittedProbe:
    """The linear layer of the penalty with the lowest tune loss, and all that were tried."""

    linear: Linear
    l2: float
    score: TuneScore
    tried: tuple[Penalty, ...]


def embed(
    base: Base, texts: tuple[str, ...], step: Callable[[float], None] = lambda _: None
) -> Floats:
    """Mean-pooled embeddings of length one (N, D), as sentence encoders are used."""
    # The head of this module is never asked; it is the pooling that is shared with the student.
    module = EncoderClassifier(copy.deepcopy(base.encoder), 1, normalise=True).to(best_device())
    with all_cores():
        return embed_all(module, encode(base.tokenizer, texts), step)


def fit_probe(
    train: Floats, target: Floats, tune: Floats, teacher: Floats, l2: tuple[float, ...]
) -> FittedProbe:
    """Fit the probe at each penalty and keep the one with the lowest calibrated tune loss.

    Args:
        train: (N, D) embeddings.
        target: (N, L) soft labels of the same inputs.
        tune: (M, D) embeddings to choose by.
        teacher: (M, L) soft labels of those.
        l2: penalties to try.
    """
    best: tuple[float, Linear, TuneScore] | None = None
    tried, linear = [], None
    with one_core():
        # From the strongest penalty down: each solution is a good start for the next.
        for penalty in sorted(set(l2), reverse=True):
            linear = fit_logistic(train, target, penalty, start=linear)
            score = tune_score(linear.logits(tune), teacher)
            tried.append(Penalty(penalty, score.loss, score.agreement))
            if best is None or score.loss < best[2].loss:
                best = (penalty, linear, score)
    assert best is not None  # the recipe names at least one penalty
    return FittedProbe(linear=best[1], l2=best[0], score=best[2], tried=tuple(tried))


def probe_module(base: Base, linear: Linear) -> EncoderClassifier:
    """The whole student as one module: frozen encoder, pooling, normalisation, linear layer."""
    module = EncoderClassifier(copy.deepcopy(base.encoder), len(linear.bias), normalise=True).eval()
    with torch.no_grad():
        module.head.weight.copy_(torch.from_numpy(linear.weight))
        module.head.bias.copy_(torch.from_numpy(linear.bias))
    return module


def probe_learning_curve(
    train: Floats,
    labels: SoftLabels,
    tune: Floats,
    teacher: Floats,
    config: ProbeConfig,
    *,
    seed: int,
    step: Callable[[float], None] = lambda _: None,
) -> tuple[LearningPoint, ...]:
    """Mean agreement and loss over random subsets of each size; without the full point.

    Args:
        train: (N, D) embeddings of ``labels``.
        labels: N soft labels.
        tune: (M, D) embeddings.
        teacher: (M, L) soft labels of those.
        config: ``[students.probe]``.
        seed: of the subsets.
        step: hears the share that is done.
    """
    rng = np.random.default_rng(seed)
    shares = sorted({s for s in config.learning_curve if 0.0 < s < 1.0})
    points: list[LearningPoint] = []
    for number, share in enumerate(shares):
        size = max(1, round(share * len(labels)))
        scores = []
        for _ in range(config.repeats):
            some = rng.choice(len(labels), size=size, replace=False)
            target = labels.probabilities[some]
            scores.append(fit_probe(train[some], target, tune, teacher, config.l2).score)
        points.append(
            LearningPoint(
                n_train=size,
                tune_agreement=float(np.mean([score.agreement for score in scores])),
                tune_loss=float(np.mean([score.loss for score in scores])),
                repeats=config.repeats,
            )
        )
        step((number + 1) / len(shares))
    return tuple(points)
