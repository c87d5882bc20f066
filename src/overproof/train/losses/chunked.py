"""A loss over a vocabulary without all of its logits: a few positions at a time.

The logits of N positions, (N, V) numbers, are the largest tensor of training a small model with a
large vocabulary: 8,192 positions of 49,152 tokens take 1.6 GB, and the gradient as much again.
Here the output head, the loss and its gradient are computed chunk by chunk in the forward pass;
what stays are the gradients of the hidden states (N, D) and of the head (V, D), which backward
hands on. No product is computed twice.

Shapes: N positions, C of them in a chunk, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from overproof.train.losses.precision import at_least_float32

__all__ = ["LossOfLogits", "chunked_sum"]

# The logits (C, V) of the positions in the slice of N, to the losses (C,) of these positions.
LossOfLogits = Callable[[torch.Tensor, slice], torch.Tensor]

# On a CPU a tensor beyond 32 MiB, the most that the C library keeps for the next one, has all its
# pages mapped anew each time, which takes as long as filling it.
CPU_CHUNK_BYTES, CHUNK_BYTES = 16 * 2**20, 64 * 2**20
MIN_ROWS = 64  # fewer, and reading the head's weights takes longer than multiplying by them


def chunked_sum(
    loss_of_logits: LossOfLogits,
    hidden_nd: torch.Tensor,
    weight_vd: torch.Tensor,
    bias_v: torch.Tensor | None = None,
    *,
    chunk: int | None = None,
) -> torch.Tensor:
    """The sum over N positions of the loss of ``hidden @ weight.T + bias``.

    An ordinary node of the graph, differentiable once: gradients flow to hidden states, weight and
    bias where these require one, and to nothing else that the loss may use. They are accumulated
    in float32, whatever the precision of the weights. Under autocast the products are computed
    in its type. Where no gradient is asked for, only the value is computed.

    Args:
        loss_of_logits: gets the logits (C, V), in float32 at least, and the slice of positions
            that they belong to, and returns their losses (C,). Called once a chunk with gradients
            enabled for the logits; a teacher's logits are best computed there, under ``no_grad``.
            It may overwrite neither the logits nor what it returns.
        hidden_nd: (N, D) hidden states before the output head.
        weight_vd: (V, D) weights of the head.
        bias_v: (V,) bias of the head.
        chunk: positions at a time; where unsaid, 16 MiB of logits on a CPU and 64 MiB elsewhere,
            and at least 64 positions.

    Returns:
        A scalar in float32 at least; 0 of no positions, with gradients of 0.

    Raises:
        ValueError: when the loss is not one number a position, or the chunk is empty.
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"a chunk of {chunk} positions")
    head = _Head(loss_of_logits, chunk, _product_type(hidden_nd, weight_vd))
    if torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (hidden_nd, weight_vd, bias_v)
    ):
        total: torch.Tensor = _ChunkedSum.apply(hidden_nd, weight_vd, bias_v, head)  # type: ignore[no-untyped-call]
        return total
    return head.value(hidden_nd, weight_vd, bias_v)


def _product_type(hidden_nd: torch.Tensor, weight_vd: torch.Tensor) -> torch.dtype:
    device = hidden_nd.device.type
    if torch.is_autocast_enabled(device) and hidden_nd.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return torch.promote_types(hidden_nd.dtype, weight_vd.dtype)


class _Gradients(NamedTuple):
    hidden_nd: torch.Tensor | None
    weight_vd: torch.Tensor | None
    bias_v: torch.Tensor | None


