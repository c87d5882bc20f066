"""Cross-entropy of tokens: the loss of learning from text.

Shapes: N positions, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from overproof.train.losses.precision import at_least_float32

__all__ = ["cross_entropy"]


def cross_entropy(logits_nv: torch.Tensor, targets_n: torch.Tensor) -> torch.Tensor:
    """``-log softmax(logits)[target]`` of every position, in nats.

    The gradient is ``softmax(logits) - onehot(target)``. It takes one temporary tensor of the
    logits' size, where autograd's own chain of log-softmax and gather takes two.

    Args:
        logits_nv: (N, V) unnormalised log-probabilities. An entry of ``-inf`` is a token that
            cannot be said; half precision is computed in float32.
        targets_n: (N,) token ids in [0, V). Positions that are not learned are left out by the
            caller: there is no id that is ignored.

    Returns:
        (N,) losses in the logits' type, float32 at least.
    """
    loss: torch.Tensor = _CrossEntropy.apply(at_least_float32(logits_nv), targets_n)  # type: ignore[no-untyped-call]
    return loss


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_nv: torch.Tensor, targets_n: torch.Tensor) -> torch.Tensor:
        places_n1 = targets_n.long().unsqueeze(1)
        top_n1 = logits_nv.amax(dim=1, keepdim=True)
        weights_nv = (logits_nv - top_n1).exp_()
        total_n1 = weights_nv.sum(dim=1, keepdim=True)
        ctx.save_for_backward(weights_nv, total_n1, places_n1)
        # Two differences and no log-sum-exp: beside a logit of 10,000 it has three decimals.
        return (total_n1.log() - (logits_nv.gather(1, places_n1) - top_n1)).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_n: torch.Tensor) -> tuple[torch.Tensor, None]:
        weights_nv, total_n1, places_n1 = ctx.saved_tensors
        gradient_n1 = gradient_n.unsqueeze(1)
        gradient_nv = weights_nv * (gradient_n1 / total_n1)
        return gradient_nv.scatter_add_(1, places_n1, -gradient_n1), None
