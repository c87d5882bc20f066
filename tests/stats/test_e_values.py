from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from overproof.stats.conformal import conformal_p
from overproof.stats.e_values import (
    average_e,
    conformal_e,
    mixture_calibrator,
    power_calibrator,
    rank_e,
    running_e,
    threshold_calibrator,
)


@pytest.mark.parametrize(
    "calibrate",
    [
        mixture_calibrator,
        power_calibrator,
        lambda p: power_calibrator(p, 0.1),
        lambda p: threshold_calibrator(p, 0.01),
    ],
)
def test_a_calibrator_falls_and_its_mean_is_one(calibrate: object) -> None:
    def at_log(h: float) -> float:  # p = exp(-h), so that the pole at 0 is no trouble
        return float(calibrate(np.exp(-h)) * np.exp(-h))  # type: ignore[operator]

    edges = [0, 1e-3, 1, np.log(100), 20, 100, 700]
    mass = sum(quad(at_log, a, b, limit=400)[0] for a, b in pairwise(edges))
    assert 0.998 <= mass <= 1 + 1e-6  # the mixture keeps 1/700 beyond the last edge
    grid = calibrate(np.linspace(1e-6, 1, 1001))  # type: ignore[operator]
    assert (np.diff(grid) <= 1e-9).all()


def test_known_values() -> None:
    assert mixture_calibrator([1.0, 0.9995, 0.999])[0] == pytest.approx(0.5)
    # Continuous where the closed form is left for its series.
    assert np.ptp(mixture_calibrator([0.9989, 0.99899, 0.9991, 0.9992])) < 1e-4
    assert np.isinf(mixture_calibrator(0.0))
    assert power_calibrator(0.01).item() == pytest.approx(5.0)
    for bad in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            mixture_calibrator(bad)


@pytest.mark.parametrize("steepness", [0.5, 1.0, 2.0, 50.0])
def test_rank_e_has_mean_one_and_is_bounded(steepness: float) -> None:
    n = 200
    values = [rank_e(k / (n + 1), n, steepness) for k in range(1, n + 2)]
    assert np.mean(values) == pytest.approx(1.0)
    assert max(values) <= n + 1
    assert max(values) == values[0]
    if steepness == 50.0:
        assert values[0] == pytest.approx(n + 1)
    assert rank_e(1.0, 0) == 1.0
    assert rank_e(1.5 / (n + 1), n) == rank_e(2 / (n + 1), n)  # between ranks the higher counts


def test_conformal_e_is_one_on_average_and_at_most_n_plus_one() -> None:
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=(20_000, 30)) ** 2
    found = [conformal_e(row[1:], row[:1])[0] for row in scores]
    assert np.mean(found) == pytest.approx(1.0, abs=4 * np.std(found) / np.sqrt(len(found)))
    assert conformal_e([0.0] * 9, [1.0])[0] == pytest.approx(10.0)
    assert conformal_e([0.0], [0.0])[0] == 1.0
    with pytest.raises(ValueError, match="not negative"):
        conformal_e([-1.0], [1.0])


def test_averages_are_e_values_under_any_dependence_and_products_are_not() -> None:
    rng = np.random.default_rng(1)
    averages, products = [], []
    for _ in range(6000):
        scores = rng.normal(size=200)
        e = rank_e(float(conformal_p(scores[1:], scores[:1])[0]), 199, 0.5)
        averages.append(average_e([e] * 8))  # eight copies of one look
        products.append(e**8)
    assert np.mean(averages) == pytest.approx(1.0, abs=0.05)
    assert np.mean(products) > 1000.0


def test_running_sums_end_in_the_average_and_alarm_no_more_often_than_it() -> None:
    assert running_e([4.0, None, 8.0], [0.25, 0.25, 0.5]) == [1.0, 1.0, 5.0]
    assert running_e([], [1.0]) == []
    with pytest.raises(ValueError, match="sum to 1"):
        running_e([1.0], [0.5])
    with pytest.raises(ValueError, match="weights must sum"):
        running_e([1.0, 1.0], [1.0])
    with pytest.raises(ValueError, match="e-value"):
        running_e([-1.0], [1.0])
    with pytest.raises(ValueError, match="not all zero"):
        average_e([1.0], [0.0])
