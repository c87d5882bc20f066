"""Sequence-level KD: cross-entropy on the teacher's text (arXiv 1606.07947)."""

from __future__ import annotations

from typing import Any

import torch

from overproof.train.lm.forward import Places, answer_sum
from overproof.train.lm.parts import Batch
from overproof.train.losses.cross_entropy import cross_entropy

__all__ = ["Sft"]


class Sft:
    """The student learns to say what the teacher said."""

    name = "sft"

    def prepare(self, model: Any, batch: Batch, step: int) -> Batch:  # noqa: ARG002 - the protocol
        """The batch as it is."""
        return batch

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        """The summed cross-entropy of the answer tokens, in nats."""

        def of_chunk(
            logits_cv: torch.Tensor, _chunk: slice, targets_c: torch.Tensor, _places: Places
        ) -> torch.Tensor:
            return cross_entropy(logits_cv, targets_c)

        return answer_sum(model, batch, of_chunk)
