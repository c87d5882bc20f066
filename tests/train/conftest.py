"""A tiny random encoder and a small frozen dataset that it can learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import write_tiny_encoder

from overproof.config.recipe import Recipe
from overproof.records.dataset import (
    DatasetManifest,
    LabelRow,
    TeacherCalibration,
    write_manifest,
    write_split,
)
from overproof.records.exchange import Outcome
from overproof.records.hashing import text_hash

LABELS = ("animal", "number", "place")
WORDS = [f"{label}{i}" for label in LABELS for i in range(20)] + [f"word{i}" for i in range(130)]


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, width 32, 195 words, in transformers' format."""
    return write_tiny_encoder(tmp_path_factory.mktemp("tiny"), WORDS)


def make_rows(n: int, seed: int, malformed: int = 0) -> list[LabelRow]:
    """Texts whose label is told by two of their words; the first ``malformed`` unanswered."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        label = int(rng.integers(len(LABELS)))
        words = [f"word{j}" for j in rng.integers(130, size=rng.integers(1, 9))]
        words += [f"{LABELS[label]}{j}" for j in rng.integers(5, size=2)]
        rng.shuffle(words)
        text = " ".join(words)
        if i < malformed:
            rows.append(LabelRow(item=text_hash(text), text=text, outcome=Outcome.MALFORMED))
            continue
        soft = np.full(len(LABELS), 0.05)
        soft[label] = 1 - soft.sum() + 0.05
        rows.append(
            LabelRow(
                item=text_hash(text),
                text=text,
                outcome=Outcome.ANSWERED,
                label=LABELS[label],
                probabilities=tuple(soft),
                low=tuple(soft),
                high=tuple(soft),
            )
        )
    return rows


@pytest.fixture(scope="session")
def rows() -> Callable[..., list[LabelRow]]:
    return make_rows


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Train and tune alone: there is no test and no gold file to peep into."""
    from overproof.records.hashing import file_sha256

    directory = tmp_path / "dataset"
    directory.mkdir()
    write_split(directory, "train", make_rows(96, seed=1, malformed=4))
    write_split(directory, "tune", make_rows(40, seed=2, malformed=1))
    files = {name: file_sha256(directory / name) for name in ("train.parquet", "tune.parquet")}
    manifest = DatasetManifest(
        labels=LABELS,
        input_file="inputs.csv",
        input_sha256="0" * 64,
        recipe_sha256="0" * 64,
        counts={"train": 96, "tune": 40, "test": 40},
        outcomes={},
        exact_duplicates=0,
        near_duplicates=0,
        near_duplicate_threshold=0.8,
        signal="log-probs",
        rendering="letters",
        second_asking="none",
        calibration=TeacherCalibration(bias=(0.0, 0.0, 0.0)),
        files={**files, "test.parquet": "0" * 64, "gold.parquet": "0" * 64},
    )
    write_manifest(directory, manifest)
    return directory


@pytest.fixture
def recipe() -> Recipe:
    return Recipe.model_validate(
        {
            "run": {"name": "toy", "dir": "runs/toy", "seed": 3},
            "teacher": {"kind": "fake", "model": "fake-1"},
            "data": {"file": "inputs.csv"},
            "task": {"labels": list(LABELS)},
            "students": {
                "encoder": {
                    "base": "tiny",
                    "epochs": 2,
                    "batch_size": 8,
                    "learning_rate": 5e-3,
                    "max_length": 32,
                    "learning_curve": [0.25],
                },
                "probe": {
                    "base": "tiny",
                    "l2": [0.001, 0.01],
                    "max_length": 32,
                    "learning_curve": [0.1, 0.5],
                    "repeats": 2,
                },
            },
        }
    )
