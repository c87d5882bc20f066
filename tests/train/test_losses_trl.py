"""Our losses and those of TRL, an independent implementation, are the same where both exist."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from overproof.train.losses.chunked import chunked_sum
from overproof.train.losses.cross_entropy import cross_entropy
from overproof.train.losses.divergences import divergence

pytestmark = pytest.mark.slow

N, D, D_TEACHER, V = 23, 8, 12, 61
KINDS = [(0.0, "forward_kl"), (0.3, "jensen_shannon"), (0.8, "jensen_shannon"),
         (1.0, "reverse_kl")]  # beta of TRL, our kind  # fmt: skip


@pytest.fixture(scope="module")
def trl() -> dict[str, Callable[..., Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.gkd.gkd_trainer import GKDTrainer
        from trl.kernels.chunked_logprob import ChunkedLogProbFunction
        from trl.trainer.distillation_trainer import _chunked_divergence_loss
    return {
        "generalized_jsd": GKDTrainer.generalized_jsd_loss,
        "chunked_divergence": _chunked_divergence_loss,
        "chunked_logprob": ChunkedLogProbFunction.apply,
    }


def draw(*shapes: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    numbers = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=numbers).requires_grad_() for shape in shapes]


@pytest.mark.parametrize(("beta", "kind"), KINDS)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_divergences_are_those_of_gkd(
    trl: dict[str, Any], beta: float, kind: str, temperature: float
) -> None:
    student, theirs, teacher = draw((N, V), (N, V), (N, V))
    theirs.data.copy_(student.data)
    skew = beta if 0 < beta < 1 else 0.1
    mine = divergence(student, teacher, kind, temperature=temperature, skew=skew).sum()
    expected = trl["generalized_jsd"](
        theirs, teacher.detach(), beta=beta, temperature=temperature, reduction="sum"
    )
    mine.backward()
    expected.backward()
    assert student.grad is not None
    # TRL leaves out the factor that keeps the size of the gradient.
    torch.testing.assert_close(mine, expected * temperature**2, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(student.grad, theirs.grad * temperature**2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("beta", "kind"), KINDS)
@pytest.mark.parametrize("chunk", [5, None])
def test_the_chunked_divergence_is_that_of_the_distillation_trainer(
    trl: dict[str, Any], beta: float, kind: str, chunk: int | None
) -> None:
    mine = draw((N, D), (V, D), (V,))
    theirs = draw((N, D), (V, D), (V,))
    hidden, weight, bias = draw((N, D_TEACHER), (V, D_TEACHER), (V,), seed=1)
    teacher = (hidden @ weight.t() + bias).detach()
    skew = beta if 0 < beta < 1 else 0.1
    value = chunked_sum(
        lambda z, at: divergence(z, teacher[at], kind, skew=skew), *mine, chunk=chunk
    )
    expected, _entropy, n = trl["chunked_divergence"](
        theirs[0][None], hidden.detach()[None], theirs[1], weight.detach(), torch.ones(1, N), beta,
        num_items_in_batch=1, student_lm_head_bias=theirs[2], teacher_lm_head_bias=bias.detach(),
    )  # fmt: skip
    assert n == N
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    value.backward()
    expected.backward()
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chunk", [5, None])
def test_the_chunked_cross_entropy_is_that_of_the_sft_trainer(
    trl: dict[str, Any], chunk: int | None
) -> None:
    mine, theirs = draw((N, D), (V, D), (V,)), draw((N, D), (V, D), (V,))
    targets = torch.arange(N) % V
    value = chunked_sum(lambda z, at: cross_entropy(z, targets[at]), *mine, chunk=chunk)
    logprobs, *_ = trl["chunked_logprob"](*theirs, targets, 1.0, 16, None, 1.0, ("log_probs",))
    torch.testing.assert_close(value, -logprobs.sum(), rtol=1e-5, atol=1e-5)
    value.backward()
    (-logprobs.sum()).backward()
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
