"""Export a student to ONNX, and prove that the file answers as the module does.

Shapes: B batch, T tokens, L labels.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from overproof.errors import MissingExtraError, StudentError
from overproof.train.quiet import quiet_exporter

if TYPE_CHECKING:
    from overproof.train.classifier import EncoderClassifier

__all__ = ["TOLERANCE", "export_onnx"]

TOLERANCE = 1e-4  # largest difference of a logit that passes
OPSET = 18
SHAPES = ((1, 1), (1, 9), (2, 5), (3, 17), (8, 33))  # batches and lengths that are compared

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def export_onnx(module: EncoderClassifier, tokenizer: Tokenizer, path: Path) -> float:
    """Write ``module`` to one ONNX file and compare the two on random batches.

    The inputs are ``input_ids`` and ``attention_mask`` (int64, B x T, both dynamic), the output is
    ``logits`` (float32, B x L): the whole student, pooling and normalisation included. Compared
    are batches of different sizes and lengths, with and without padding, and each padded text
    against the same text alone.

    Args:
        module: the student; put into evaluation mode.
        tokenizer: its tokenizer; random ids come from its vocabulary, lengths from its limit.
        path: the file to write.

    Returns:
        The largest absolute difference of a logit.

    Raises:
        MissingExtraError: when onnx or onnxscript is not installed.
        StudentError: when the difference is above 1e-4, or the graph does not run.
    """
    module.eval()
    _write(module, path)
    difference = _largest_difference(module, tokenizer, path)
    if not difference <= TOLERANCE:
        raise StudentError(
            str(path),
            f"answers differently from the trained module (by {difference:.2g}; at most "
            f"{TOLERANCE:g} is allowed)",
            "choose another base encoder: this one does not export faithfully",
        )
    return difference


def _write(module: EncoderClassifier, path: Path) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(str(error.name), "train") from error
    # The plain attention has no branches on the data, so it traces with dynamic shapes.
    before = module.encoder.config._attn_implementation
    module.encoder.set_attn_implementation("eager")
    # Two tensors: one passed twice would be traced as one input that serves as both.
    example = (torch.ones((2, 8), dtype=torch.int64), torch.ones((2, 8), dtype=torch.int64))
    dynamic = {0: "batch", 1: "length"}
    try:
        with quiet_exporter(), warnings.catch_warnings():
            _ignore_benign()
            program: Any = torch.onnx.export(
                module,
                example,
                input_names=["input_ids", "attention_mask"],
                output_names=["logits"],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=(dynamic, dynamic),
                external_data=False,
                verbose=False,
            )
            program.save(str(path), external_data=False)
    finally:
        module.encoder.set_attn_implementation(before)


def _ignore_benign() -> None:
    """Warnings of the exporter about itself; any other one still speaks."""
    # torch.export pickles a tree specification of its own with its own deprecated check.
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
    # Both inputs share their axes, which is meant: the second naming of each is dropped.
    warnings.filterwarnings("ignore", r"# The axis name: (batch|length) will not be used")


def _largest_difference(module: EncoderClassifier, tokenizer: Tokenizer, path: Path) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def graph(input_ids: Ints, attention_mask: Ints) -> Floats:
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        return np.asarray(session.run(["logits"], feed)[0], dtype=np.float32)

    rng = np.random.default_rng(0)
    limit = (tokenizer.truncation or {}).get("max_length", 512)
    vocabulary = module.encoder.get_input_embeddings().num_embeddings
    worst = 0.0
    for size, longest in SHAPES:
        length = min(longest, limit)
        input_ids = rng.integers(0, vocabulary, (size, length))
        lengths = rng.integers(1, length + 1, size)
        lengths[0] = length
        mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
        for attention_mask in (np.ones_like(mask), mask):
            theirs = graph(input_ids, attention_mask)
            ours = _torch(module, input_ids, attention_mask)
            worst = max(worst, _apart(theirs, ours))
        padded = graph(input_ids, mask)
        for row, end in enumerate(lengths):
            alone = input_ids[row : row + 1, :end]
            worst = max(worst, _apart(padded[row : row + 1], graph(alone, np.ones_like(alone))))
    return worst


def _torch(module: EncoderClassifier, input_ids: Ints, attention_mask: Ints) -> Floats:
    with torch.no_grad():
        logits = module(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
    return np.asarray(logits.numpy(), dtype=np.float32)


def _apart(first: Floats, second: Floats) -> float:
    """Largest absolute difference; NaN counts as infinitely far."""
    apart = float(np.abs(first - second).max()) if first.shape == second.shape else np.inf
    return apart if np.isfinite(apart) else float("inf")
