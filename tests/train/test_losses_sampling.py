"""Random-sampling KD is unbiased, and a renormalised top-k is not (arXiv 2503.16870)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from overproof.train.losses.divergences import divergence
from overproof.train.losses.sparse import sparse_divergence

V = 40
NONE = torch.full((1,), -torch.inf, dtype=torch.float64)


@pytest.fixture
def example() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a student and a teacher with a long tail."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(1, V))), torch.from_numpy(
        rng.normal(size=(1, V)) * 1.5
    )


def gradient(
    z: torch.Tensor, ids: torch.Tensor, logprobs: torch.Tensor, tail: torch.Tensor
) -> torch.Tensor:
    leaf = z.repeat(len(ids), 1).requires_grad_()
    sparse_divergence(leaf, ids, logprobs, tail.expand(len(ids)), "forward_kl").sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def shares(p: np.ndarray, draws: int, rounds: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a store holds: each drawn token once, with the log of its share of the draws."""
    counts = np.random.default_rng(seed).multinomial(draws, p, size=rounds)
    ids = np.argsort(-counts, axis=1, kind="stable")[:, :draws]
    with np.errstate(divide="ignore"):
        logprobs = np.log(np.take_along_axis(counts, ids, axis=1) / draws)
    ids[logprobs == -np.inf] = 0
    return torch.from_numpy(ids), torch.from_numpy(logprobs)


def dense_gradient(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    leaf = student.clone().requires_grad_()
    divergence(leaf, teacher, "forward_kl").sum().backward()
    assert leaf.grad is not None
    return leaf.grad[0]


def chi_squared(gradients: torch.Tensor, truth: torch.Tensor, p: torch.Tensor, draws: int) -> float:
    """Pearson's statistic: a gradient's only random part is the share of the draws."""
    rounds = len(gradients) * draws
    return float(((gradients.mean(dim=0) - truth) ** 2 / p).sum() * rounds)


# The statistic has V - 1 degrees of freedom, hence about this mean and spread.
USUAL = V - 1 + 4 * (2 * (V - 1)) ** 0.5


def test_the_loss_of_drawn_shares_is_cross_entropy_minus_their_entropy(
    example: tuple[torch.Tensor, torch.Tensor],
) -> None:
    student, teacher = example
    ids, logprobs = shares(teacher.softmax(dim=1)[0].numpy(), 8, 1, seed=1)
    value = sparse_divergence(student, ids, logprobs, NONE, "forward_kl")
    weights = logprobs.exp()
    cross = -(weights * student.log_softmax(dim=1).gather(1, ids)).sum()
    entropy = torch.special.entr(weights).sum()
    assert value.item() == pytest.approx((cross - entropy).item(), abs=1e-12)


@pytest.mark.parametrize("draws", [1, 5, 20])
def test_the_gradient_of_drawn_shares_is_unbiased(
    example: tuple[torch.Tensor, torch.Tensor], draws: int
) -> None:
    student, teacher = example
    truth, p = dense_gradient(student, teacher), teacher.softmax(dim=1)[0]
    ids, logprobs = shares(p.numpy(), draws, 20_000, seed=draws)
    assert chi_squared(gradient(student, ids, logprobs, NONE), truth, p, draws) < USUAL


def test_a_renormalised_top_k_is_biased_and_the_bucket_mends_it(
    example: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """At the optimum: a student that *is* the teacher should be left alone."""
    _, teacher = example
    kept, ids = teacher.log_softmax(dim=1).topk(9)
    tail = (1 - kept.exp().sum(dim=1)).log()
    renormalised = gradient(teacher, ids, kept.log_softmax(dim=1), NONE)[0]
    bucket = gradient(teacher, ids, kept, tail)[0]
    share = kept.exp().sum().item()
    assert 0.5 < share < 0.9
    assert bucket.abs().max() < 1e-12
    # The renormalised one takes all mass of the tail away and piles it onto the k tokens.
    outside = torch.ones(V, dtype=torch.bool).index_fill(0, ids[0], False)
    assert renormalised[outside].sum().item() == pytest.approx(1 - share)
    assert (renormalised[outside] > 0).all()
    p = teacher.softmax(dim=1)[0]
    drawn = gradient(teacher, *shares(p.numpy(), 5, 20_000, 7), NONE)
    assert chi_squared(drawn, torch.zeros(V), p, 5) < USUAL
    assert chi_squared(renormalised.expand(20_000, V), torch.zeros(V), p, 5) > 100 * USUAL


def test_a_student_trained_on_a_renormalised_top_k_is_overconfident(
    example: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """Where gradient descent ends: the truth with draws or a bucket, no tail without."""
    _, teacher = example
    p = teacher.softmax(dim=1)[0]
    kept, top = teacher.log_softmax(dim=1).topk(9)
    tail = (1 - kept.exp().sum(dim=1)).log()
    ids, logprobs = shares(p.numpy(), 8, 150 * 64, seed=3)

    def mass_outside(kind: str) -> float:
        z = torch.zeros(1, V, dtype=torch.float64)
        for step in range(150):
            at = slice(64 * step, 64 * (step + 1))
            if kind == "drawn":
                slope = gradient(z, ids[at], logprobs[at], NONE).mean(dim=0, keepdim=True)
            elif kind == "bucket":
                slope = gradient(z, top, kept, tail)
            else:
                slope = gradient(z, top, kept.log_softmax(dim=1), NONE)
            z -= 4.0 * slope
        return 1 - z.softmax(dim=1)[0, top[0]].sum().item()

    truth = 1 - p[top[0]].sum().item()
    assert mass_outside("bucket") == pytest.approx(truth, rel=0.01)
    assert mass_outside("drawn") == pytest.approx(truth, rel=0.25)
    assert mass_outside("renormalised") < truth / 10
