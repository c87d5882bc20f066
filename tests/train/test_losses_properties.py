"""What every loss must do, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from overproof.train.losses.cross_entropy import cross_entropy
from overproof.train.losses.divergences import divergence
from overproof.train.losses.sparse import sparse_divergence

KINDS = ("forward_kl", "reverse_kl", "jensen_shannon", "skew_kl", "skew_reverse_kl")
PADDED = float("-inf")

kinds = st.sampled_from(KINDS)
skews = st.floats(0.05, 0.95)
temperatures = st.sampled_from([0.5, 1.0, 3.0])


@st.composite
def pairs(draw: st.DrawFn, most: float = 15.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of a student and a teacher, float64, some of them of the same padded entries."""
    positions, vocabulary = draw(st.integers(1, 4)), draw(st.integers(2, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.floats(0.01, most))
    student, teacher = rng.normal(size=(2, positions, vocabulary)) * scale
    if vocabulary > 3 and draw(st.booleans()):
        student[:, -2:] = teacher[:, -2:] = PADDED
    return torch.from_numpy(student), torch.from_numpy(teacher)


def known(teacher: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The k likeliest tokens and the log-mass of the others, as a store holds them."""
    logprobs, order = teacher.log_softmax(dim=1).sort(dim=1, descending=True)
    kept, ids, others = logprobs[:, :k], order[:, :k], logprobs[:, k:]
    ids = torch.where(kept == PADDED, 0, ids).to(torch.int32)
    tail = others.logsumexp(dim=1) if others.shape[1] else torch.full((len(teacher),), PADDED)
    return ids, kept, tail.double()


@settings(max_examples=80, deadline=None)
@given(pairs(), kinds, temperatures, skews)
def test_never_negative_and_zero_at_equality(
    pair: tuple[torch.Tensor, torch.Tensor], kind: str, temperature: float, skew: float
) -> None:
    student, teacher = pair
    setting = {"temperature": temperature, "skew": skew}
    assert (divergence(student, teacher, kind, **setting) >= -1e-12).all()
    same = teacher.clone().requires_grad_()
    values = divergence(same, teacher, kind, **setting)
    values.sum().backward()
    assert values.abs().max() < 1e-12
    assert same.grad is not None
    assert same.grad.abs().max() < 1e-12


@settings(max_examples=80, deadline=None)
@given(pairs(), kinds, temperatures, st.floats(-500, 500), st.floats(-500, 500))
def test_a_shift_of_logits_changes_nothing(
    pair: tuple[torch.Tensor, torch.Tensor], kind: str, temperature: float, a: float, b: float
) -> None:
    student, teacher = pair
    z, moved = student.clone().requires_grad_(), (student + a).requires_grad_()
    one = divergence(z, teacher, kind, temperature=temperature)
    other = divergence(moved, teacher + b, kind, temperature=temperature)
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    one.sum().backward()
    other.sum().backward()
    torch.testing.assert_close(z.grad, moved.grad, rtol=1e-8, atol=1e-9)
    assert z.grad is not None
    assert z.grad.sum(dim=1).abs().max() < 1e-9  # the same said of the gradient
    targets = torch.zeros(len(student), dtype=torch.int64)
    torch.testing.assert_close(
        cross_entropy(student, targets), cross_entropy(student + a, targets), rtol=1e-9, atol=1e-9
    )


@settings(max_examples=80, deadline=None)
@given(pairs(), kinds, skews, st.data())
def test_sparse_is_never_more_than_dense(
    pair: tuple[torch.Tensor, torch.Tensor], kind: str, skew: float, data: st.DataObject
) -> None:
    student, teacher = pair
    k = data.draw(st.integers(1, student.shape[1]))
    dense = divergence(student, teacher, kind, skew=skew)
    sparse = sparse_divergence(student, *known(teacher, k), kind, skew=skew)
    assert (sparse >= -1e-12).all()
    assert (sparse <= dense * (1 + 1e-9) + 1e-11).all()


@settings(max_examples=80, deadline=None)
@given(pairs(), kinds, temperatures, skews)
def test_sparse_is_dense_when_every_token_is_known(
    pair: tuple[torch.Tensor, torch.Tensor], kind: str, temperature: float, skew: float
) -> None:
    student, teacher = pair
    setting = {"temperature": temperature, "skew": skew}
    a, b = student.clone().requires_grad_(), student.clone().requires_grad_()
    dense = divergence(a, teacher, kind, **setting)
    sparse = sparse_divergence(b, *known(teacher, student.shape[1]), kind, **setting)
    torch.testing.assert_close(sparse, dense, rtol=1e-9, atol=1e-11)
    dense.sum().backward()
    sparse.sum().backward()
    torch.testing.assert_close(b.grad, a.grad, rtol=1e-8, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(pairs(), kinds, st.integers(1, 3))
def test_sparse_is_zero_where_the_student_is_the_teacher(
    pair: tuple[torch.Tensor, torch.Tensor], kind: str, k: int
) -> None:
    _, teacher = pair
    student = teacher.clone().requires_grad_()
    values = sparse_divergence(student, *known(teacher, min(k, teacher.shape[1])), kind)
    values.sum().backward()
    assert values.abs().max() < 1e-11
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-11


@pytest.mark.parametrize("kind", KINDS)
def test_more_tokens_known_never_make_the_bound_worse(kind: str) -> None:
    rng = np.random.default_rng(0)
    student, teacher = (torch.from_numpy(rng.normal(size=(3, 20)) * 3) for _ in range(2))
    bounds = torch.stack(
        [sparse_divergence(student, *known(teacher, k), kind) for k in range(1, 21)]
    )
    assert (bounds.diff(dim=0) >= -1e-12).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_have_finite_values_and_gradients(kind: str, dtype: torch.dtype) -> None:
    rows = [
        ([1e4, -1e4, 0.0, PADDED], [-1e4, 1e4, 0.0, PADDED]),
        ([1e4, 1e4, 1e4, PADDED], [0.0, -1e4, -1e4, PADDED]),
        ([-1e4, -1e4, -1e4, PADDED], [-1e4, 0.0, 1e-4, PADDED]),
        ([0.0, -200.0, -200.0, PADDED], [-200.0, 0.0, -200.0, PADDED]),
        ([0.0, PADDED, PADDED, PADDED], [0.0, PADDED, PADDED, PADDED]),
    ]
    student, teacher = (torch.tensor(side, dtype=dtype) for side in zip(*rows, strict=True))
    ids, kept, tail = known(teacher, 2)
    for loss in (
        lambda z: divergence(z, teacher, kind),
        lambda z: sparse_divergence(z, ids, kept, tail, kind),
        lambda z: cross_entropy(z, torch.tensor([1, 0, 2, 1, 0])),
    ):
        z = student.clone().requires_grad_()
        values = loss(z)
        values.sum().backward()
        assert values.isfinite().all()
        assert z.grad is not None
        assert z.grad.isfinite().all()
    forward = divergence(student, teacher, "forward_kl")
    torch.testing.assert_close(forward[0], torch.tensor(2e4, dtype=dtype))


def test_mass_on_an_entry_that_the_other_excludes_is_infinitely_far_and_never_nan() -> None:
    full, cut = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, PADDED]])
    assert divergence(full, cut, "reverse_kl").item() == float("inf")
    assert divergence(cut, full, "forward_kl").item() == float("inf")
    third = float(np.log(3 / 2))
    assert divergence(full, cut, "forward_kl").item() == pytest.approx(third)
    assert divergence(cut, full, "reverse_kl").item() == pytest.approx(third)
    for kind in ("jensen_shannon", "skew_kl", "skew_reverse_kl"):
        for student, teacher in ((full, cut), (cut, full)):
            z = student.clone().requires_grad_()
            values = divergence(z, teacher, kind)
            values.sum().backward()
            assert values.isfinite().all()
            assert z.grad is not None
            assert z.grad.isfinite().all()


def test_a_teacher_without_a_tail_leaves_reverse_kl_finite() -> None:
    student = torch.zeros(1, 5).requires_grad_()
    ids, logprobs = torch.tensor([[3, 1]]), torch.tensor([[0.7, 0.3]]).log()
    values = sparse_divergence(student, ids, logprobs, torch.tensor([PADDED]), "reverse_kl")
    values.sum().backward()
    assert 0 < values.item() < 16
    assert student.grad is not None
    assert (student.grad[0, [0, 2, 4]] > 0).all()  # away from what the teacher never says
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_position_of_which_nothing_is_known_counts_nothing(kind: str) -> None:
    """Also where the caller puts something else in its place: no NaN comes back through it."""
    student = torch.tensor([[0.3, -1.0, 2.0], [0.1, 0.2, 0.3]]).requires_grad_()
    logprobs = torch.tensor([[0.0, 0.0], [0.6, 0.3]]).log()
    tail = torch.tensor([PADDED, float(np.log(0.1))])
    values = sparse_divergence(student, torch.tensor([[0, 0], [2, 1]]), logprobs, tail, kind)
    assert values[0].item() == 0
    assert values[1].item() > 0
    torch.where(torch.tensor([False, True]), values, 0.0).sum().backward()
    assert student.grad is not None
    assert student.grad[0].tolist() == [0, 0, 0]
    assert student.grad.isfinite().all()


def test_rounding_in_a_store_does_no_harm() -> None:
    """Atoms that add up to 1.02 give what they give when scaled to one."""
    student = torch.tensor([[0.3, -1.0, 2.0, 0.1]], dtype=torch.float64)
    ids, share = torch.tensor([[2, 0]]), torch.tensor([[0.62, 0.3]], dtype=torch.float64)
    tail = torch.tensor([0.1], dtype=torch.float64)
    rounded = sparse_divergence(student, ids, share.log(), tail.log(), "forward_kl")
    scaled = sparse_divergence(
        student, ids, (share / 1.02).log(), (tail / 1.02).log(), "forward_kl"
    )
    torch.testing.assert_close(rounded, scaled)


def test_the_bucket_has_correct_digits_where_one_minus_the_rest_has_none() -> None:
    """A tail of 1e-9, in float32: the difference of one and the kept mass would be 0 or 6e-8."""
    logits = torch.tensor([[30.0, 30.0 + np.log(1e-9)]], dtype=torch.float32).requires_grad_()
    teacher_tail = torch.tensor([0.5]).log()
    value = sparse_divergence(
        logits, torch.tensor([[0]]), torch.tensor([[0.5]]).log(), teacher_tail, "forward_kl"
    )
    expected = 0.5 * np.log(0.5) + 0.5 * (np.log(0.5) - np.log(1e-9))
    assert value.item() == pytest.approx(expected, rel=1e-5)
    value.sum().backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([0.5, -0.5], rel=1e-5)
