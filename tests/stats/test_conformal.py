from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from overproof.stats.conformal import conformal_p, p_floor, rank_p, realised_rate, split_by_group


def test_a_p_value_is_a_rank() -> None:
    found = conformal_p([1.0, 2.0, 3.0], [0.0, 1.0, 2.5, 3.0, 9.0])
    assert found.tolist() == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert p_floor(3) == 0.25 == rank_p(0, 3)
    assert conformal_p([], [5.0]).tolist() == [1.0]


def test_weights_count_as_so_many_subjects() -> None:
    repeated = conformal_p([1.0, 2.0, 2.0, 2.0], [2.0, 3.0])
    assert conformal_p([1.0, 2.0], [2.0, 3.0], weights_n=[1.0, 3.0]) == pytest.approx(repeated)
    with pytest.raises(ValueError, match="weights"):
        conformal_p([1.0], [1.0], weights_n=[-1.0])


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        conformal_p([1.0, np.nan], [1.0])
    with pytest.raises(ValueError, match="not a number"):
        conformal_p([1.0], [np.nan])


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_conservative_with_ties_and_uniform_when_they_are_broken(digits: int) -> None:
    rng = np.random.default_rng(digits)
    plain, broken = [], []
    for _ in range(4000):
        scores = np.round(rng.normal(size=40), digits)
        plain.append(conformal_p(scores[1:], scores[:1])[0])
        broken.append(conformal_p(scores[1:], scores[:1], rng=rng)[0])
    for alpha in (0.025, 0.05, 0.1, 0.5):
        spread = 4 * np.sqrt(alpha * (1 - alpha) / 4000)
        assert np.mean(np.array(plain) <= alpha + 1e-12) <= alpha + spread
    assert kstest(broken, "uniform").pvalue > 1e-3
    assert min(plain) >= p_floor(39) - 1e-12


def test_realised_rates_of_frozen_sets_are_beta_distributed() -> None:
    rng = np.random.default_rng(5)
    mean, low, high = realised_rate(999, 0.01)
    # A normal score's true rate above a threshold is known, so that each set's rate is exact.
    from scipy.stats import norm

    rates = []
    for _ in range(1500):
        calibration = np.sort(rng.normal(size=999))
        rates.append(norm.sf(calibration[-10]))  # p <= .01 means above all but nine
    assert np.mean(rates) == pytest.approx(mean, rel=0.05)
    assert np.quantile(rates, [0.025, 0.975]) == pytest.approx([low, high], rel=0.12)
    assert realised_rate(100, 0.001) == (0.0, 0.0, 0.0)
    assert realised_rate(1, 1.0) == (1.0, 1.0, 1.0)


def test_one_of_each_group_is_exchangeable_with_a_new_group() -> None:
    rng = np.random.default_rng(2)
    whole, drawn = [], []
    for _ in range(1500):
        sizes = np.where(rng.random(61) < 0.2, 60, 2)
        # Large organisations are calm: with their many accounts a small one looks strange.
        level = np.where(sizes > 2, -3.0, 0.0) + rng.normal(size=61)
        groups = np.repeat(np.arange(60), sizes[:60])
        scores = level[groups] + 0.3 * rng.normal(size=len(groups))
        new = [level[60] + 0.3 * rng.normal()]
        whole.append(conformal_p(scores, new)[0])
        drawn.append(conformal_p(scores[split_by_group(groups, rng)], new)[0])
    assert np.mean(np.array(whole) <= 0.05) > 0.08
    assert np.mean(np.array(drawn) <= 0.05) < 0.065
