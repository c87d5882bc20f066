"""Realised against nominal error rates, in simulations that know the truth.

Honest accounts differ persistently (half of a signal's variance is the account's own) and signals
are correlated (.6), as docs/guard.md says honest traffic does.
"""

from __future__ import annotations

import numpy as np
import pytest
from guard_accounts import calibrated, look_p, plain_scorer, signals_of, trajectory_p
from scipy.stats import binom

from overproof.stats.conformal import conformal_p
from overproof.stats.e_values import rank_e
from overproof.stats.multiple import benjamini_hochberg

SIGNALS = 8
SCORER = plain_scorer(SIGNALS)
FEW = plain_scorer(2)  # where it is the looks that matter


def e_of(p: np.ndarray, n: float, steepness: float) -> np.ndarray:
    """`rank_e` of every conformal p-value of an array."""
    table = np.array([rank_e(k / (n + 1), n, steepness) for k in range(1, int(n) + 2)])
    return table[np.rint(p * (n + 1)).astype(int) - 1]


def within(flagged: int, of: int, rate: float) -> bool:
    """Is so many of so many compatible with a rate of at most ``rate`` (one in 10,000 aside)?"""
    return flagged <= binom.ppf(1 - 1e-4, of, rate)


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_e_of_honest_trajectories_is_at_most_one_on_average(share: float) -> None:
    rng = np.random.default_rng(int(share * 100))
    means = []
    for _ in range(30):
        pool = calibrated(signals_of(rng, 250, share=share, signals=2), FEW)
        new = signals_of(rng, 400, share=share, signals=2).sum(axis=2)
        n = pool.p_value(0, None, 0.0).n
        running = np.cumsum(e_of(look_p(pool, new), n, 1.0), axis=1) / new.shape[1]
        assert (np.diff(running, axis=1) >= 0).all()
        means.append(running[:, -1].mean())
    assert np.mean(means) <= 1.0 + 4 * np.std(means) / np.sqrt(len(means))
    assert np.mean(means) > 0.8


def test_realised_false_positives_over_all_looks_together() -> None:
    rng = np.random.default_rng(10)
    flagged, of = {0.05: 0, 0.01: 0, 0.003: 0}, 0
    for _ in range(25):
        pool = calibrated(signals_of(rng, 800, signals=2), FEW)
        p = trajectory_p(pool, signals_of(rng, 800, signals=2).sum(axis=2))
        assert (np.diff(p, axis=1) <= 0).all()
        of += len(p)
        for alpha in flagged:
            flagged[alpha] += int((p <= alpha).any(axis=1).sum())
    # Calibration sets vary too (Beta): half as much again in the spread is on the safe side.
    for alpha, count in flagged.items():
        spread = 4 * np.sqrt(alpha * of * (1 + 800 / 720))
        assert count <= alpha * of + spread, (alpha, count / of)
    assert flagged[0.05] > 0.04 * of  # valid because it is right, not because it is blind


def test_looking_seven_times_at_a_per_look_p_value_would_not_do() -> None:
    rng = np.random.default_rng(11)
    pool = calibrated(signals_of(rng, 4000), SCORER)
    p = look_p(pool, signals_of(rng, 4000).sum(axis=2))
    assert (p <= 0.01).any(axis=1).mean() > 0.03


def test_duplicated_signals_change_nothing() -> None:
    rng = np.random.default_rng(12)
    x, new = signals_of(rng, 600), signals_of(rng, 600)
    doubled = plain_scorer(4 * SIGNALS)
    once = trajectory_p(calibrated(x, SCORER), new.sum(axis=2))
    many = trajectory_p(
        calibrated(np.tile(x, (1, 1, 4)), doubled), np.tile(new, (1, 1, 4)).sum(axis=2)
    )
    assert many == pytest.approx(once)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.99])
def test_correlated_signals_change_no_error_rate(correlation: float) -> None:
    rng = np.random.default_rng(13)
    flagged = 0
    for _ in range(10):
        pool = calibrated(signals_of(rng, 500, correlation=correlation), SCORER)
        p = trajectory_p(pool, signals_of(rng, 500, correlation=correlation).sum(axis=2))
        flagged += int((p[:, -1] <= 0.02).sum())
    assert within(flagged, 5000, 0.02 * 1.5)  # 10 calibration sets, each realising its own rate


def test_negative_control_the_naive_product_of_e_values_fails() -> None:
    """A product over correlated signals, or over looks at one account, is no e-value.

    Both forms alarm at 1000 = 1/.001 far more often than once in a thousand honest accounts.
    """
    rng = np.random.default_rng(14)
    x, new = signals_of(rng, 2000), signals_of(rng, 4000)
    n = len(x)

    def alarms(columns: np.ndarray, theirs: np.ndarray) -> float:
        e = np.ones(len(theirs))
        for j in range(columns.shape[1]):
            e *= e_of(conformal_p(columns[:, j], theirs[:, j]), n, 0.5)
        return float((e >= 1000).mean())

    over_signals = alarms(x[:, 0, :], new[:, 0, :])
    over_looks = alarms(x.sum(axis=2), new.sum(axis=2))
    assert over_signals >= 0.01
    assert over_looks >= 0.01
    # What is used instead holds on the same accounts.
    averaged = np.mean(
        [e_of(conformal_p(x[:, 0, s], new[:, 0, s]), n, 0.5) for s in range(SIGNALS)], axis=0
    )
    assert within(int((averaged >= 1000).sum()), len(new), 0.001)
    p = trajectory_p(calibrated(x, SCORER), new.sum(axis=2))
    assert within(int((p[:, -1] <= 0.001).sum()), len(new), 0.002)


