"""The card of a student that talks: what its directory holds and how it was made.

Layout of a student directory::

    student.json                 ``LmStudentCard``, written last: without one it is not finished
    config.json, model.safetensors, generation_config.json     as transformers loads them
    tokenizer.json, tokenizer_config.json, chat_template.jinja
    adapter/                     instead of merged weights, for ``lora.merge = false``
    README.md                    the model card
    training.json                loss by step, what was read, what was left out
    checkpoints/                 only while it is being trained
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from overproof.errors import StudentError
from overproof.records.exchange import Record
from overproof.records.files import write_atomically

__all__ = ["LmStudentCard", "is_lm_student"]


class LmStudentCard(Record):
    """What a student is.

    ``base_dir`` is where the untrained base lies, relative to the student's directory where it
    is part of the run. ``parameters`` counts all weights once, ``trainable`` those that were
    trained. ``tokens`` were read in training, prompts included; ``answer_tokens`` are those that
    the loss was on. ``tune_loss`` is the cross-entropy in nats a token of the teacher's text in
    the tune split, before (``base_tune_loss``) and after. ``config`` is the section of the recipe.
    ``adapter_base`` is where the weights lie that an adapter is put onto, said like ``base_dir``,
    where it is not that: an earlier student's, for one that started there.
    """

    kind: Literal["lm"] = "lm"
    name: str
    method: str
    base: str
    base_dir: str
    base_licence: str = "unknown"
    start: str | None = None
    teacher: str
    parameters: int
    trainable: int
    vocabulary: int
    context_length: int | None = None
    layers: int | None = None
    precision: str
    steps: int
    tokens: int
    answer_tokens: int
    n_train: int
    train_seconds: float
    seed: int
    dataset_sha256: str
    config_sha256: str
    tune_loss: float | None = None
    base_tune_loss: float | None = None
    adapter: bool = False
    adapter_base: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    terms: str = "unknown"
    attestation: str = ""
    notes: tuple[str, ...] = ()

    @property
    def beneath(self) -> str:
        """Where the weights lie that the adapter is put onto."""
        return self.adapter_base or self.base_dir

    @classmethod
    def load(cls, directory: Path) -> LmStudentCard:
        """Read the card of a student directory.

        Raises:
            StudentError: when there is none or it is not readable.
        """
        path = directory / "student.json"
        if not path.exists():
            raise StudentError(
                str(directory),
                "holds no finished student (no student.json)",
                "name a directory such as RUN/students/NAME, or run `overproof train`",
            )
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            reason = f"is not the card of a language-model student: {str(error).splitlines()[0]}"
            raise StudentError(str(path), reason) from error

    def save(self, directory: Path) -> None:
        """Write the card; call it last."""
        text = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)
        write_atomically(directory / "student.json", text + "\n")


def is_lm_student(directory: Path) -> bool:
    """Whether ``directory`` holds the card of a language-model student."""
    try:
        card = json.loads((directory / "student.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(card, dict) and card.get("kind") == "lm"
