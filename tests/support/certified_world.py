"""A simulated test of a teacher and students whose truth is known, and its certificate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from overproof.config.recipe import Recipe
from overproof.evaluate.certify import Prediction, build_certificate
from overproof.records.certificate import Certificate, CostLine, Speed
from overproof.records.dataset import DatasetManifest, LabelRow, TeacherCalibration
from overproof.records.exchange import Outcome
from overproof.records.student import LearningPoint, StudentCard

LABELS = ("red", "green", "blue")
NOW = "2026-11-23T01:32:05+00:00"


def text_of(rng: np.random.Generator) -> str:
    return " ".join(
        "".join(rng.choice(list("abcdefgh"), size=6)) for _ in range(rng.integers(3, 9))
    )


def soft(label: int, confidence: float) -> tuple[float, ...]:
    rest = (1 - confidence) / (len(LABELS) - 1)
    return tuple(confidence if i == label else rest for i in range(len(LABELS)))


@dataclass
class World:
    """A teacher right on ``teacher`` of the inputs, and students with skills of their own."""

    n: int = 600
    teacher: float = 0.75
    students: dict[str, float] = field(default_factory=lambda: {"encoder": 0.8, "probe": 0.7})
    invalid: int = 0
    repeats: int = 0
    self_agreement: float = 0.9
    copies_teacher: float | None = None  # else students answer from gold, on their own
    seed: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.gold_numbers = self.rng.choice(3, size=self.n, p=[0.4, 0.35, 0.25])
        self.teacher_numbers = self.answer(self.gold_numbers, self.teacher)
        self.test = [self.row(i) for i in range(self.n)]
        self.gold = {
            row.item: LABELS[g] for row, g in zip(self.test, self.gold_numbers, strict=True)
        }
        self.predictions, self.cards = {}, {}
        for name, skill in self.students.items():
            source, share = (
                (self.gold_numbers, skill)
                if self.copies_teacher is None
                else (self.teacher_numbers, self.copies_teacher)
            )
            said = self.answer(source, share)
            self.predictions[name] = Prediction(np.array([soft(s, 0.8) for s in said]))
            self.cards[name] = self.card(name)
        self.train = [self.other("train", i, LABELS[i % 2]) for i in range(30)]
        self.train += [self.other("train", 30, LABELS[0])]
        self.tune = [self.other("tune", i, LABELS[0]) for i in range(5)]
        self.examples = [self.other("examples", i, LABELS[0]) for i in range(2)]

    def answer(self, source: np.ndarray, share: float) -> np.ndarray:
        """``source`` with a random 1 - ``share`` of it replaced by another label."""
        wrong = self.rng.random(len(source)) >= share
        return np.where(wrong, (source + self.rng.integers(1, 3, len(source))) % 3, source)

    def row(self, i: int) -> LabelRow:
        text, said = text_of(self.rng), int(self.teacher_numbers[i])
        base = {"item": f"sha256:{i:064x}", "text": text, "request_keys": (f"key-{i}",)}
        if i < self.invalid:
            self.teacher_numbers[i] = -1
            return LabelRow(**base, outcome=Outcome.MALFORMED)
        again = {}
        if i < self.repeats:
            same = self.rng.random() < self.self_agreement
            again = {
                "second": LABELS[said if same else (said + 1) % 3],
                "second_outcome": Outcome.ANSWERED,
            }
        p = np.array(soft(said, 0.7))
        return LabelRow(
            **base, **again, outcome=Outcome.ANSWERED, label=LABELS[said],
            probabilities=tuple(p), low=tuple(p * 0.9), high=tuple(p * 0.9 + 0.01),
        )  # fmt: skip

    def other(self, split: str, i: int, label: str) -> LabelRow:
        return LabelRow(
            item=f"{split}-{i}", text=text_of(self.rng), outcome=Outcome.ANSWERED, label=label,
            probabilities=soft(LABELS.index(label), 0.7),
        )  # fmt: skip

    def card(self, name: str, **changes: Any) -> StudentCard:
        kind = "encoder" if name == "encoder" else "probe"
        curve = (LearningPoint(n_train=350, tune_agreement=0.6, tune_loss=1.0),)
        fields = {
            "name": name, "kind": kind, "base": "base", "base_licence": "Apache-2.0",
            "labels": LABELS, "temperature": 1.1, "max_length": 128, "parameters": 10,
            "n_train": 700, "n_tune": 300, "train_seconds": 60.0, "seed": 0,
            "dataset_sha256": "d", "onnx_max_difference": 1e-6,
            "tune_agreement": 0.9 if name == "encoder" else 0.8, "tune_loss": 0.5,
            "learning_curve": curve,
        }  # fmt: skip
        return StudentCard(**(fields | changes))

    def manifest(self) -> DatasetManifest:
        return DatasetManifest(
            labels=LABELS, input_file="in.csv", input_sha256="i", recipe_sha256="r",
            counts={"train": 31, "tune": 5, "test": self.n, "examples": 2},
            outcomes={"test": {"answered": self.n - self.invalid, "malformed": self.invalid}},
            exact_duplicates=1, near_duplicates=2, near_duplicate_threshold=0.8,
            signal="log-probs", rendering="letters", second_asking="options in another order",
            calibration=TeacherCalibration(bias=(0.1, 0.0, -0.1), method="prior correction", n=31),
            provenance={"teacher-1": 31}, teacher={"name": "teacher-1", "model": "m"},
        )  # fmt: skip


def recipe(**certificate: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "run": {"name": "colours", "dir": "run", "seed": 7},
            "teacher": {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1/v1"},
            "data": {"file": "in.csv", "gold": "gold"},
            "task": {"labels": list(LABELS)},
            "students": {"machine_usd_per_hour": 0.36},
            "certificate": {"margin": 0.05, "bootstrap": 200} | certificate,
        }
    )


COSTS = [
    CostLine(what="m: answered", calls=1000, seconds=100.0, usd=2.0),
    CostLine(what="training", seconds=100.0),
]
SPEEDS = {
    "encoder": Speed(requests_per_second=400.0, n=600),
    "probe": Speed(requests_per_second=500.0, n=600),
}


def certify(world: World, **changes: Any) -> Certificate:
    arguments: dict[str, Any] = {
        "recipe": recipe(), "manifest": world.manifest(), "test": world.test, "gold": world.gold,
        "predictions": world.predictions, "cards": world.cards, "train": world.train,
        "tune": world.tune, "examples": world.examples, "speeds": SPEEDS, "costs": COSTS,
        "looks": [], "teacher_speed": Speed(requests_per_second=5.0, n=600), "now": NOW,
        "machine": "a machine",
    }  # fmt: skip
    return build_certificate(**(arguments | changes))
