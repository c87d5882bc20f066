"""Size and coverage are exact here: the sum over every possible table, not a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import gammaln, ndtri

from overproof.stats.paired import (
    mcnemar_exact,
    non_inferiority,
    paired_difference,
    partly_paired_non_inferiority,
    score_statistic,
)


def tables(n: int, first_only: float, second_only: float):
    """Every (b, c) with its probability under the trinomial."""
    b, c = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    inside = b + c <= n
    b, c = b[inside], c[inside]
    rest = n - b - c
    log_p = (
        gammaln(n + 1) - gammaln(b + 1) - gammaln(c + 1) - gammaln(rest + 1)
        + b * np.log(first_only) + c * np.log(second_only)
        + rest * np.log1p(-first_only - second_only)
    )  # fmt: skip
    return b, c, np.exp(log_p)


def pairs(first_only: int, second_only: int, both: int, neither: int):
    first = np.repeat([True, False, True, False], [first_only, second_only, both, neither])
    second = np.repeat([False, True, True, False], [first_only, second_only, both, neither])
    return first, second


@pytest.mark.parametrize("margin", [0.02, 0.05])
@pytest.mark.parametrize("discordance", [0.06, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("n", [100, 500])
def test_exact_size_at_the_margin(n: int, discordance: float, margin: float) -> None:
    b, c, p = tables(n, (discordance - margin) / 2, (discordance + margin) / 2)
    rejected = score_statistic(b, c, n, -margin) > ndtri(0.95)
    size = p[rejected].sum()
    assert size <= (0.0515 if n < 500 else 0.0505)
    assert size >= 0.03  # not bought with idleness


@pytest.mark.parametrize("difference", [-0.05, 0.0, 0.03])
@pytest.mark.parametrize("discordance", [0.1, 0.2, 0.3])
def test_exact_coverage_of_the_interval(discordance: float, difference: float) -> None:
    n = 500
    b, c, p = tables(n, (discordance + difference) / 2, (discordance - difference) / 2)
    covered = np.abs(score_statistic(b, c, n, difference)) <= ndtri(0.975)
    assert p[covered].sum() == pytest.approx(0.95, abs=0.004)


def test_simulated_size_and_coverage_through_the_whole_function() -> None:
    rng = np.random.default_rng(11)
    runs, n, margin = 600, 500, 0.05
    rejected = covered = 0
    for _ in range(runs):
        draw = rng.choice(4, size=n, p=[0.075, 0.125, 0.5, 0.3])
        first, second = np.isin(draw, [0, 2]), np.isin(draw, [1, 2])
        found = non_inferiority(first, second, margin, 0.05)
        rejected += found.verdict == "non-inferior"
        covered += found.difference.low <= -0.05 <= found.difference.high
    assert rejected / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
    assert abs(covered / runs - 0.9) <= 4 * (0.9 * 0.1 / runs) ** 0.5


@pytest.mark.parametrize(
    ("b", "c", "n", "delta"),
    [(12, 2, 50, 0.1), (0, 7, 40, -0.05), (9, 0, 30, 0.4), (3, 3, 20, -0.3)],
)
def test_the_variance_is_the_restricted_maximum_likelihood(
    b: int, c: int, n: int, delta: float
) -> None:
    def loss(q: float) -> float:
        terms = [b * np.log(q + delta) if b else 0.0, c * np.log(q) if c else 0.0]
        return -(sum(terms) + (n - b - c) * np.log(1 - 2 * q - delta))

    bounds = (max(0.0, -delta) + 1e-12, (1 - delta) / 2 - 1e-12)
    q = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    z = (b - c - n * delta) / np.sqrt(n * (2 * q + delta - delta**2))
    assert float(score_statistic(b, c, n, delta)) == pytest.approx(z, rel=1e-4)


def test_at_zero_it_is_mcnemar() -> None:
    assert float(score_statistic(15, 5, 100, 0.0)) == pytest.approx(10 / np.sqrt(20))


@pytest.mark.parametrize(
    ("b", "c", "n"), [(12, 2, 50), (0, 0, 50), (0, 9, 30), (50, 0, 50), (0, 50, 50), (1, 0, 1)]
)
def test_the_limits_solve_the_score_equation(b: int, c: int, n: int) -> None:
    found = paired_difference(b, c, n)
    assert -1 <= found.low <= found.estimate == (b - c) / n <= found.high <= 1
    mirrored = paired_difference(c, b, n)
    assert mirrored.low == pytest.approx(-found.high, abs=1e-8)
    z = ndtri(0.975)
    if found.low > -1:
        assert float(score_statistic(b, c, n, found.low)) == pytest.approx(z, abs=1e-5)
    if found.high < 1:
        assert float(score_statistic(b, c, n, found.high)) == pytest.approx(-z, abs=1e-5)


def test_p_value_and_limit_never_disagree() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        n = int(rng.integers(20, 400))
        b, c = rng.multinomial(n, [0.1, 0.13, 0.77])[:2]
        found = non_inferiority(*pairs(b, c, n - b - c, 0), 0.05, 0.05)
        assert (found.p_value < 0.05) == (found.difference.low > -0.05)
        assert (found.verdict == "non-inferior") == (found.p_value < 0.05)
        assert (found.first_only, found.second_only) == (b, c)
        seen.add(found.verdict)
    assert seen == {"non-inferior", "inferior", "inconclusive"}


def test_verdicts() -> None:
    better = non_inferiority(*pairs(60, 20, 300, 120), 0.05)
    assert (better.verdict, better.superior) == ("non-inferior", True)
    same = non_inferiority(*pairs(20, 20, 360, 100), 0.05)
    assert (same.verdict, same.superior) == ("non-inferior", False)
    worse = non_inferiority(*pairs(10, 90, 300, 100), 0.05)
    assert worse.verdict == "inferior"
    assert worse.p_value > 0.99
    assert non_inferiority(*pairs(5, 6, 20, 4), 0.05).verdict == "inconclusive"


def test_mcnemar_exact() -> None:
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(5, 5) == 1.0
    assert mcnemar_exact(0, 6) == pytest.approx(2 / 64)
    assert mcnemar_exact(9, 1) == mcnemar_exact(1, 9) == pytest.approx(22 / 1024)
    b = np.arange(41)
    weights = np.exp(gammaln(41) - gammaln(b + 1) - gammaln(41 - b)) / 2.0**40
    rejected = np.array([mcnemar_exact(int(k), 40 - int(k)) <= 0.05 for k in b])
    assert weights[rejected].sum() <= 0.05


def partly(first, second, known):
    return partly_paired_non_inferiority(first, second, known, 0.05, 0.05)


@pytest.mark.parametrize("copula", [-1.0, 0.0, 0.9])
def test_partly_paired_size_at_the_margin(copula: float) -> None:
    """First agrees on 75 %, second on 80 %: the margin of 5 points exactly."""
    rng = np.random.default_rng(3)
    runs, n, m = 1500, 500, 150
    known = np.arange(n) < m
    rejected = 0
    for _ in range(runs):
        u = rng.random(n)
        v = 1 - u if copula < 0 else np.where(rng.random(n) < copula, u, rng.random(n))
        found = partly(u < 0.75, v < 0.80, known)
        rejected += found.verdict == "non-inferior"
        assert (found.p_value < 0.05) == (found.verdict == "non-inferior")
    assert rejected / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_partly_paired_ignores_what_is_not_known() -> None:
    rng = np.random.default_rng(2)
    first, second, known = rng.random(200) < 0.8, rng.random(200) < 0.8, rng.random(200) < 0.4
    hidden = np.where(known, second, ~second)
    assert partly(first, second, known) == partly(first, hidden, known)
    assert partly(first, second, np.ones(200, bool)) == non_inferiority(first, second, 0.05, 0.05)
    with pytest.raises(ValueError, match="no input"):
        partly(first, second, np.zeros(200, bool))


def test_nonsense_is_refused() -> None:
    right = np.ones(5, bool)
    with pytest.raises(ValueError, match="margin"):
        non_inferiority(right, right, 0.0)
    with pytest.raises(ValueError, match="alpha"):
        non_inferiority(right, right, 0.1, 0.7)
    with pytest.raises(ValueError, match="not paired"):
        non_inferiority(right, right[:3], 0.1)
    with pytest.raises(ValueError, match="do not fit"):
        paired_difference(3, 3, 5)
