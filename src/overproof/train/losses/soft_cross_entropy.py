"""Cross-entropy against a distribution: the loss of learning from soft labels.

Shapes: B batch, L labels.
"""

from __future__ import annotations

import torch

__all__ = ["soft_cross_entropy"]


def soft_cross_entropy(logits_BL: torch.Tensor, target_BL: torch.Tensor) -> torch.Tensor:  # noqa: N803
    """Mean over the batch of ``-sum_l target_l * log_softmax(logits)_l``, in nats.

    Equals the forward Kullback-Leibler divergence from target to student plus the target's
    entropy, so both have the same gradient, ``(softmax(logits) - target) / B`` (Hinton, Vinyals
    and Dean 2015, arXiv:1503.02531, section 2, at temperature one).

    Args:
        logits_BL: (B, L) unnormalised log-probabilities.
        target_BL: (B, L) distributions; rows sum to one.

    Returns:
        A scalar tensor of the logits' type.
    """
    return -(target_BL * logits_BL.log_softmax(dim=-1)).sum(dim=-1).mean()
