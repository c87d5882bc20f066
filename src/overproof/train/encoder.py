"""The encoder student: every weight fine-tuned on the teacher's soft labels.

Shapes: B batch, L labels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from overproof.config.recipe import EncoderConfig
from overproof.errors import StudentError
from overproof.records.student import LearningPoint
from overproof.train.bases import Base
from overproof.train.batches import Tokens, bucketed, encode, pad
from overproof.train.classifier import EncoderClassifier
from overproof.train.compute import all_cores, best_device, logits_of, seeded
from overproof.train.losses.soft_cross_entropy import soft_cross_entropy
from overproof.train.scores import TuneScore, tune_score
from overproof.train.signals import SoftLabels
from overproof.train.vocabulary import compact_vocabulary

__all__ = ["Epoch", "FineTuned", "encoder_learning_curve", "fine_tune"]

CLIP = 1.0  # largest norm of a step's gradient


@dataclass(frozen=True)
class Epoch:
    """One line of the loss curve; ``train_loss`` in nats, over the epoch, with dropout."""

    epoch: int
    train_loss: float
    tune: TuneScore


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned student: the weights and score of its best epoch, and the whole curve."""

    module: EncoderClassifier
    score: TuneScore
    epochs: tuple[Epoch, ...]
    best_epoch: int


def fine_tune(
    base: Base,
    train: SoftLabels,
    tune: SoftLabels,
    config: EncoderConfig,
    *,
    seed: int,
    step: Callable[[float], None] = lambda _: None,
) -> FineTuned:
    """Fine-tune a copy of ``base``; keep the epoch whose calibrated tune loss is lowest.

    AdamW with linear warm-up and linear decay to zero over all epochs, gradients clipped to norm
    one. Training stops once ``patience`` epochs in a row were no better than the best. The same
    seed gives the same weights on the same processor and number of cores.

    Args:
        base: the encoder to start from; not changed.
        train: soft labels to learn.
        tune: soft labels to stop by; never learned.
        config: ``[students.encoder]``.
        seed: of dropout, of the head's first weights and of the order of the batches.
        step: hears the share of the steps that is done, at most one.

    Raises:
        StudentError: when the loss is no longer a number.
    """
    train_tokens = encode(base.tokenizer, train.texts)
    tune_tokens = encode(base.tokenizer, tune.texts)
    device = best_device()
    with all_cores(), seeded(seed):
        module = EncoderClassifier(copy.deepcopy(base.encoder), train.probabilities.shape[1])
        module.to(device)
        with compact_vocabulary(module.encoder, [*train_tokens, *tune_tokens]):
            loop = _Loop(module, train_tokens, train.probabilities, config, seed, step)
            epochs, best, best_state, score = [], 0, {}, None
            for number in range(1, config.epochs + 1):
                train_loss = loop.epoch()
                now = tune_score(logits_of(module, tune_tokens), tune.probabilities)
                epochs.append(Epoch(number, train_loss, now))
                if score is None or now.loss < score.loss:
                    best, score = number, now
                    best_state = {k: v.detach().clone() for k, v in module.state_dict().items()}
                elif number - best >= config.patience:
                    break
            module.load_state_dict(best_state)
        module.to("cpu").eval()
    assert score is not None  # a recipe has at least one epoch
    step(1.0)
    return FineTuned(module, score, tuple(epochs), best)


class _Loop:
    """The optimiser with its schedule; ``epoch`` runs one epoch and returns its mean loss."""

    def __init__(  # noqa: PLR0917
        self,
        module: EncoderClassifier,
        tokens: Tokens,
        target: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
        config: EncoderConfig,
        seed: int,
        step: Callable[[float], None],
    ) -> None:
        self.module, self.tokens, self.config, self.step = module, tokens, config, step
        self.device = module.head.weight.device
        self.target = torch.from_numpy(target).to(self.device, torch.float32)
        self.rng = np.random.default_rng(seed)
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            _groups(module, config.weight_decay), lr=config.learning_rate, fused=True
        )
        self.total = config.epochs * math.ceil(len(tokens) / config.batch_size)
        self.done = 0

    def epoch(self) -> float:
        self.module.train()
        loss_sum = 0.0
        for indices in bucketed(self.tokens, self.config.batch_size, self.rng):
            loss = self._batch(indices)
            if not math.isfinite(loss):
                raise StudentError(
                    f"encoder, step {self.done} of {self.total}",
                    f"the loss became {loss}",
                    "lower students.encoder.learning_rate",
                )
            loss_sum += loss * len(indices)
            self.step(self.done / self.total)
        return loss_sum / len(self.tokens)

    def _batch(self, indices: np.ndarray[tuple[int, ...], np.dtype[np.intp]]) -> float:
        rate = self.config.learning_rate * _schedule(self.done, self.total, self.config.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        input_ids, attention_mask = pad([self.tokens[i] for i in indices])
        logits = self.module(input_ids.to(self.device), attention_mask.to(self.device))
        loss = soft_cross_entropy(logits, self.target[torch.from_numpy(indices)])
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimiser.step()
        self.done += 1
        return float(loss.detach())


def _schedule(done: int, total: int, warmup: float) -> float:
    """Share of the peak learning rate at step ``done`` (from zero) of ``total``."""
    rising = max(1, round(warmup * total))
    if done < rising:
        return (done + 1) / rising
    return (total - done) / max(1, total - rising)


def _groups(module: EncoderClassifier, decay: float) -> list[dict[str, object]]:
    """Decay matrices alone: no biases, no norms, and no token table (see ``vocabulary``)."""
    table = {id(p) for p in module.encoder.get_input_embeddings().parameters()}
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            plain = parameter.ndim < 2 or id(parameter) in table
            (rest if plain else matrices).append(parameter)
    return [
        {"params": matrices, "weight_decay": decay},
        {"params": rest, "weight_decay": 0.0},
    ]


def encoder_learning_curve(
    base: Base,
    train: SoftLabels,
    tune: SoftLabels,
    config: EncoderConfig,
    *,
    seed: int,
    step: Callable[[float], None] = lambda _: None,
) -> tuple[LearningPoint, ...]:
    """Students trained alike on nested subsets, smallest first; without the full point.

    The subsets are the heads of one random order, so that each holds the smaller ones.
    """
    order = np.random.default_rng(seed).permutation(len(train))
    shares = sorted({s for s in config.learning_curve if 0.0 < s < 1.0})
    sizes = [max(1, round(share * len(train))) for share in shares]
    points: list[LearningPoint] = []
    for number, size in enumerate(sizes):
        before, whole = sum(sizes[:number]), sum(sizes)

        def part(share: float, before: int = before, size: int = size, whole: int = whole) -> None:
            step((before + share * size) / whole)

        fit = fine_tune(base, train.take(order[:size]), tune, config, seed=seed, step=part)
        points.append(
            LearningPoint(
                n_train=size, tune_agreement=fit.score.agreement, tune_loss=fit.score.loss
            )
        )
    return tuple(points)
