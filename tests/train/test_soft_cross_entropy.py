from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from overproof.train.losses.soft_cross_entropy import soft_cross_entropy

Floats = npt.NDArray[np.float64]


def reference(logits: Floats, target: Floats) -> float:
    """Term by term, as written on the slide."""
    total = 0.0
    for z, p in zip(logits, target, strict=True):
        log_total = np.log(np.sum(np.exp(z)))
        total -= sum(p_l * (z_l - log_total) for z_l, p_l in zip(z, p, strict=True))
    return total / len(logits)


@pytest.fixture(params=[(1, 2), (5, 3), (7, 11)])
def example(request: pytest.FixtureRequest) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(request.param[0])
    return rng.normal(size=request.param) * 3, rng.dirichlet(
        np.full(request.param[1], 0.5), size=request.param[0]
    )


def test_value_matches_numpy(example: tuple[Floats, Floats]) -> None:
    logits, target = example
    loss = soft_cross_entropy(torch.from_numpy(logits), torch.from_numpy(target))
    assert float(loss) == pytest.approx(reference(logits, target), abs=1e-12)


def test_gradient_matches_finite_differences_and_its_formula(
    example: tuple[Floats, Floats],
) -> None:
    logits, target = example
    z = torch.from_numpy(logits).requires_grad_()
    soft_cross_entropy(z, torch.from_numpy(target)).backward()
    assert z.grad is not None
    for place in np.ndindex(logits.shape):
        up, down = logits.copy(), logits.copy()
        up[place] += 1e-5
        down[place] -= 1e-5
        slope = (reference(up, target) - reference(down, target)) / 2e-5
        assert float(z.grad[place]) == pytest.approx(slope, abs=1e-8)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(z.grad.numpy(), (softmax - target) / len(logits), atol=1e-14)


def test_a_shift_of_all_logits_changes_nothing(example: tuple[Floats, Floats]) -> None:
    logits, target = (torch.from_numpy(a) for a in example)
    shift = torch.linspace(-500, 500, len(logits), dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(
        soft_cross_entropy(logits + shift, target),
        soft_cross_entropy(logits, target),
        rtol=0,
        atol=1e-9,
    )


def test_never_below_the_entropy_and_equal_to_it_at_a_match(
    example: tuple[Floats, Floats],
) -> None:
    logits, target = (torch.from_numpy(a) for a in example)
    entropy = float(torch.special.entr(target).sum(dim=1).mean())
    assert float(soft_cross_entropy(logits, target)) >= entropy
    assert float(soft_cross_entropy(target.log(), target)) == pytest.approx(entropy, abs=1e-12)


def test_one_hot_targets_give_the_usual_cross_entropy() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0], [1000.0, 0.0, -1000.0]], dtype=torch.float64)
    gold = torch.tensor([1, 0])
    target = torch.nn.functional.one_hot(gold, 3).double()
    torch.testing.assert_close(
        soft_cross_entropy(logits, target), torch.nn.functional.cross_entropy(logits, gold)
    )
