from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from overproof.stats.intervals import (
    Estimate,
    bootstrap_counts,
    bootstrap_rows,
    clopper_pearson,
    ratio_bootstrap,
    wilson,
)


def exact_coverage(interval, n: int, share: float) -> float:
    """Probability, over all k, that the interval of k holds the true share."""
    return sum(
        float(binom.pmf(k, n, share))
        for k in range(n + 1)
        if interval(k, n).low <= share <= interval(k, n).high
    )


def test_wilson_against_newcombe_1998_table_1() -> None:
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert (wilson(0, 20).low, round(wilson(0, 20).high, 4)) == (0.0, 0.1611)
    assert (round(wilson(29, 29).low, 4), wilson(29, 29).high) == (0.8830, 1.0)


def test_clopper_pearson_against_newcombe_1998_table_1() -> None:
    found = clopper_pearson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2527, 0.3676)
    assert clopper_pearson(0, 20).low == 0.0
    assert clopper_pearson(20, 20).high == 1.0


@pytest.mark.parametrize("share", [0.03, 0.2, 0.5, 0.83])
@pytest.mark.parametrize("n", [50, 300])
def test_exact_coverage(n: int, share: float) -> None:
    assert exact_coverage(clopper_pearson, n, share) >= 0.95
    assert 0.93 <= exact_coverage(wilson, n, share) <= 0.985


def test_no_share_of_nothing() -> None:
    for bad in ((0, 0), (-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="no share"):
            wilson(*bad)
        with pytest.raises(ValueError, match="no share"):
            clopper_pearson(*bad)
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, 1.0)


def mean_of(values: np.ndarray, **options) -> Estimate:
    return bootstrap_rows(lambda rows: values[rows].mean(axis=1), len(values), **options)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_bootstrap_coverage_of_a_mean(method: str) -> None:
    rng = np.random.default_rng(5)
    runs, hits = 300, 0
    for seed in range(runs):
        found = mean_of(rng.normal(size=120), resamples=400, seed=seed, method=method)
        hits += found.low <= 0.0 <= found.high
    # Four binomial standard errors at 95 %, and one point for the bootstrap's own approximation.
    assert abs(hits / runs - 0.95) < 4 * (0.95 * 0.05 / runs) ** 0.5 + 0.01


def test_bca_corrects_bias_that_percentiles_keep() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=60)

    def spread(rows: np.ndarray) -> np.ndarray:
        return values[rows].std(axis=1)  # biased downwards in resamples

    percentile = bootstrap_rows(spread, 60, seed=2, method="percentile")
    bca = bootstrap_rows(spread, 60, seed=2, method="bca")
    assert bca.low > percentile.low
    assert bca.high > percentile.high


def test_bca_agrees_with_scipy() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(3).exponential(size=80)
    ours = mean_of(values, resamples=20_000, seed=1)
    theirs = bootstrap(
        (values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)


def test_counts_and_rows_draw_from_one_distribution() -> None:
    cells = np.random.default_rng(0).integers(0, 3, size=200)
    counts = np.bincount(cells, minlength=3)
    for method in ("percentile", "bca"):
        by_rows = bootstrap_rows(
            lambda rows: (cells[rows] == 1).mean(axis=1), 200, resamples=8000, method=method
        )
        by_counts = bootstrap_counts(
            lambda c: c[:, 1] / c.sum(axis=1), counts, resamples=8000, method=method
        )
        assert by_counts.estimate == by_rows.estimate
        assert by_counts.low == pytest.approx(by_rows.low, abs=0.011)
        assert by_counts.high == pytest.approx(by_rows.high, abs=0.011)


def test_bootstrap_is_reproducible_and_needs_two_rows() -> None:
    values = np.arange(30.0)
    assert mean_of(values, seed=4) == mean_of(values, seed=4)
    assert mean_of(values, seed=4) != mean_of(values, seed=5)
    constant = mean_of(np.ones(10))
    assert (constant.low, constant.high) == (1.0, 1.0)
    with pytest.raises(ValueError, match="two rows"):
        mean_of(np.ones(1))
    with pytest.raises(ValueError, match="two rows"):
        bootstrap_counts(lambda c: c[:, 0] * 1.0, np.array([1, 0]))


def test_a_ratio_is_resampled_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    top, bottom = rng.random(40), 1 + rng.random(40)
    whole = ratio_bootstrap(top, bottom, seed=[1, 2])
    by_counts = bootstrap_counts(
        lambda c: (c @ top) / (c @ bottom), np.ones(40, dtype=np.int64), seed=7, method="percentile"
    )
    assert whole.estimate == pytest.approx(by_counts.estimate)
    assert ratio_bootstrap(top, bottom, seed=7).low == pytest.approx(by_counts.low)
    assert ratio_bootstrap(top, bottom, seed=7).high == pytest.approx(by_counts.high)
    monkeypatch.setattr("overproof.stats.intervals._CELLS", 400)
    assert ratio_bootstrap(top, bottom, seed=[1, 2]).low == pytest.approx(whole.low)
    alone = ratio_bootstrap([1.0], [2.0])
    assert alone.estimate == 0.5
    assert np.isnan([alone.low, alone.high]).all()
