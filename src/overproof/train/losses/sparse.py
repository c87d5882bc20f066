"""The divergence from a teacher that is known on a few tokens of its vocabulary.

A chat API tells the log-probs of its k likeliest tokens, and by that the mass of all others
together. Both distributions are compared on these k tokens and one bucket for the rest: k + 1
atoms. Merging atoms never increases a divergence (data processing inequality), so the value is a
lower bound of the dense one, and equal to it where the tokens are the whole vocabulary. The bucket
is what keeps it from being biased as a renormalised top-k is: a student that is right on all
k tokens and has the right mass elsewhere has a loss and a gradient of 0.

Shapes: N positions, V vocabulary, K tokens known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from overproof.train.losses.divergences import divergence
from overproof.train.losses.precision import at_least_float32

if TYPE_CHECKING:
    from overproof.config.lm_students import Divergence

__all__ = ["sparse_divergence"]


def sparse_divergence(
    student_nv: torch.Tensor,
    ids_nk: torch.Tensor,
    logprobs_nk: torch.Tensor,
    tail_n: torch.Tensor,
    kind: Divergence,
    *,
    temperature: float = 1.0,
    skew: float = 0.1,
) -> torch.Tensor:
    """The divergence of every position on K tokens and a bucket for the rest, in nats.

    The teacher's K + 1 atoms are scaled to a sum of one, so that rounding in a store does no harm.
    A temperature applies to the atoms of both, after merging: what the tail would be at another
    temperature nobody knows. The value is zero where the atoms agree, but a lower bound of the
    dense one only at T = 1 or without a tail.

    Where the shares of tokens drawn from the teacher take the place of its log-probs, without a
    tail, ``forward_kl`` is their cross-entropy minus their entropy: its gradient, averaged over the
    draws, is that of the dense forward KL (random-sampling KD, arXiv 2503.16870). The other
    divergences have no such property.

    Where the teacher has no tail, ``reverse_kl`` would be infinite for every student; the teacher's
    tail is then taken to be the smallest that its type can tell from none, 1.2e-7 in float32.

    Args:
        student_nv: (N, V) logits.
        ids_nk: (N, K) tokens, no token twice in a row; anything in unused places.
        logprobs_nk: (N, K) the teacher's log-probs of these, ``-inf`` for unused places.
        tail_n: (N,) log of the teacher's mass on all other tokens, ``-inf`` for none.
        kind: see ``divergences``.
        temperature: T, above zero; the value is multiplied by T squared.
        skew: in (0, 1), see ``divergences``.

    Returns:
        (N,) values in the student's type, float32 at least. Where neither a token nor a tail is
        given, all mass is in the bucket on both sides: the value and its gradient are 0. What such
        positions learn from instead is up to the caller.
    """
    student_nv = at_least_float32(student_nv)
    used_nk = logprobs_nk > -torch.inf
    atoms: torch.Tensor = _Atoms.apply(student_nv, ids_nk.long(), used_nk)  # type: ignore[no-untyped-call]
    tail_n = tail_n.masked_fill(~used_nk.any(dim=1) & (tail_n == -torch.inf), 0.0)
    teacher = torch.cat([logprobs_nk, tail_n.unsqueeze(1)], dim=1).to(atoms.dtype)
    if kind == "reverse_kl":
        least = teacher.new_tensor(torch.finfo(teacher.dtype).eps).log()
        has_tail = atoms.detach()[:, -1] > -torch.inf
        teacher[:, -1] = torch.where(has_tail, teacher[:, -1].maximum(least), teacher[:, -1])
    return divergence(atoms, teacher, kind, temperature=temperature, skew=skew)


class _Atoms(torch.autograd.Function):
    """Log-probs (N, K + 1) of K tokens and of all others together, from logits (N, V).

    The bucket is added up from the tokens in it, not taken as one minus the others: near one that
    difference has no correct digit in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, logits_nv: torch.Tensor, ids_nk: torch.Tensor, used_nk: torch.Tensor
    ) -> torch.Tensor:
        # Unused places point to a token that is used, so that marking it twice does no harm; where
        # none is, all point to one token, which stays what it is.
        first_n1 = used_nk.to(torch.uint8).argmax(dim=1, keepdim=True)
        ids_nk = torch.where(used_nk, ids_nk, ids_nk.gather(1, first_n1))
        kept_nk = logits_nv.gather(1, ids_nk)
        rest_nv = logits_nv.scatter(
            1, ids_nk, kept_nk.masked_fill(used_nk.any(dim=1, keepdim=True), -torch.inf)
        )
        kept_nk = kept_nk.masked_fill(~used_nk, -torch.inf)
        top_n1 = rest_nv.amax(dim=1, keepdim=True)
        top_n1 = top_n1.masked_fill(top_n1 == -torch.inf, 0.0)
        rest_nv.sub_(top_n1).exp_()
        total_n1 = rest_nv.sum(dim=1, keepdim=True)
        atoms = torch.cat([kept_nk, total_n1.log() + top_n1], dim=1).log_softmax(dim=1)
        ctx.save_for_backward(atoms, rest_nv, total_n1, ids_nk)
        return atoms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        atoms, rest_nv, total_n1, ids_nk = ctx.saved_tensors
        # With g the gradient of the atoms and q their probabilities: log-softmax gives
        # g - q sum(g), and the bucket's part goes to its tokens by their shares of it.
        pull = gradient - atoms.exp() * gradient.sum(dim=1, keepdim=True)
        share_n1 = (pull[:, -1:] / total_n1).masked_fill(total_n1 == 0, 0.0)
        gradient_nv = rest_nv * share_n1
        return gradient_nv.scatter_add_(1, ids_nk, pull[:, :-1]), None, None
