"""White-box KD: the local teacher's whole distribution at every answer token.

Shapes: N answer tokens, C of them in a chunk, V the shared vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from overproof.clients.local_model import LocalModel
from overproof.config.lm_students import Divergence
from overproof.train.lm.forward import Places, answer_hidden, answer_sum, whole_head_of
from overproof.train.lm.parts import Batch
from overproof.train.losses.cross_entropy import cross_entropy
from overproof.train.losses.divergences import divergence

__all__ = ["DenseKd", "dense_sum", "outside_mass"]


class DenseKd:
    """The student learns the teacher's distribution from the teacher's weights.

    Args:
        teacher: the weights, whose vocabulary is the student's as far as it is ``shared``.
        shared: how many ids mean the same to both; rows beyond are padding, or foreign.
        kind: which divergence.
        skew: see ``losses.divergences``.
        temperature: of both distributions.
        ce_weight: the share of cross-entropy on the teacher's text in the loss.
    """

    name = "dense_kd"

    def __init__(
        self,
        teacher: LocalModel,
        shared: int,
        kind: Divergence,
        *,
        skew: float,
        temperature: float,
        ce_weight: float,
    ) -> None:
        self._teacher = teacher
        self._shared = shared
        self._kind: Divergence = kind
        self._skew = skew
        self._temperature = temperature
        self._ce_weight = ce_weight

    def prepare(self, model: Any, batch: Batch, step: int) -> Batch:  # noqa: ARG002 - the protocol
        """The batch as it is."""
        return batch

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        """``(1 - ce_weight)`` of the divergence and ``ce_weight`` of cross-entropy, summed."""

        def of_both(student_cv: torch.Tensor, teacher_cv: torch.Tensor) -> torch.Tensor:
            return divergence(
                student_cv,
                teacher_cv,
                self._kind,
                temperature=self._temperature,
                skew=self._skew,
            )

        return dense_sum(
            model, self._teacher, batch, self._shared, of_both, ce_weight=self._ce_weight
        )


def dense_sum(
    model: Any,
    teacher: LocalModel,
    batch: Batch,
    shared: int,
    of_both: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    ce_weight: float = 0.0,
) -> torch.Tensor:
    """The sum over answer tokens of a loss of the student's and the teacher's logits, C x V each.

    The teacher reads the same tokens. Its logits exist a chunk at a time, like the student's. Both
    are cut to the vocabulary that they share; what mass the student has outside of it is a loss of
    its own (``outside_mass``).
    """
    # In its own precision, whatever the student is trained in.
    with torch.no_grad(), torch.autocast(teacher.device.type, enabled=False):
        # Packed rows and padding mean the same to both: the teacher gets the batch as it is.
        there = {name: value.to(teacher.device) for name, value in batch.items()}
        teacher_nd, _, _ = answer_hidden(teacher.module, there)
        head = whole_head_of(teacher.module)
        weight_vd = head.weight[:shared].detach()
        bias_v = None if head.bias is None else head.bias[:shared].detach()

    def of_chunk(
        logits_cv: torch.Tensor, chunk: slice, targets_c: torch.Tensor, _places: Places
    ) -> torch.Tensor:
        with torch.no_grad():
            linear = torch.nn.functional.linear(teacher_nd[chunk], weight_vd, bias_v)
            theirs_cv = head.capped(linear).to(logits_cv.device)
        # Cut only where there is something to cut: the gradient of a cut is a copy with zeros.
        ours_cv = logits_cv if logits_cv.shape[-1] == shared else logits_cv[:, :shared]
        loss_c = of_both(ours_cv, theirs_cv) + outside_mass(logits_cv, shared)
        if ce_weight == 0.0:
            return loss_c
        return (1.0 - ce_weight) * loss_c + ce_weight * cross_entropy(logits_cv, targets_c)

    return answer_sum(model, batch, of_chunk)


def outside_mass(logits_cv: torch.Tensor, shared: int) -> torch.Tensor | float:
    """Minus the log of the student's mass on the first ``shared`` tokens, C.

    By the chain rule it is what forward KL over the whole vocabulary has beyond forward KL within
    the shared part, where the teacher has no mass outside. Without it nothing would teach a student
    with padded rows not to say them.
    """
    if logits_cv.shape[-1] <= shared:
        return 0.0
    precise_cv = logits_cv.float()
    return precise_cv.logsumexp(-1) - precise_cv[:, :shared].logsumexp(-1)
