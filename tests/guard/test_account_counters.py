"""The small memories of an account: what they promise, measured."""

from __future__ import annotations

import math
import random
from array import array
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from overproof.guard.counters import (
    BottomK,
    bump,
    distinct,
    packed,
    ranked,
    unpacked,
    with_value,
)


def test_distinct_values_are_counted_exactly_below_sixteen() -> None:
    kept = b""
    for number in range(15):
        for _ in range(3):
            kept = with_value(kept, f"10.0.0.{number}")
        assert distinct(kept) == number + 1
    assert distinct(b"") == 0


def test_many_distinct_values_are_estimated_without_bias_within_the_stated_error() -> None:
    truth, errors = 300, []
    for seed in range(150):
        kept = b""
        for number in range(truth):
            kept = with_value(kept, f"{seed}/{number}")
        assert len(kept) == 64
        errors.append(distinct(kept) / truth - 1)
    mean = sum(errors) / len(errors)
    spread = math.sqrt(sum(error**2 for error in errors) / len(errors))
    # Beyer et al. 2007: unbiased, standard error 1/sqrt(14) = 0.267; 150 runs give ±0.022 of mean.
    assert abs(mean) < 0.07
    assert 0.2 < spread < 0.34


def test_distinct_values_do_not_depend_on_order_and_take_hostile_text() -> None:
    values = ["\ud800", "", "<b>", "x" * 100_000, *map(str, range(40))]
    forward = backward = b""
    for value in values:
        forward = with_value(forward, value)
    for value in reversed(values):
        backward = with_value(backward, value)
    assert forward == backward
    assert with_value(b"", 15169) == with_value(b"", "15169")


def test_anything_above_an_eighth_is_in_the_table_and_counts_are_lower_bounds() -> None:
    rng = random.Random(4)
    stream = [5 if rng.random() < 0.3 else 9 if rng.random() < 0.25 else rng.getrandbits(64) | 1
              for _ in range(5000)]  # fmt: skip
    truth = Counter(stream)
    cells = None
    for key in stream:
        cells = bump(cells, 2, key)
    table = ranked(cells, 2)
    assert list(table)[:2] == [5, 9]
    assert all(count <= truth[key] for key, count in table.items())
    # Both were there early, so hardly anything is lost (the error is what stood in their place).
    assert table[5] >= truth[5] - 10
    assert table[9] >= truth[9] - 10
    assert ranked(cells, 0) == ranked(cells, 1) == ranked(cells, 3) == {}


def test_a_stream_of_things_all_different_has_no_favourite() -> None:
    cells = None
    for key in range(1, 3000):
        cells = bump(cells, 0, key)
    assert set(ranked(cells, 0).values()) == {1}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 8)), max_size=200))
def test_eight_keys_or_fewer_are_counted_exactly_in_four_tables(
    stream: list[tuple[int, int]],
) -> None:
    cells = None
    for table, key in stream:
        cells = bump(cells, table, key)
    for table in range(4):
        assert ranked(cells, table) == Counter(key for at, key in stream if at == table)


def test_a_table_survives_keys_outside_64_bits() -> None:
    cells = None
    for key in [-1, 1 << 64, 1 << 70, *range(100, 120)] * 3:
        cells = bump(cells, 0, key)
    assert len(ranked(cells, 0)) <= 8


def test_the_turns_kept_are_the_smallest_with_exact_counts() -> None:
    rng = random.Random(1)
    pool = [rng.getrandbits(64) for _ in range(400)]
    stream = [rng.choice(pool) for _ in range(3000)]
    turns = BottomK()
    for key in stream:
        turns.add(key)
    truth = Counter(stream)
    smallest = sorted(truth)[:32]
    assert dict(turns.items()) == {key: truth[key] for key in smallest}
    assert abs(turns.distinct() / len(truth) - 1) < 0.6


def test_distinct_turns_are_estimated_within_the_stated_error() -> None:
    rng = random.Random(2)
    errors = []
    for _ in range(200):
        turns = BottomK()
        for _ in range(500):
            turns.add(rng.getrandbits(64))
        errors.append(turns.distinct() / 500 - 1)
    spread = math.sqrt(sum(error**2 for error in errors) / len(errors))
    assert abs(sum(errors) / len(errors)) < 0.05
    assert 0.13 < spread < 0.24  # 1/sqrt(30) = 0.18


def test_repetition_is_that_of_the_median_turn() -> None:
    turns = BottomK()
    assert turns.repetition() == 0
    for key in range(1, 10):
        for _ in range(4):
            turns.add(key)
    for _ in range(1000):  # "continue", all day long
        turns.add(77)
    assert turns.repetition() == 4
    assert max(turns.counts) == 255


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_arrays_survive_packing(values: list[int]) -> None:
    assert unpacked("Q", packed(array("Q", values))) == array("Q", values)
    assert packed(array("Q", [1])) == b"\x01" + bytes(7)


def test_novelty_is_exact_without_repeats_and_sees_a_turn_outside_the_sample() -> None:
    rng = random.Random(3)
    fresh, chatty, twice = BottomK(), BottomK(), BottomK()
    for number in range(600):
        key = rng.getrandbits(64)
        fresh.add(key)
        twice.add(key)
        twice.add(key)
        chatty.add(key if number % 4 == 0 else 2**64 - 1)
    assert fresh.novelty(600) == 1
    assert twice.novelty(1200) == 0.5
    assert 0.15 < chatty.novelty(600) < 0.4
    assert BottomK().novelty(5) == 0
