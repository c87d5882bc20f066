"""Save a student's weights so that torch gives the same logits again."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer

from overproof.clients.quiet import quiet_transformers
from overproof.errors import StudentError
from overproof.train.classifier import EncoderClassifier

__all__ = ["load_student", "save_weights"]

KEY = "overproof"  # of the metadata in model.safetensors


def save_weights(module: EncoderClassifier, tokenizer: Tokenizer, directory: Path) -> None:
    """Write ``model.safetensors``, ``config.json`` and ``tokenizer.json``.

    The weights are the whole student's, encoder and head; the tokenizer keeps its truncation and
    pads a batch to its longest text.
    """
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    shape = {"n_labels": module.head.out_features, "normalise": module.normalise}
    save_file(
        state,
        directory / "model.safetensors",
        metadata={"format": "pt", KEY: json.dumps(shape)},
    )
    module.encoder.config.to_json_file(directory / "config.json", use_diff=False)
    tokenizer.save(str(directory / "tokenizer.json"))


def load_student(directory: Path) -> tuple[EncoderClassifier, Tokenizer]:
    """Load a student in evaluation mode; its logits are identical to those that were saved.

    Raises:
        StudentError: when the directory is not what ``save_weights`` wrote.
    """
    from safetensors import SafetensorError, safe_open
    from transformers import AutoConfig, AutoModel

    path = directory / "model.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        shape = json.loads(metadata[KEY])
        with quiet_transformers():
            config = AutoConfig.from_pretrained(directory, local_files_only=True)
            encoder = AutoModel.from_config(config)
        module = EncoderClassifier(encoder, shape["n_labels"], normalise=shape["normalise"])
        module.load_state_dict(state)
        tokenizer = Tokenizer.from_str((directory / "tokenizer.json").read_text("utf-8"))
    except KeyError as error:
        raise StudentError(str(path), f"has no metadata {error}", "train it again") from error
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().partition("\n")[0]
        raise StudentError(
            str(directory), f"cannot be loaded: {first}", "train it again"
        ) from error
    return module.eval(), tokenizer
