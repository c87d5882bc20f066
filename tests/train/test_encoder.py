from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from overproof.config.recipe import EncoderConfig
from overproof.errors import ModelError, StudentError
from overproof.records.dataset import LabelRow
from overproof.train.bases import Base, load_base, read_licence
from overproof.train.batches import encode
from overproof.train.compute import logits_of
from overproof.train.encoder import _schedule, encoder_learning_curve, fine_tune
from overproof.train.scores import tune_score
from overproof.train.signals import SoftLabels

LABELS = ("animal", "number", "place")
CONFIG = EncoderConfig(epochs=4, batch_size=8, learning_rate=5e-3, max_length=32)


@pytest.fixture
def base(tiny_base: Path) -> Base:
    return load_base("tiny", tiny_base, 32)


@pytest.fixture(scope="module")
def train(rows: Callable[..., list[LabelRow]]) -> SoftLabels:
    return SoftLabels.from_rows(rows(96, seed=1), LABELS)


@pytest.fixture(scope="module")
def tune(rows: Callable[..., list[LabelRow]]) -> SoftLabels:
    return SoftLabels.from_rows(rows(40, seed=2), LABELS)


def test_learns_and_keeps_the_best_epoch(base: Base, train: SoftLabels, tune: SoftLabels) -> None:
    before = base.encoder.state_dict()["embeddings.word_embeddings.weight"].clone()
    heard: list[float] = []
    fit = fine_tune(base, train, tune, CONFIG, seed=0, step=heard.append)
    losses = [epoch.tune.loss for epoch in fit.epochs]
    assert fit.best_epoch == 1 + int(np.argmin(losses))
    assert fit.score.agreement > 0.9
    # The module that comes back is that epoch's, and the temperature is fitted to it.
    logits = logits_of(fit.module, encode(base.tokenizer, tune.texts))
    assert tune_score(logits, tune.probabilities).loss == pytest.approx(min(losses), abs=1e-6)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    after = base.encoder.state_dict()["embeddings.word_embeddings.weight"]
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_the_seed_decides_the_weights(base: Base, train: SoftLabels, tune: SoftLabels) -> None:
    config = CONFIG.model_copy(update={"epochs": 1})

    def weights(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(random.randrange(1000))
        return list(fine_tune(base, train, tune, config, seed=seed).module.state_dict().values())

    first, again, other = weights(5), weights(5), weights(6)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_callers_random_state_is_left_alone(
    base: Base, train: SoftLabels, tune: SoftLabels
) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    threads = torch.get_num_threads()
    fine_tune(base, train, tune, CONFIG.model_copy(update={"epochs": 1}), seed=0)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_stops_when_patience_is_over(base: Base, train: SoftLabels, tune: SoftLabels) -> None:
    # The tune split contradicts the training split, so every epoch of learning is a step back.
    wrong = SoftLabels(tune.texts, np.roll(tune.probabilities, 1, axis=1), {})
    config = CONFIG.model_copy(update={"epochs": 30, "patience": 2})
    fit = fine_tune(base, train, wrong, config, seed=0)
    assert len(fit.epochs) == fit.best_epoch + 2 < 30


def test_learning_curve_is_nested_and_ends_before_the_whole(
    base: Base, train: SoftLabels, tune: SoftLabels
) -> None:
    config = CONFIG.model_copy(update={"learning_curve": (0.5, 0.1, 1.0), "epochs": 2})
    heard: list[float] = []
    curve = encoder_learning_curve(base, train, tune, config, seed=0, step=heard.append)
    assert [point.n_train for point in curve] == [10, 48]
    assert heard == sorted(heard)
    assert heard[-1] == pytest.approx(1.0)


def test_a_rate_that_is_far_too_high_is_named(
    base: Base, train: SoftLabels, tune: SoftLabels
) -> None:
    config = CONFIG.model_copy(update={"learning_rate": 1e38, "warmup": 0.0})
    with pytest.raises(StudentError, match=r"learning_rate"):
        fine_tune(base, train, tune, config, seed=0)


def test_schedule_rises_then_falls_to_zero() -> None:
    rates = [_schedule(done, 20, 0.1) for done in range(21)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[20] == 0.0
    assert [_schedule(done, 1, 0.0) for done in range(1)] == [1.0]
    assert _schedule(4, 5, 1.0) == 1.0


def test_length_is_held_to_what_the_encoder_takes(tiny_base: Path) -> None:
    base = load_base("tiny", tiny_base, 512)
    assert base.max_length == 40
    assert base.licence == "apache-2.0"
    assert [len(ids) for ids in encode(base.tokenizer, ["word1 " * 100])] == [40]


def test_a_base_that_is_none_is_named(tmp_path: Path, tiny_base: Path) -> None:
    with pytest.raises(ModelError, match=r"nonesuch .*cannot be loaded"):
        load_base("nonesuch", tmp_path, 32)
    assert read_licence(tmp_path) == "unknown"


def test_a_base_that_lacks_weights_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in tiny_base.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of its weights, encoder\.layer\.1\.output"):
        load_base("tiny", tmp_path, 32)
