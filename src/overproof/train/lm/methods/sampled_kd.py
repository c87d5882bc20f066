"""Unbiased random-sampling KD (arXiv 2503.16870): the sparse loss on tokens that were drawn."""

from __future__ import annotations

from overproof.config.lm_students import SampledKdConfig
from overproof.train.lm.methods.sparse_kd import SparseKd

__all__ = ["SampledKd"]


class SampledKd(SparseKd):
    """The student learns from ``draws`` tokens a position, drawn once from the whole softmax.

    The share of each is its target: forward KL to them is cross-entropy less a constant, and its
    gradient is that of dense KD in expectation.

    Args:
        config: the student's section of the recipe.
    """

    def __init__(self, config: SampledKdConfig) -> None:
        super().__init__(config)
