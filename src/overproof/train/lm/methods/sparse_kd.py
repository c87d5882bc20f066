"""KD from a sparse signal: the teacher's top log-probs, or tokens drawn from its distribution.

Where nothing is known of what the teacher thought, the loss is cross-entropy on what it said.
"""

from __future__ import annotations

from typing import Any

import torch

from overproof.config.lm_students import Divergence, SampledKdConfig, SparseKdConfig
from overproof.errors import DataError
from overproof.train.lm.forward import Places, answer_sum
from overproof.train.lm.parts import Batch
from overproof.train.losses.cross_entropy import cross_entropy
from overproof.train.losses.sparse import sparse_divergence

__all__ = ["SparseKd"]


class SparseKd:
    """The student learns the teacher's distribution as far as it is known.

    Top log-probs come with a bucket for the rest of the mass. Of drawn tokens (arXiv 2503.16870)
    the shares are a distribution whose expectation is the teacher's, with no rest: its forward KL
    is unbiased.

    Args:
        config: of ``sparse_kd`` or ``sampled_kd``.
    """

    def __init__(self, config: SparseKdConfig | SampledKdConfig) -> None:
        self.name: str = config.method
        self._ce_weight = config.ce_weight
        self._divergence: Divergence = "forward_kl"
        self._temperature = 1.0
        if isinstance(config, SparseKdConfig):
            self._divergence, self._temperature = config.divergence, config.temperature

    def prepare(self, model: Any, batch: Batch, step: int) -> Batch:  # noqa: ARG002 - the protocol
        """The batch as it is."""
        return batch

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        """The summed loss of the answer tokens.

        Each known one counts ``(1 - ce_weight)`` of the divergence and ``ce_weight`` of the
        cross-entropy, each unknown one its cross-entropy.

        Raises:
            DataError: the batch holds no signal.
        """
        if "teacher_ids" not in batch:
            raise DataError(
                f"method '{self.name}'",
                "the batch holds nothing of what the teacher thought",
                "train with the store of log-probs that `overproof train` makes",
            )
        weight = self._ce_weight

        def of_chunk(
            logits_cv: torch.Tensor, chunk: slice, targets_c: torch.Tensor, places: Places
        ) -> torch.Tensor:
            at = (places[0][chunk], places[1][chunk])
            known_c = batch["teacher_known"][at]
            if weight == 1.0 or not bool(known_c.any()):
                return cross_entropy(logits_cv, targets_c)
            kd_c = sparse_divergence(
                logits_cv,
                batch["teacher_ids"][at].long(),
                batch["teacher_logprobs"][at],
                batch["teacher_tail"][at],
                self._divergence,
                temperature=self._temperature,
            )
            if weight == 0.0 and bool(known_c.all()):
                return kd_c
            ce_c = cross_entropy(logits_cv, targets_c)
            return torch.where(known_c, (1.0 - weight) * kd_c + weight * ce_c, ce_c)

        return answer_sum(model, batch, of_chunk)
