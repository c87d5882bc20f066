from __future__ import annotations

import itertools

import numpy as np
import pytest

from overproof.stats.distances_in_time import Series, smallest_p, trend_p_value


def series_of(answers: list[int], *values: float) -> Series:
    """Answers to one question, the first two at once, then one a round."""
    said = np.array(answers)
    kinds = [(said[:, None] != said[None, :]).astype(float)]
    if values:
        number = np.array(values)
        kinds.append(np.abs(number[:, None] - number[None, :]))
    times = np.array([0.0, *range(len(answers) - 1)])
    return Series(times, np.array(kinds))


def test_answers_that_never_differ_tell_of_no_change() -> None:
    assert trend_p_value([series_of([1] * 8) for _ in range(4)]) == 1.0
    assert trend_p_value([]) == 1.0


def test_the_p_value_is_that_of_all_orders() -> None:
    for answers in ([0, 0, 0, 1, 1], [0, 1, 0, 1, 1], [0, 0, 1, 0, 2]):
        one = series_of(answers)
        apart = np.abs(one.times[:, None] - one.times[None, :])

        def total(order: tuple[int, ...], one: Series = one, apart: np.ndarray = apart) -> float:
            return float((one.distances[0][np.ix_(order, order)] * apart).sum())

        orders = list(itertools.permutations(range(5)))
        exact = np.mean([total(order) >= total((0, 1, 2, 3, 4)) - 1e-9 for order in orders])
        assert trend_p_value([one], draws=20_000) == pytest.approx(exact, abs=0.015)


def test_one_change_for_good_gives_the_floor() -> None:
    for rounds, questions in ((1, 2), (2, 2), (3, 3)):
        n = rounds + 2
        times = [0.0, *range(n - 1)]
        floor = smallest_p([float(t) for t in times], questions, draws=20_000)
        found = min(
            trend_p_value([series_of([0] * k + [1] * (n - k))] * questions, draws=20_000)
            for k in range(1, n)
        )
        assert found == pytest.approx(floor, abs=0.006)


def test_the_floor_of_few_answers_is_high() -> None:
    assert smallest_p([0.0], 4) == 1.0
    assert smallest_p([0.0, 0.0, 1.0], 0) == 1.0
    assert smallest_p([0.0, 0.0, 1.0], 1) == pytest.approx(1 / 3)
    assert smallest_p([0.0, 0.0, 1.0], 4) == pytest.approx(1 / 81)
    assert smallest_p([0.0, 0.0, 1.0, 2.0], 1) == pytest.approx(1 / 4)
    assert smallest_p([float(t) for t in range(100)], 4, draws=999) == pytest.approx(1 / 1000)


def test_kinds_must_agree() -> None:
    with pytest.raises(ValueError, match="kinds"):
        trend_p_value([series_of([0, 1, 1]), series_of([0, 1, 1], 0.1, 0.2, 0.3)])


def p_values(rng: np.random.Generator, runs: int, shift: float = 0.0) -> np.ndarray:
    """P-values of simulated runs: 4 questions, 7 askings each.

    Every question scatters in its own way: its text comes from three, the first one usually, and
    a number wobbles around its own mean. From the fifth asking on, a share ``shift`` of the
    answers says something new.
    """
    found = []
    for run in range(runs):
        all_series = []
        for _ in range(4):
            said = rng.choice(3, size=7, p=rng.dirichlet([6.0, 1.0, 1.0]))
            number = rng.normal(rng.normal(), rng.gamma(1.0), size=7)
            said[4:] += 3 * (rng.random(3) < shift)
            all_series.append(series_of([int(s) for s in said], *number))
        found.append(trend_p_value(all_series, draws=199, seed=run))
    return np.array(found)


def test_scatter_alone_is_called_a_change_as_often_as_stated() -> None:
    runs = 600
    found = p_values(np.random.default_rng(1), runs)
    for level in (0.01, 0.05, 0.2, 0.5):
        share = np.mean(found <= level)
        assert abs(share - level) <= 3.5 * np.sqrt(level * (1 - level) / runs)


def test_a_change_is_found_the_sooner_the_larger_it_is() -> None:
    small, large = (
        np.mean(p_values(np.random.default_rng(2), 60, shift) <= 0.01) for shift in (0.5, 1.0)
    )
    assert large > 0.6
    assert large > small
