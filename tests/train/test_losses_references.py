"""Values against numpy, written term by term; gradients against finite differences, in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from overproof.train.losses.cross_entropy import cross_entropy
from overproof.train.losses.divergences import divergence
from overproof.train.losses.sparse import sparse_divergence

Floats = npt.NDArray[np.float64]
KINDS = ("forward_kl", "reverse_kl", "jensen_shannon", "skew_kl", "skew_reverse_kl")
SETTINGS = [(1.0, 0.1), (1.0, 0.7), (2.5, 0.3), (0.5, 0.5)]  # temperature, skew


def softmax(z: Floats) -> Floats:
    e = np.exp(z - z.max())
    total: Floats = e / e.sum()
    return total


def kl(a: Floats, b: Floats) -> float:
    return sum(float(x * (np.log(x) - np.log(y))) for x, y in zip(a, b, strict=True) if x > 0)


def of_distributions(q: Floats, p: Floats, kind: str, skew: float) -> float:
    """q the student, p the teacher."""
    if kind == "forward_kl":
        return kl(p, q)
    if kind == "reverse_kl":
        return kl(q, p)
    if kind == "jensen_shannon":
        m = skew * p + (1 - skew) * q
        return skew * kl(p, m) + (1 - skew) * kl(q, m)
    if kind == "skew_kl":
        return kl(p, skew * p + (1 - skew) * q)
    return kl(q, (1 - skew) * p + skew * q)


def logits(seed: int, shape: tuple[int, int] = (4, 7)) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) * 3, rng.normal(size=shape) * 3


def check_gradient(function: Callable[[torch.Tensor], torch.Tensor], z: Floats) -> None:
    leaf = torch.from_numpy(z).requires_grad_()
    assert torch.autograd.gradcheck(function, (leaf,), eps=1e-6, atol=1e-7, rtol=1e-6)


def test_cross_entropy() -> None:
    z, _ = logits(0)
    targets = np.array([6, 0, 3, 3])
    expected = [-np.log(softmax(row)[t]) for row, t in zip(z, targets, strict=True)]
    found = cross_entropy(torch.from_numpy(z), torch.from_numpy(targets))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-13)
    check_gradient(lambda z: cross_entropy(z, torch.from_numpy(targets)), z)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("temperature", "skew"), SETTINGS)
def test_divergence(kind: str, temperature: float, skew: float) -> None:
    student, teacher = logits(1)
    found = divergence(
        torch.from_numpy(student), torch.from_numpy(teacher), kind,
        temperature=temperature, skew=skew,
    )  # fmt: skip
    expected = [
        temperature**2
        * of_distributions(softmax(z / temperature), softmax(y / temperature), kind, skew)
        for z, y in zip(student, teacher, strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-13)
    check_gradient(
        lambda z: divergence(
            z, torch.from_numpy(teacher), kind, temperature=temperature, skew=skew
        ),
        student,
    )


def atoms_of(z: Floats, ids: list[int]) -> Floats:
    p = softmax(z)
    return np.array([*p[ids], p.sum() - p[ids].sum()])


def tempered(atoms: Floats, temperature: float) -> Floats:
    power: Floats = atoms ** (1 / temperature)
    return power / power.sum()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("temperature", "skew"), SETTINGS)
def test_sparse_divergence(kind: str, temperature: float, skew: float) -> None:
    student, teacher = logits(2)
    ids = [[5, 0, 2], [1, 6, 3], [0, 1, 2], [4, 3, 6]]
    used = [3, 3, 2, 1]  # the rest of the places is empty
    logprobs, tails = np.full((4, 3), -np.inf), np.zeros(4)
    for i, n in enumerate(used):
        known = atoms_of(teacher[i], ids[i][:n])
        logprobs[i, :n], tails[i] = np.log(known[:-1]), np.log(known[-1])
    expected = [
        temperature**2
        * of_distributions(
            tempered(atoms_of(student[i], ids[i][:n]), temperature),
            tempered(atoms_of(teacher[i], ids[i][:n]), temperature),
            kind,
            skew,
        )
        for i, n in enumerate(used)
    ]
    stored = torch.tensor(ids, dtype=torch.int32)
    stored[torch.from_numpy(logprobs) == -np.inf] = 0  # as a store gives them back

    def loss(z: torch.Tensor) -> torch.Tensor:
        return sparse_divergence(
            z, stored, torch.from_numpy(logprobs), torch.from_numpy(tails), kind,
            temperature=temperature, skew=skew,
        )  # fmt: skip

    np.testing.assert_allclose(loss(torch.from_numpy(student)).numpy(), expected, rtol=1e-11)
    check_gradient(loss, student)


def test_the_skew_of_jensen_shannon_is_the_teachers_share() -> None:
    """Beta of GKD, equation 1: near 0 it is forward KL in small, near 1 reverse KL in small."""
    student, teacher = (torch.from_numpy(z) / 3 for z in logits(3))

    def share(kind: str, skew: float) -> torch.Tensor:
        return divergence(student, teacher, kind, skew=skew)

    torch.testing.assert_close(
        share("jensen_shannon", 1e-7) / 1e-7, share("forward_kl", 0.5), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(
        share("jensen_shannon", 1 - 1e-7) / 1e-7, share("reverse_kl", 0.5), rtol=1e-4, atol=0
    )


def test_the_gradient_flows_to_the_student_alone() -> None:
    student, teacher = (torch.from_numpy(z).requires_grad_() for z in logits(4))
    divergence(student, teacher, "reverse_kl").sum().backward()
    assert student.grad is not None
    assert teacher.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_computed_in_float32(kind: str) -> None:
    student, teacher = (torch.from_numpy(z).bfloat16() for z in logits(5))
    leaf = student.clone().requires_grad_()
    found = divergence(leaf, teacher, kind)
    found.sum().backward()
    assert found.dtype == torch.float32
    assert leaf.grad is not None
    assert leaf.grad.dtype == torch.bfloat16
    expected = divergence(student.double(), teacher.double(), kind)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "temperature", "skew"),
    [("total_variation", 1.0, 0.1), ("forward_kl", 0.0, 0.1), ("skew_kl", 1.0, 1.0)],
)
def test_a_setting_that_is_none_is_refused(kind: str, temperature: float, skew: float) -> None:
    student, teacher = (torch.from_numpy(z) for z in logits(6))
    with pytest.raises(ValueError, match=r"total_variation|temperature"):
        divergence(student, teacher, kind, temperature=temperature, skew=skew)


def test_another_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match=r"student \(2, 5\) and teacher \(2, 6\)"):
        divergence(torch.zeros(2, 5), torch.zeros(2, 6), "forward_kl")