@dataclass(frozen=True)
class _Head:
    """The loss behind an output head, its gradients included."""

    loss_of_logits: LossOfLogits
    chunk: int | None
    product_type: torch.dtype

    def value(
        self, hidden_nd: torch.Tensor, weight_vd: torch.Tensor, bias_v: torch.Tensor | None
    ) -> torch.Tensor:
        """The sum alone."""
        total, weight = _zero(hidden_nd), weight_vd.to(self.product_type)
        for places in self.chunks(hidden_nd, weight_vd):
            logits_cv = self.logits(hidden_nd[places], weight, bias_v)
            total += self.losses(logits_cv, places).sum()
        return total

    def value_and_gradients(
        self,
        hidden_nd: torch.Tensor,
        weight_vd: torch.Tensor,
        bias_v: torch.Tensor | None,
        wanted: tuple[bool, bool, bool],
    ) -> tuple[torch.Tensor, _Gradients]:
        """The sum and those of its gradients that are wanted, in float32 at least."""
        total, weight = _zero(hidden_nd), weight_vd.to(self.product_type)
        sums = _Gradients(
            *(
                torch.zeros_like(tensor, dtype=total.dtype) if want and tensor is not None else None
                for tensor, want in zip((hidden_nd, weight_vd, bias_v), wanted, strict=True)
            )
        )
        for places in self.chunks(hidden_nd, weight_vd):
            hidden_cd = hidden_nd[places].to(self.product_type)
            losses_c, gradient_cv = self.chunk_gradient(hidden_cd, weight, bias_v, places)
            total += losses_c.sum()
            if sums.bias_v is not None:
                sums.bias_v.add_(gradient_cv.sum(dim=0))
            gradient_cv = gradient_cv.to(self.product_type)
            if sums.hidden_nd is not None:
                sums.hidden_nd[places] = _product(gradient_cv, weight)
            if sums.weight_vd is not None:
                _add_product(sums.weight_vd, gradient_cv.t(), hidden_cd)
        return total, sums

    def chunk_gradient(
        self,
        hidden_cd: torch.Tensor,
        weight: torch.Tensor,
        bias_v: torch.Tensor | None,
        places: slice,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The losses (C,) and the gradient of their sum for the logits (C, V)."""
        logits_cv = self.logits(hidden_cd, weight, bias_v).requires_grad_()
        with torch.enable_grad():
            losses_c = self.losses(logits_cv, places)
            (gradient_cv,) = torch.autograd.grad(losses_c.sum(), logits_cv)
        return losses_c.detach(), gradient_cv

    def logits(
        self, hidden_cd: torch.Tensor, weight: torch.Tensor, bias_v: torch.Tensor | None
    ) -> torch.Tensor:
        logits_cv = _product(hidden_cd.to(self.product_type), weight.t())
        return logits_cv if bias_v is None else logits_cv.add_(bias_v)

    def losses(self, logits_cv: torch.Tensor, places: slice) -> torch.Tensor:
        losses_c = self.loss_of_logits(logits_cv, places)
        if losses_c.shape != logits_cv.shape[:1]:
            raise ValueError(
                f"the loss of {len(logits_cv)} positions has the shape {tuple(losses_c.shape)}"
            )
        return losses_c

    def chunks(self, hidden_nd: torch.Tensor, weight_vd: torch.Tensor) -> Iterator[slice]:
        """Slices of equal length, but for the last, as few as the longest length allows."""
        positions, vocabulary = len(hidden_nd), len(weight_vd)
        size = CPU_CHUNK_BYTES if hidden_nd.device.type == "cpu" else CHUNK_BYTES
        most = self.chunk or max(MIN_ROWS, size // (4 * vocabulary))
        rows = math.ceil(positions / max(1, math.ceil(positions / most)))
        for start in range(0, positions, max(1, rows)):
            yield slice(start, min(start + rows, positions))


class _ChunkedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_nd: torch.Tensor,
        weight_vd: torch.Tensor,
        bias_v: torch.Tensor | None,
        head: _Head,
    ) -> torch.Tensor:
        ctx.save_for_backward(hidden_nd, weight_vd, bias_v)
        ctx.head = head
        ctx.autocast = torch.is_autocast_enabled(hidden_nd.device.type)
        total, ctx.gradients = head.value_and_gradients(
            hidden_nd, weight_vd, bias_v, ctx.needs_input_grad[:3]
        )
        return total

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None, None]:
        inputs = ctx.saved_tensors
        # They are given away, not copied: a second tensor of the head's size would be the peak of
        # memory. Whoever retains the graph and comes again has them computed again.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            head, device = ctx.head, inputs[0].device.type
            with torch.autocast(device, head.product_type, enabled=ctx.autocast):
                gradients = head.value_and_gradients(*inputs, ctx.needs_input_grad[:3])[1]
        hidden_nd, weight_vd, bias_v = (
            None if sum_ is None else sum_.mul_(gradient).to(tensor.dtype)
            for sum_, tensor in zip(gradients, inputs, strict=True)
        )
        return hidden_nd, weight_vd, bias_v, None


def _zero(hidden_nd: torch.Tensor) -> torch.Tensor:
    return at_least_float32(hidden_nd.new_zeros(()))


# cuBLAS adds up products of half precision in float32 and can hand that out; on other devices the
# result is rounded to the type of the factors first.


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product of two matrices, in float32 at least."""
    if a.is_cuda and a.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(a, b, out_dtype=torch.float32)
    return at_least_float32(torch.mm(a, b))


def _add_product(total: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """``total += a @ b`` in the precision of the total."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += _product(a, b)