def test_an_attack_free_log_gives_no_finding_in_95_percent_of_seeds() -> None:
    """Benjamini and Hochberg over a log's accounts: with nothing to find, the FDR is the chance
    of any finding at all."""
    clean = 0
    for seed in range(40):
        rng = np.random.default_rng(1000 + seed)
        pool = calibrated(signals_of(rng, 1600, looks=2, signals=2), FEW)
        for _ in range(5):
            p = trajectory_p(pool, signals_of(rng, 60, looks=2, signals=2).sum(axis=2))[:, -1]
            clean += not benjamini_hochberg(p, 0.05).any()
    assert 190 <= clean < 200


@pytest.mark.parametrize(
    ("contamination", "low", "high"),
    [(0.0, 0.80, 0.93), (0.01, 0.06, 0.16), (0.05, 0.0, 0.035), (0.25, 0.0, 0.01)],
)
def test_contamination_kills_power_before_validity(
    contamination: float, low: float, high: float
) -> None:
    """One look at ``p <= .001``, attackers 4.2 deviations out, as docs/guard.md tabulates."""
    rng = np.random.default_rng(int(contamination * 100))
    power, size = [], []
    for _ in range(20):
        pool = rng.normal(size=5000)
        pool[: round(contamination * 5000)] += 4.2
        power.append((conformal_p(pool, rng.normal(size=2000) + 4.2) <= 0.001).mean())
        size.append((conformal_p(pool, rng.normal(size=5000)) <= 0.001).mean())
    assert low <= np.mean(power) <= high
    assert within(round(np.mean(size) * 100_000), 100_000, 0.001 * 1.3)


def test_drift_breaks_validity_until_the_pool_is_renewed() -> None:
    """Honest use that shifts by half a deviation a month: measured, not promised away."""
    rng = np.random.default_rng(20)

    def realised(pool_shift: float, now: float) -> float:
        found = [
            (
                trajectory_p(
                    calibrated(signals_of(rng, 1000, shift=pool_shift, signals=2), FEW),
                    signals_of(rng, 1500, shift=now, signals=2).sum(axis=2),
                )[:, -1]
                <= 0.01
            ).mean()
            for _ in range(4)
        ]
        return float(np.mean(found))

    assert realised(0.0, 0.0) < 0.017
    assert realised(0.0, 1.0) > 0.04  # frozen for two months
    assert realised(0.5, 0.5) < 0.017  # made again every month
    assert realised(0.5, 0.0) < 0.01  # drift the other way costs power alone


@pytest.mark.slow
def test_the_nominal_rate_of_one_in_a_thousand() -> None:
    rng = np.random.default_rng(30)
    rates = []
    for _ in range(16):
        pool = calibrated(signals_of(rng, 4443, signals=2), FEW)
        p = trajectory_p(pool, signals_of(rng, 4000, signals=2).sum(axis=2))[:, -1]
        rates.append((p <= 0.001).mean())
    assert np.mean(rates) <= 0.001 + 4 * np.std(rates) / 4
    assert np.mean(rates) > 0.0004


@pytest.mark.slow
def test_whole_trajectories_have_more_power_than_averaged_e_values() -> None:
    """At the same nominal rate of .001 and valid both, so that guard uses the former."""
    rng = np.random.default_rng(31)
    for n, margin in ((1600, 0.2), (4400, 0.04)):
        whole, averaged, whole_at, averaged_at = [], [], [], []
        for _ in range(4):
            pool = calibrated(signals_of(rng, n, signals=2), FEW)
            new = signals_of(rng, 1500, signals=2, shift=3.0).sum(axis=2)
            p, size = look_p(pool, new), pool.p_value(0, None, 0.0).n
            sums = [np.cumsum(e_of(p, size, s), axis=1) / 7 for s in (1.5, 2.0, 3.0, 6.0)]
            best = max(sums, key=lambda one: float((one[:, -1] >= 1000).mean())) >= 1000
            caught = trajectory_p(pool, new) <= 0.001
            whole.append(caught[:, -1].mean())
            averaged.append(best[:, -1].mean())
            whole_at.append(caught.argmax(axis=1)[caught[:, -1]].mean())
            averaged_at.append(best.argmax(axis=1)[best[:, -1]].mean())
        assert np.mean(whole) > np.mean(averaged) + margin
        assert np.mean(whole_at) < np.mean(averaged_at)  # and sooner
