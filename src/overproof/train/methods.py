"""The two ways to train a student, each from base directory to a finished module.

Everything here needs the ``train`` extra; ``students`` imports it when there is work to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from overproof.config.recipe import EncoderConfig, ProbeConfig
from overproof.errors import ConfigError
from overproof.records.student import LearningPoint
from overproof.train.bases import Base, load_base
from overproof.train.classifier import EncoderClassifier
from overproof.train.encoder import encoder_learning_curve, fine_tune
from overproof.train.export.onnx import export_onnx
from overproof.train.export.weights import save_weights
from overproof.train.probe import embed, fit_probe, probe_learning_curve, probe_module
from overproof.train.scores import TuneScore
from overproof.train.signals import SoftLabels

__all__ = ["Trained", "train", "write"]

Step = Callable[[float], None]

TRAINED = 0.9  # share of the progress bar that training takes; exporting takes the rest


@dataclass(frozen=True)
class Trained:
    """A student in memory, with all that its card and its notes need.

    Attributes:
        module: the whole student.
        base: where it started from; its tokenizer is the student's.
        score: on the tune split.
        learning_curve: smallest subset first; the last point is the student itself.
        seconds: spent on this student alone, without learning curve and export.
        notes: for ``training.json``.
    """

    module: EncoderClassifier
    base: Base
    score: TuneScore
    learning_curve: tuple[LearningPoint, ...]
    seconds: float
    notes: dict[str, Any]


def train(
    config: ProbeConfig | EncoderConfig,
    directory: Path,
    train: SoftLabels,
    tune: SoftLabels,
    *,
    seed: int,
    step: Step,
) -> Trained:
    """Train the kind of student that ``config`` describes, and its learning curve.

    Args:
        config: a section of the recipe.
        directory: the base encoder's.
        train: soft labels to learn.
        tune: soft labels to choose by.
        seed: of everything random.
        step: hears the share that is done; the last tenth is left to ``write``.

    Raises:
        ConfigError: when there is nothing to choose from.
        ModelError: when the base cannot be loaded.
        StudentError: when training diverges.
    """
    if isinstance(config, ProbeConfig):
        return _train_probe(config, directory, train, tune, seed, step)
    return _train_encoder(config, directory, train, tune, seed, step)


def write(trained: Trained, directory: Path) -> float:
    """Write weights, tokenizer and ONNX graph; the largest difference between the two.

    Raises:
        StudentError: when the ONNX graph answers differently.
    """
    save_weights(trained.module, trained.base.tokenizer, directory)
    return export_onnx(trained.module, trained.base.tokenizer, directory / "model.onnx")


def _train_probe(  # noqa: PLR0917
    config: ProbeConfig,
    directory: Path,
    train: SoftLabels,
    tune: SoftLabels,
    seed: int,
    step: Step,
) -> Trained:
    if not config.l2:
        raise ConfigError("students.probe.l2", "names no penalty", "leave it out for the default")
    started = time.monotonic()
    base = load_base(config.base, directory, config.max_length)
    texts = train.texts + tune.texts
    vectors = embed(base, texts, lambda share: step(0.5 * TRAINED * share))
    x_train, x_tune = vectors[: len(train)], vectors[len(train) :]
    fitted = fit_probe(x_train, train.probabilities, x_tune, tune.probabilities, config.l2)
    module = probe_module(base, fitted.linear)
    seconds = time.monotonic() - started
    curve = probe_learning_curve(
        x_train,
        train,
        x_tune,
        tune.probabilities,
        config,
        seed=seed,
        step=lambda share: step((0.5 + 0.5 * share) * TRAINED),
    )
    notes = {
        "l2": fitted.l2,
        "tried": [asdict(penalty) for penalty in fitted.tried],
        "learning_curve_seconds": time.monotonic() - started - seconds,
    }
    whole = _full_point(len(train), fitted.score)
    return Trained(module, base, fitted.score, (*curve, whole), seconds, notes)


def _train_encoder(  # noqa: PLR0917
    config: EncoderConfig,
    directory: Path,
    train: SoftLabels,
    tune: SoftLabels,
    seed: int,
    step: Step,
) -> Trained:
    started = time.monotonic()
    base = load_base(config.base, directory, config.max_length)
    own = TRAINED / (1.0 + sum(share for share in config.learning_curve if share < 1.0))
    fit = fine_tune(base, train, tune, config, seed=seed, step=lambda share: step(own * share))
    seconds = time.monotonic() - started
    curve = encoder_learning_curve(
        base,
        train,
        tune,
        config,
        seed=seed,
        step=lambda share: step(own + (TRAINED - own) * share),
    )
    notes = {
        "best_epoch": fit.best_epoch,
        "stopped_early": len(fit.epochs) < config.epochs,
        "epochs": [asdict(epoch) for epoch in fit.epochs],
        "learning_curve_seconds": time.monotonic() - started - seconds,
    }
    whole = _full_point(len(train), fit.score)
    return Trained(fit.module, base, fit.score, (*curve, whole), seconds, notes)


def _full_point(n_train: int, score: TuneScore) -> LearningPoint:
    return LearningPoint(n_train=n_train, tune_agreement=score.agreement, tune_loss=score.loss)
