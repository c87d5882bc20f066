"""How far a student's distribution of the next token is from its teacher's.

With p the teacher, q the student, KL(a || b) = sum of a (log a - log b) in nats, and s = ``skew``:

====================  =====================================================  ==================
``forward_kl``        KL(p || q)                                             arXiv 1503.02531
``reverse_kl``        KL(q || p)                                             arXiv 2306.08543
``jensen_shannon``    s KL(p || m) + (1 - s) KL(q || m), m = s p + (1 - s) q arXiv 2306.13649
``skew_kl``           KL(p || s p + (1 - s) q)                               arXiv 2402.03898
``skew_reverse_kl``   KL(q || (1 - s) p + s q)                               arXiv 2402.03898
====================  =====================================================  ==================

In ``jensen_shannon`` the skew is the *teacher's* share of the mixture: ``beta`` of equation 1 of
the GKD paper and of TRL. As it goes to 0 the loss goes to s KL(p || q), as it goes to 1 to
(1 - s) KL(q || p). In the skew divergences it is the share of the distribution that is measured.

Shapes: N positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from overproof.train.losses.precision import at_least_float32

if TYPE_CHECKING:
    from overproof.config.lm_students import Divergence

__all__ = ["divergence"]

# A value (N,), and how to get its gradient for the student's logits (N, V) once that is wanted.
ValueAndGradient = tuple[torch.Tensor, Callable[[], torch.Tensor]]


def divergence(
    student_nv: torch.Tensor,
    teacher_nv: torch.Tensor,
    kind: Divergence,
    *,
    temperature: float = 1.0,
    skew: float = 0.1,
) -> torch.Tensor:
    """The divergence of every position, in nats; the gradient flows to the student alone.

    With a temperature T both distributions are softmax(logits / T) and the value is multiplied by
    T squared, so that the size of the gradient stays (Hinton, Vinyals and Dean 2015, arXiv
    1503.02531, section 2). TRL leaves that factor out.

    An entry of ``-inf`` in both is padding and counts nothing. Where one distribution has mass
    on an entry that is ``-inf`` in the other, the divergence is what mathematics says: infinite for
    the KL towards the one that excludes it, finite for mixtures. It is never NaN.

    Args:
        student_nv: (N, V) logits or log-probabilities.
        teacher_nv: (N, V) logits or log-probabilities; no gradient flows to it.
        kind: see the table above.
        temperature: T, above zero.
        skew: in (0, 1); not used by ``forward_kl`` and ``reverse_kl``.

    Returns:
        (N,) values in the student's type, float32 at least.

    Raises:
        ValueError: for a kind, temperature or skew that is none, or for different shapes.
    """
    if kind not in _KINDS:
        raise ValueError(f"{kind!r} is none of the divergences {', '.join(_KINDS)}")
    if temperature <= 0 or not 0 < skew < 1:
        raise ValueError(f"temperature {temperature} must be above 0, skew {skew} within (0, 1)")
    if student_nv.shape != teacher_nv.shape:
        raise ValueError(f"student {tuple(student_nv.shape)} and teacher {tuple(teacher_nv.shape)}")
    student_nv = at_least_float32(student_nv)
    teacher_nv = at_least_float32(teacher_nv.detach()).to(student_nv.dtype)
    if temperature != 1.0:
        student_nv, teacher_nv = student_nv / temperature, teacher_nv / temperature
    values_n: torch.Tensor = _Divergence.apply(student_nv, teacher_nv, kind, skew)  # type: ignore[no-untyped-call]
    return values_n * temperature**2 if temperature != 1.0 else values_n


class _Divergence(torch.autograd.Function):
    """The gradient is written down and computed with the value: autograd would keep six (N, V)."""

    @staticmethod
    def forward(
        ctx: Any, student_nv: torch.Tensor, teacher_nv: torch.Tensor, kind: str, skew: float
    ) -> torch.Tensor:
        log_q, log_p = student_nv.log_softmax(dim=1), teacher_nv.log_softmax(dim=1)
        values_n, gradient_nv = _KINDS[kind](log_q, log_p, skew)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(gradient_nv())
        return values_n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_n: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (gradient_nv,) = ctx.saved_tensors
        return gradient_nv * gradient_n.unsqueeze(1), None, None, None


# The gradient for logits z of a value f(log q) with log q = log softmax(z) and g = df/dlog q is
# g - q sum(g). What is left of that is written below for each kind.


def _forward_kl(log_q: torch.Tensor, log_p: torch.Tensor, _skew: float) -> ValueAndGradient:
    p = log_p.exp()
    values_n = _terms(p, log_p, log_q).sum(dim=1)
    return values_n, lambda: log_q.exp_().sub_(p)


def _reverse_kl(log_q: torch.Tensor, log_p: torch.Tensor, _skew: float) -> ValueAndGradient:
    q = log_q.exp()
    terms = _terms(q, log_q, log_p)
    values_n = terms.sum(dim=1)
    return values_n, lambda: terms.addcmul_(q, values_n.unsqueeze(1), value=-1)


def _jensen_shannon(log_q: torch.Tensor, log_p: torch.Tensor, skew: float) -> ValueAndGradient:
    p, q = log_p.exp(), log_q.exp()
    log_m = _log_mixture(p, q, skew)
    teachers_n = _terms(p, log_p, log_m).sum(dim=1)
    terms = _terms(q, log_q, log_m).mul_(1 - skew)
    students_n = terms.sum(dim=1)
    values_n = skew * teachers_n + students_n
    return values_n, lambda: terms.addcmul_(q, students_n.unsqueeze(1), value=-1)


def _skew_kl(log_q: torch.Tensor, log_p: torch.Tensor, skew: float) -> ValueAndGradient:
    p, q = log_p.exp(), log_q.exp()
    log_m = _log_mixture(p, q, skew)
    values_n = _terms(p, log_p, log_m).sum(dim=1)

    def gradient_nv() -> torch.Tensor:
        # dm / dlog q = (1 - s) q, so g = -(1 - s) q p / m.
        pull = log_m.neg_().exp_().mul_(p).mul_(q).mul_(skew - 1)
        return pull.addcmul_(q, pull.sum(dim=1, keepdim=True), value=-1)

    return values_n, gradient_nv


def _skew_reverse_kl(log_q: torch.Tensor, log_p: torch.Tensor, skew: float) -> ValueAndGradient:
    p, q = log_p.exp(), log_q.exp()
    log_m = _log_mixture(p, q, 1 - skew)
    terms = _terms(q, log_q, log_m)
    values_n = terms.sum(dim=1)

    def gradient_nv() -> torch.Tensor:
        # g = q (log q - log m + 1 - s q / m); the one falls out of g - q sum(g).
        pull = terms.addcmul_(log_m.neg_().exp_().mul_(q), q, value=-skew)
        return pull.addcmul_(q, pull.sum(dim=1, keepdim=True), value=-1)

    return values_n, gradient_nv


_KINDS: dict[str, Callable[[torch.Tensor, torch.Tensor, float], ValueAndGradient]] = {
    "forward_kl": _forward_kl,
    "reverse_kl": _reverse_kl,
    "jensen_shannon": _jensen_shannon,
    "skew_kl": _skew_kl,
    "skew_reverse_kl": _skew_reverse_kl,
}


def _log_mixture(p: torch.Tensor, q: torch.Tensor, share: float) -> torch.Tensor:
    """log(share p + (1 - share) q), finite also where both are nothing."""
    mixture = torch.lerp(q, p, share)
    return mixture.clamp_min_(torch.finfo(mixture.dtype).tiny).log_()


def _terms(a: torch.Tensor, log_a: torch.Tensor, log_b: torch.Tensor) -> torch.Tensor:
    """The terms of KL(a || b); 0 log 0 = 0, also where b is nothing too."""
    return (log_a - log_b).masked_fill_(a == 0, 0.0).mul_(a)
