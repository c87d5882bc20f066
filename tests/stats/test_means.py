"""Means of scores: agreement with the known score methods, coverage, level, edges."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overproof.stats.intervals import wilson_bounds
from overproof.stats.means import (
    compare_means,
    mean_interval,
    ratio_of_means,
    score_of_mean,
)
from overproof.stats.paired import score_statistic

Floats = npt.NDArray[np.float64]


@pytest.mark.parametrize(
    ("b", "c", "n", "delta"),
    [(0, 0, 30, -0.05), (3, 9, 40, -0.1), (5, 0, 20, 0.1), (2, 7, 25, 0.0), (6, 1, 12, -0.3)],
)
def test_it_is_tangos_statistic_for_pairs_of_zeros_and_ones(
    b: int, c: int, n: int, delta: float
) -> None:
    gaps = np.concatenate([np.ones(b), -np.ones(c), np.zeros(n - b - c)])
    found = score_of_mean(gaps, delta, -1.0, 1.0)
    assert found == pytest.approx(float(score_statistic(b, c, n, delta)), abs=1e-8)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (7, 10), (10, 10), (1, 50)])
def test_its_interval_is_wilsons_for_zeros_and_ones(k: int, n: int) -> None:
    values = np.concatenate([np.ones(k), np.zeros(n - k)])
    for at, sign in zip(wilson_bounds(k / n, n, 1.96), (1, -1), strict=True):
        if 0 < at < 1:
            assert score_of_mean(values, at, 0.0, 1.0) == pytest.approx(sign * 1.96, abs=1e-6)


def f1_like(rng: np.random.Generator, n: int) -> Floats:
    return rng.choice([0, 1 / 3, 0.5, 2 / 3, 0.8, 1], n, p=[0.05, 0.05, 0.1, 0.1, 0.2, 0.5])


def rare_loss(rng: np.random.Generator, n: int) -> Floats:
    return np.where(rng.random(n) < 0.04, -rng.uniform(0.3, 1.0, n), 0.0)


def nearly_right(rng: np.random.Generator, n: int) -> Floats:
    return rng.choice([0.01, 1.0], n, p=[0.05, 0.95])


F1_MEAN = float(np.dot([0, 1 / 3, 0.5, 2 / 3, 0.8, 1], [0.05, 0.05, 0.1, 0.1, 0.2, 0.5]))


@pytest.mark.parametrize(
    ("draw", "truth", "low"),
    [(f1_like, F1_MEAN, 0.0), (rare_loss, -0.026, -1.0), (nearly_right, 0.9505, 0.0)],
)
@pytest.mark.parametrize("n", [20, 60, 200])
def test_the_interval_covers(
    draw: Callable[[np.random.Generator, int], Floats], truth: float, low: float, n: int
) -> None:
    """One-sided errors at 5 % each, also where most figures are alike."""
    rng = np.random.default_rng(n)
    z = np.array([score_of_mean(draw(rng, n), truth, low, 1.0) for _ in range(500)])
    # Three standard errors of 500 runs at 5 % are 2.9 points; discreteness adds some.
    assert np.mean(z > 1.6449) < 0.085
    assert np.mean(z < -1.6449) < 0.085


def test_the_test_of_non_inferiority_keeps_its_level() -> None:
    """At a true loss of exactly the margin it says "non-inferior" in at most 5 % and some noise."""
    rng = np.random.default_rng(1)
    said = 0
    for _ in range(300):
        teacher = rng.choice([0.4, 0.8, 1.0], 50)
        loss = np.where(rng.random(50) < 0.25, 0.4, 0.0)
        found = compare_means(teacher - loss, teacher, margin=0.1, alpha=0.05)
        said += found.verdict == "non-inferior"
        assert (found.verdict == "non-inferior") == (found.p_value < 0.05)
    assert said / 300 < 0.09


def test_two_alike_are_told_apart_as_often_as_the_level_says() -> None:
    rng = np.random.default_rng(2)
    verdicts = [
        compare_means(f1_like(rng, 40), f1_like(rng, 40), margin=None, alpha=0.1).verdict
        for _ in range(300)
    ]
    differs = sum(verdict != "no difference shown" for verdict in verdicts)
    assert 0.04 < differs / 300 < 0.16


def test_the_ratio_covers() -> None:
    rng = np.random.default_rng(3)
    missed = 0
    for _ in range(200):
        teacher = (rng.random(60) < 0.6).astype(float)
        student = np.where(rng.random(60) < 0.8, teacher, rng.random(60))
        found = ratio_of_means(student, teacher)
        assert found is not None
        assert found.low <= found.estimate <= found.high
        missed += not found.low <= 0.58 / 0.6 <= found.high
    assert missed / 200 < 0.10


def test_a_ratio_to_nothing_is_none_and_one_to_little_is_wide() -> None:
    some = np.array([0.5, 0.2, 0.9, 0.4])
    assert ratio_of_means(some, np.zeros(4)) is None
    nothing = ratio_of_means(np.zeros(4), some)
    assert nothing is not None
    assert (nothing.estimate, nothing.low) == (0.0, 0.0)
    assert 0 < nothing.high < 5
    little = ratio_of_means(some, np.array([0.1, 0.0, 0.0, 0.0]))
    assert little is not None
    assert little.high > 5 * little.estimate
    assert math.isfinite(little.high)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1).map(lambda x: round(x, 3)), min_size=1, max_size=30),
    st.sampled_from([0.8, 0.95]),
)
def test_an_interval_holds_its_mean_and_stays_within_the_range(
    values: list[float], confidence: float
) -> None:
    found = mean_interval(np.array(values), confidence)
    assert 0 <= found.low <= found.estimate + 1e-9
    assert found.estimate - 1e-9 <= found.high <= 1
    assert found.high - found.low > 0.01  # so few figures never tell a mean exactly


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=25))
def test_interval_p_value_and_verdict_say_the_same(pairs: list[tuple[float, float]]) -> None:
    first, second = (np.round(np.array(side), 2) for side in zip(*pairs, strict=True))
    found = compare_means(first, second, margin=0.1, alpha=0.05)
    if abs(found.p_value - 0.05) > 1e-6:
        assert (found.p_value < 0.05) == (found.difference.low > -0.1)
    turned = compare_means(second, first, margin=None, alpha=0.05)
    straight = compare_means(first, second, margin=None, alpha=0.05)
    assert turned.difference.low == pytest.approx(-straight.difference.high, abs=1e-6)
    assert turned.p_value == pytest.approx(straight.p_value, abs=1e-6)


def test_what_is_no_score_is_refused() -> None:
    good = np.array([0.0, 1.0])
    for first, second in ((np.array([0.5]), good), (np.array([1.2, 0.0]), good)):
        with pytest.raises(ValueError, match=r"paired|outside"):
            compare_means(first, second, margin=0.1, alpha=0.05)
    with pytest.raises(ValueError, match="no test"):
        compare_means(good, good, margin=0.0, alpha=0.05)
    with pytest.raises(ValueError, match="not a list"):
        mean_interval(np.array([]))
    with pytest.raises(ValueError, match="outside"):
        mean_interval(np.array([math.nan]))
