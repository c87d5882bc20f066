"""The student card: what a student directory holds and how it was made.

Layout of a student directory::

    student.json        ``StudentCard``, written last: a student without one is not finished
    model.safetensors   weights for torch
    config.json         encoder architecture (transformers' format; encoder students)
    tokenizer.json      fast tokenizer
    model.onnx          inputs ``input_ids``, ``attention_mask`` (int64, batch x length),
                        output ``logits`` (float32, batch x labels), before temperature
    training.json       loss curve by epoch and what was chosen
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from overproof.errors import StudentError
from overproof.records.exchange import Record
from overproof.records.files import write_atomically

__all__ = ["LearningPoint", "StudentCard"]


class LearningPoint(Record):
    """Agreement of a student trained on ``n_train`` examples with the teacher on the tune split.

    ``tune_loss`` is the cross-entropy in nats against the teacher's soft labels.
    """

    n_train: int
    tune_agreement: float
    tune_loss: float
    repeats: int = 1


class StudentCard(Record):
    """What a student is. Calibrated probabilities are ``softmax(logits / temperature)``."""

    name: str
    kind: Literal["encoder", "probe"]
    base: str
    base_licence: str
    labels: tuple[str, ...]
    temperature: float
    max_length: int
    parameters: int
    n_train: int
    n_tune: int
    train_seconds: float
    seed: int
    dataset_sha256: str
    onnx_max_difference: float
    tune_agreement: float
    tune_loss: float
    learning_curve: tuple[LearningPoint, ...] = ()
    teacher: str = ""

    @classmethod
    def load(cls, directory: Path) -> StudentCard:
        """Read the card of a student directory.

        Raises:
            StudentError: when there is none or it is not readable.
        """
        path = directory / "student.json"
        if not path.exists():
            raise StudentError(
                str(directory),
                "holds no finished student (no student.json)",
                "name a directory such as RUN/students/encoder, or run `overproof train`",
            )
        try:
            return cls.model_validate_json(path.read_text())
        except ValueError as error:
            raise StudentError(
                str(path), f"is not a student card: {str(error).splitlines()[0]}"
            ) from error

    def save(self, directory: Path) -> None:
        """Write the card; call it last."""
        text = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)
        write_atomically(directory / "student.json", text + "\n")
