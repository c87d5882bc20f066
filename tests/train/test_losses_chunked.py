"""Cut into chunks, a loss and its gradients are what they are in one piece."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from overproof.train.losses.chunked import chunked_sum
from overproof.train.losses.cross_entropy import cross_entropy
from overproof.train.losses.divergences import divergence
from overproof.train.losses.sparse import sparse_divergence

N, D, V = 37, 6, 29
Loss = Callable[[torch.Tensor, slice], torch.Tensor]
LOSSES = ("cross_entropy", "dense", "sparse")


def inputs(n: int = N, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = [(n, D), (V, D), (V,)]
    return [
        torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    ]


def loss_named(name: str, n: int = N) -> Loss:
    draw = torch.Generator().manual_seed(1)
    targets = torch.randint(V, (n,), generator=draw)
    teacher = torch.randn(n, V, generator=draw, dtype=torch.float64)
    logprobs, ids = teacher.log_softmax(dim=1).topk(5)
    tail = (1 - logprobs.exp().sum(dim=1)).log()
    if name == "cross_entropy":
        return lambda z, at: cross_entropy(z, targets[at])
    if name == "dense":
        return lambda z, at: divergence(z, teacher[at].to(z.dtype), "jensen_shannon", skew=0.3)
    return lambda z, at: (
        0.5 * sparse_divergence(z, ids[at], logprobs[at], tail[at], "forward_kl")
        + 0.5 * cross_entropy(z, targets[at])
    )


def whole(loss: Loss, tensors: list[torch.Tensor]) -> torch.Tensor:
    hidden, weight, bias = tensors
    return loss(hidden @ weight.t() + bias, slice(0, len(hidden))).sum()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("chunk", [1, 7, N, 1000, None])
def test_value_and_gradients(name: str, chunk: int | None) -> None:
    loss, mine, theirs = loss_named(name), inputs(), inputs()
    value = chunked_sum(loss, *mine, chunk=chunk)
    expected = whole(loss, theirs)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    (3 * value).backward()
    (3 * expected).backward()
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-11, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 14), st.tuples(st.booleans(), st.booleans(), st.booleans())
)
def test_whatever_length_chunk_and_gradients_wanted(
    n: int, chunk: int, wanted: tuple[bool, bool, bool]
) -> None:
    loss, mine, theirs = loss_named("dense", n), inputs(n), inputs(n)
    for tensors in (mine, theirs):
        for tensor, want in zip(tensors, wanted, strict=True):
            tensor.requires_grad_(want)
    value = chunked_sum(loss, *mine, chunk=chunk)
    torch.testing.assert_close(value, whole(loss, theirs), rtol=1e-12, atol=1e-12)
    assert value.requires_grad == any(wanted)
    if any(wanted):
        value.backward()
        whole(loss, theirs).backward()
    for a, b, want in zip(mine, theirs, wanted, strict=True):
        assert (a.grad is not None) == want
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-11, atol=1e-12)


def test_gradients_against_finite_differences() -> None:
    loss = loss_named("sparse")
    tensors = tuple(inputs())
    assert torch.autograd.gradcheck(
        lambda *given: chunked_sum(loss, *given, chunk=10), tensors, fast_mode=True
    )


def test_a_second_backward_through_a_retained_graph_gives_the_same() -> None:
    tensors = inputs()
    value = chunked_sum(loss_named("dense"), *tensors, chunk=8)
    first = torch.autograd.grad(value, tensors, retain_graph=True)
    second = torch.autograd.grad(2 * value, tensors)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(2 * a, b, rtol=1e-12, atol=1e-14)


def test_no_positions_are_a_zero_with_gradients_of_zero() -> None:
    tensors = inputs(0)
    value = chunked_sum(loss_named("cross_entropy", 0), *tensors)
    assert value.item() == 0
    value.backward()
    assert [tensor.grad.abs().sum().item() for tensor in tensors if tensor.grad is not None] == [
        0
    ] * 3


def test_without_gradients_only_the_value_is_computed() -> None:
    tensors = inputs()
    saw_gradients = []

    def loss(z: torch.Tensor, at: slice) -> torch.Tensor:
        saw_gradients.append(z.requires_grad)
        return loss_named("dense")(z, at)

    with torch.no_grad():
        value = chunked_sum(loss, *tensors, chunk=10)
    torch.testing.assert_close(value, whole(loss_named("dense"), inputs()).detach())
    assert not value.requires_grad
    assert saw_gradients == [False] * 4


def test_the_logits_of_all_positions_never_exist() -> None:
    """Neither is a chunk kept for the next one, nor for backward."""
    alive: list[weakref.ref[torch.Tensor]] = []

    def loss(z: torch.Tensor, at: slice) -> torch.Tensor:
        assert len(z) == at.stop - at.start <= 10
        assert not [one for one in alive if one() is not None]
        alive.append(weakref.ref(z))
        return cross_entropy(z, torch.zeros(len(z), dtype=torch.int64))

    value = chunked_sum(loss, *inputs(), chunk=10)
    assert len(alive) == 4
    assert not [one for one in alive if one() is not None]
    value.backward()


def test_the_default_chunk_is_16_mib_of_logits_on_a_cpu_and_64_rows_at_least() -> None:
    rows = []

    def loss(z: torch.Tensor, at: slice) -> torch.Tensor:
        rows.append(len(z))
        return z.sum(dim=1)

    chunked_sum(loss, torch.zeros(240, 1), torch.zeros(49_152, 1))
    assert rows == [80, 80, 80]  # at most 85
    rows.clear()
    chunked_sum(loss, torch.zeros(65, 1), torch.zeros(151_936, 1))
    assert rows == [33, 32]  # 27 would be 16 MiB, but 64 are allowed


@pytest.mark.parametrize("name", LOSSES)
def test_bfloat16_weights_get_gradients_added_up_in_float32(name: str) -> None:
    """A thousand small gradients added in bfloat16, with its eight bits, would stop growing."""
    n, draw = 600, torch.Generator().manual_seed(2)
    exact = [torch.randn(n, D, generator=draw), torch.randn(V, D, generator=draw)]
    half = [tensor.bfloat16().requires_grad_() for tensor in exact]
    double = [tensor.detach().double().requires_grad_() for tensor in half]
    value = chunked_sum(loss_named(name, n), *half, chunk=2)
    assert value.dtype == torch.float32
    value.backward()
    expected = loss_named(name, n)(double[0] @ double[1].t(), slice(0, n)).sum()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=2e-3, atol=0)
    for mine, theirs in zip(half, double, strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert mine.grad.dtype == torch.bfloat16
        error = (mine.grad.double() - theirs.grad).norm() / theirs.grad.norm()
        assert error < 8e-3


def test_under_autocast_the_products_are_bfloat16_and_the_loss_is_float32() -> None:
    tensors = inputs(dtype=torch.float32)
    expected = whole(loss_named("cross_entropy"), inputs(dtype=torch.float32))
    seen = []

    def loss(z: torch.Tensor, at: slice) -> torch.Tensor:
        seen.append(z.dtype)
        return loss_named("cross_entropy")(z, at)

    with torch.autocast("cpu", torch.bfloat16):
        value = chunked_sum(loss, *tensors, chunk=20)
    assert seen == [torch.float32] * 2
    assert value.item() != expected.item()
    torch.testing.assert_close(value, expected, rtol=5e-3, atol=0)
    value.backward(retain_graph=True)
    first = [tensor.grad.clone() for tensor in tensors if tensor.grad is not None]
    assert [gradient.dtype for gradient in first] == [torch.float32] * 3
    value.backward()  # computed again, outside of autocast, with the same products
    for tensor, gradient in zip(tensors, first, strict=True):
        torch.testing.assert_close(tensor.grad, 2 * gradient, rtol=1e-6, atol=1e-6)


def test_a_loss_that_is_not_one_number_a_position_is_refused() -> None:
    with pytest.raises(ValueError, match="37 positions has the shape"):
        chunked_sum(lambda z, _: z.sum(), *inputs())
    with pytest.raises(ValueError, match="chunk of 0"):
        chunked_sum(lambda z, _: z.sum(dim=1), *inputs(), chunk=0)
