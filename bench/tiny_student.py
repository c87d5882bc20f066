"""A student of a few hundred bytes: counts good, bad and dull words. Built without torch.

It has the same files, inputs and outputs as a trained one, so it stands in for one where only
the machinery around the model matters. Its padding embedding is enormous on purpose: a mask that
is ignored anywhere shows at once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from overproof.records.student import StudentCard

LABELS = ("positive", "negative", "neutral")
WORDS = (("good", "great", "fine"), ("bad", "awful", "poor"), ("table", "chair", "floor"))
FILLER = ("the", "a", "film", "was", "and", "it", "very")
TEMPERATURE = 2.0
SCALE = 8.0
MAX_LENGTH = 16


def build_tiny_student(
    directory: Path, *, name: str = "tiny", labels: tuple[str, ...] = LABELS
) -> Path:
    """Write a complete student directory and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2}
    for word in [*sum(WORDS, ()), *FILLER]:
        vocabulary[word] = len(vocabulary)
    embeddings = np.zeros((len(vocabulary), len(LABELS)), dtype=np.float32)
    embeddings[0] = (1e6, -1e6, 3e6)
    for label, words in enumerate(WORDS):
        for word in words:
            embeddings[vocabulary[word], label] = 1.0
    onnx.save(_graph(embeddings), str(directory / "model.onnx"))
    _tokenizer(vocabulary).save(str(directory / "tokenizer.json"))
    StudentCard(
        name=name,
        kind="probe",
        base="none",
        base_licence="Apache-2.0",
        labels=labels,
        temperature=TEMPERATURE,
        max_length=MAX_LENGTH,
        parameters=embeddings.size,
        n_train=0,
        n_tune=0,
        train_seconds=0.0,
        seed=0,
        dataset_sha256="",
        onnx_max_difference=0.0,
        tune_agreement=0.0,
        tune_loss=0.0,
    ).save(directory)
    return directory


def _tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", vocabulary["[CLS]"])]
    )
    # Wrong on purpose: what the card says must win over what the tokenizer was saved with.
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]", length=64)
    tokenizer.enable_truncation(64)
    return tokenizer


def _graph(embeddings: np.ndarray) -> onnx.ModelProto:
    """Masked mean of word embeddings, times ``SCALE``."""
    integer, real = TensorProto.INT64, TensorProto.FLOAT
    nodes = [
        helper.make_node("Gather", ["embeddings", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=real),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide_mask"]),
        helper.make_node("Mul", ["words", "wide_mask"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "time"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "time"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
    ]
    constants = {
        "embeddings": embeddings,
        "weights": np.eye(len(LABELS), dtype=np.float32) * SCALE,
        "last": np.array([2], dtype=np.int64),
        "time": np.array([1], dtype=np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("input_ids", integer, ["batch", "length"]),
            helper.make_tensor_value_info("attention_mask", integer, ["batch", "length"]),
        ],
        [helper.make_tensor_value_info("logits", real, ["batch", len(LABELS)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model
