"""Which chats make a step, and how steps are cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overproof.errors import DataError
from overproof.train.lm.packing import (
    pieces_of,
    plan_prompts,
    plan_steps,
    rows_of,
    shared_out,
)

lengths_ = st.lists(st.integers(1, 60), min_size=1, max_size=40)


@settings(deadline=None)
@given(lengths_, st.integers(8, 200), st.integers(0, 3))
def test_every_epoch_has_every_chat_once(lengths: list[int], batch: int, seed: int) -> None:
    steps = plan_steps(lengths, batch_tokens=batch, epochs=2, max_tokens=None, seed=seed)
    seen = [chat for step in steps for chat in step.chats]
    assert sorted(seen[: len(lengths)]) == sorted(seen[len(lengths) :]) == [*range(len(lengths))]
    assert all(step.tokens == sum(lengths[i] for i in step.chats) > 0 for step in steps)
    assert max(step.tokens for step in steps) <= batch + max(lengths)


def test_steps_are_about_equal_and_shuffled_by_seed() -> None:
    lengths = [10] * 105
    steps = plan_steps(lengths, batch_tokens=100, epochs=2, max_tokens=None, seed=1)
    assert len(steps) == 22
    assert {step.tokens for step in steps} <= {90, 100}, "no small remainder"
    assert steps == plan_steps(lengths, batch_tokens=100, epochs=2, max_tokens=None, seed=1)
    assert steps != plan_steps(lengths, batch_tokens=100, epochs=2, max_tokens=None, seed=2)
    assert steps[0].chats != steps[11].chats, "every epoch has an order of its own"


def test_fractions_of_an_epoch_and_max_tokens() -> None:
    lengths = [7] * 100
    half = plan_steps(lengths, batch_tokens=70, epochs=1.5, max_tokens=None, seed=0)
    assert sum(step.tokens for step in half) == 150 * 7
    capped = plan_steps(lengths, batch_tokens=70, epochs=1.5, max_tokens=500, seed=0)
    assert sum(step.tokens for step in capped) == 497, "no more, and all that fits"
    assert [step.chats for step in capped[:-1]] == [step.chats for step in half[: len(capped) - 1]]
    assert len(plan_steps(lengths, batch_tokens=10**6, epochs=0.1, max_tokens=None, seed=0)) == 1
    with pytest.raises(DataError, match="max_tokens = 6"):
        plan_steps(lengths, batch_tokens=70, epochs=1, max_tokens=6, seed=0)
    with pytest.raises(DataError, match="there are none"):
        plan_steps([], batch_tokens=70, epochs=1, max_tokens=6, seed=0)


def test_prompts_of_an_on_policy_step() -> None:
    steps = plan_prompts([5] * 10, prompts=4, steps=6, seed=3)
    assert [len(step.chats) for step in steps] == [4] * 6
    seen = [i for step in steps for i in step.chats]
    assert sorted(seen[:10]) == sorted(seen[10:20]) == [*range(10)]
    assert [len(step.chats) for step in plan_prompts([5] * 3, prompts=8, steps=2, seed=3)] == [3, 3]


@settings(deadline=None)
@given(lengths_, st.integers(1, 80))
def test_rows_hold_every_chat_once(lengths: list[int], capacity: int) -> None:
    rows = rows_of(range(len(lengths)), lengths, capacity)
    assert sorted(i for row in rows for i in row) == [*range(len(lengths))]
    sizes = [sum(lengths[i] for i in row) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert all(size <= capacity or len(row) == 1 for size, row in zip(sizes, rows, strict=True))


def test_best_fit_fills_rows() -> None:
    lengths = [50, 30, 20, 70, 25, 5]
    assert [sorted(row) for row in rows_of(range(6), lengths, 100)] == [[1, 3], [0, 2, 4, 5]]


@settings(deadline=None)
@given(lengths_, st.integers(8, 300), st.booleans(), st.booleans())
def test_pieces_fit(lengths: list[int], micro: int, packing: bool, one_row: bool) -> None:
    pieces = pieces_of(
        range(len(lengths)), lengths, micro_tokens=micro, packing=packing, one_row=one_row
    )
    assert sorted(i for piece in pieces for row in piece for i in row) == [*range(len(lengths))]
    for piece in pieces:
        widths = [sum(lengths[i] for i in row) for row in piece]
        alone = len(piece) == len(piece[0]) == 1
        assert max(widths) * len(piece) <= micro or alone
        assert packing or all(len(row) == 1 for row in piece)
        assert not (packing and one_row) or len(piece) == 1


def test_packing_wastes_little() -> None:
    lengths = [37 + 61 * i % 211 for i in range(300)]
    used = sum(lengths)
    for packing, most in ((True, 1.02), (False, 1.12)):
        pieces = pieces_of(range(300), lengths, micro_tokens=2048, packing=packing)
        computed = sum(len(p) * max(sum(lengths[i] for i in row) for row in p) for p in pieces)
        assert computed / used < most


@settings(deadline=None)
@given(lengths_, st.integers(1, 5))
def test_processes_share_a_step(lengths: list[int], processes: int) -> None:
    shares = shared_out(range(len(lengths)), lengths, processes)
    assert len(shares) == processes
    assert sorted(i for share in shares for i in share) == [*range(len(lengths))]
    loads = [sum(lengths[i] for i in share) for share in shares]
    assert max(loads) - min(loads) <= max(lengths)
