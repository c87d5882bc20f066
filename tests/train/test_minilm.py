"""Both students from the real base encoder, exported and read back."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from overproof.config.recipe import Recipe
from overproof.train.batches import encode, pad
from overproof.train.export.weights import load_student
from overproof.train.students import train_students

NAME = "all-MiniLM-L6-v2"


@pytest.fixture
def minilm() -> Path:
    models = os.environ.get("OVERPROOF_MODELS_DIR", "~/.cache/overproof/models")
    directory = Path(models).expanduser() / NAME
    if not (directory / "config.json").exists():
        pytest.skip(f"{NAME} is not there; `overproof models pull {NAME}` fetches it")
    return directory


@pytest.mark.slow
def test_students_of_minilm_answer_alike_in_torch_and_onnx(
    minilm: Path, recipe: Recipe, dataset: Path, tmp_path: Path
) -> None:
    encoder = recipe.students.encoder.model_copy(
        update={"epochs": 3, "learning_rate": 1e-4, "max_length": 128, "learning_curve": ()}
    )
    recipe = recipe.model_copy(
        update={"students": recipe.students.model_copy(update={"encoder": encoder})}
    )
    cards = train_students(recipe=recipe, dataset=dataset, out=tmp_path, resolve=lambda _: minilm)
    texts = ["animal1 animal2", "a place such as place3, or place4", "number " * 40, "x"]
    for kind, card in cards.items():
        assert card.onnx_max_difference <= 1e-4
        assert card.tune_agreement > 0.8  # the label's name is a piece of the text
        module, tokenizer = load_student(tmp_path / kind)
        input_ids, mask = pad(encode(tokenizer, texts))
        session = onnxruntime.InferenceSession(tmp_path / kind / "model.onnx")
        feed = {"input_ids": input_ids.numpy(), "attention_mask": mask.numpy()}
        with torch.no_grad():
            np.testing.assert_allclose(
                session.run(["logits"], feed)[0], module(input_ids, mask).numpy(), atol=1e-4
            )
