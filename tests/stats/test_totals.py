from __future__ import annotations

import numpy as np
import pytest

from overproof.stats.totals import population_total

DRAWS = {
    "lengths of prompts": lambda rng, k: rng.lognormal(5, 0.5, k),
    "capped answers": lambda rng, k: np.minimum(rng.lognormal(5, 1, k), 1024),
    "answers and truncations": lambda rng, k: np.where(
        rng.random(k) < 0.1, 1024, 30 + rng.poisson(20, k)
    ),
}


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize("apart", [False, True])
def test_the_interval_covers_the_true_total_about_as_often_as_it_says(
    kind: str, apart: bool
) -> None:
    rng = np.random.default_rng(7)
    covered, runs, size, n = 0, 300, 1500, 64
    for _ in range(runs):
        population = DRAWS[kind](rng, size + n)
        sample, rest = population[:n], population[n:]
        total = population_total(
            sample, size, size if apart else size + n, rng, most=None if "len" in kind else 1024
        )
        assert total is not None
        assert total.high is not None
        true = rest.sum() if apart else population.sum()
        covered += total.low <= true <= total.high
    # 95 % claimed; three standard errors of 300 runs are 3.8 points.
    assert 0.91 <= covered / runs <= 0.995


def test_few_of_them_are_covered_where_they_are_symmetric() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(400):
        population = rng.normal(100, 20, 200)
        total = population_total(population[:6], 194, 200, rng)
        assert total is not None
        assert total.high is not None
        covered += total.low <= population.sum() <= total.high
    assert 0.92 <= covered / 400 <= 0.98


def test_a_sample_of_everything_is_exact() -> None:
    total = population_total(np.array([1.0, 2.0, 4.0]), 0, 3, np.random.default_rng(0))
    assert total == (7.0, 7.0, 7.0)


def test_edges() -> None:
    rng = np.random.default_rng(0)
    assert population_total(np.array([]), 5, 5, rng) is None
    assert population_total(np.array([]), 0, 0, rng) == (0.0, 0.0, 0.0)
    assert population_total(np.array([3.0]), 4, 5, rng) == (15.0, 3.0, None)
    assert population_total(np.array([3.0]), 4, 5, rng, most=10.0) == (15.0, 3.0, 43.0)
    same = population_total(np.full(30, 2.0), 70, 100, rng)
    assert same == (200.0, 200.0, 200.0)
    bounded = population_total(np.array([0.0] * 19 + [9.0]), 80, 100, rng, most=9.0)
    assert bounded is not None
    assert bounded.low >= 9.0
    assert bounded.high is not None
    assert bounded.high <= 9.0 * 80 + 9.0


def test_the_finite_population_narrows_it() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(50, 10, 64)
    small = population_total(values, 16, 80, rng)
    large = population_total(values, 7936, 8000, rng)
    assert small is not None
    assert large is not None
    assert small.high is not None
    assert large.high is not None
    assert (small.high - small.low) / small.estimate < (large.high - large.low) / large.estimate
