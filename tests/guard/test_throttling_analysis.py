"""Does the experiment call honest accounts common control as seldom as it says, and see a queue?"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom, chi2

from overproof.errors import ConfigError
from overproof.guard.throttling import (
    Design,
    Experiment,
    ExperimentResult,
    Observations,
    Outcome,
    analyse,
    plan_power,
)
from overproof.guard.throttling.load_shift import Round, shift_of_rounds, shift_tails
from overproof.guard.throttling.randomisation import (
    assignments,
    binomial_tails,
    fisher_combined,
    tails,
)
from overproof.guard.throttling.resurfacing import Followed, guess_tails, resurfacing_of
from overproof.proving.throttled_world import World, WorldKind, accounts_of, run_world
from overproof.stats.intervals import clopper_pearson


def experiment(
    kind: WorldKind, size: int, rate: float, seed: int, alpha: float = 0.01
) -> ExperimentResult:
    design = Design(f"{kind}-{seed}", b"sixteen bytes at least", accounts_of(size), 0.0)
    driven = Experiment(design)
    run_world(World(kind, size, rate, design.end / 3600, seed), driven.ask)
    return analyse(design, driven.observations(design.end), alpha=alpha)


def test_all_outcomes_of_the_coins_are_looked_at() -> None:
    signs, exact = assignments(3)
    assert exact
    assert {tuple(row) for row in signs} == set(itertools.product((-1.0, 1.0), repeat=3))
    drawn, exact = assignments(30, draws=500)
    assert not exact
    assert drawn.shape == (500, 30)
    assert set(np.unique(drawn)) == {-1.0, 1.0}


def test_tails_by_hand() -> None:
    null = np.array([1.0, 2.0, 3.0, 4.0])
    assert tails(3.0, null, exact=True).upper == 0.5
    assert tails(3.0, null, exact=True).lower == 0.75
    assert tails(3.0, null, exact=False).upper == 3 / 5
    assert tails(9.0, null, exact=False).upper == 1 / 5


def test_binomial_and_fisher_agree_with_scipy() -> None:
    for hits, coins in ((0, 1), (3, 10), (10, 10), (17, 20)):
        found = binomial_tails(hits, coins)
        assert found.upper == pytest.approx(binom.sf(hits - 1, coins, 0.5))
        assert found.lower == pytest.approx(binom.cdf(hits, coins, 0.5))
    expected = chi2.sf(-2 * (math.log(0.01) + math.log(0.2)), 4)
    assert fisher_combined([0.01, 0.2]) == pytest.approx(expected)
    assert fisher_combined([0.03]) == pytest.approx(0.03)


def test_load_shift_is_exact_over_every_outcome_of_the_coins() -> None:
    """For fixed watched traffic, p <= a for at most a share a of all 2^W coins: no sampling."""
    rng = np.random.default_rng(1)
    loads = rng.negative_binomial(0.3, 0.05, size=(8, 5)).astype(float)  # very bursty
    before = rng.poisson(3, size=(8, 5)).astype(float)
    p = np.array([shift_tails([Round(loads, before, signs)]).upper for signs in assignments(8)[0]])
    for alpha in (0.01, 0.05, 0.1, 0.3, 0.7):
        assert np.mean(p <= alpha) <= alpha
    assert np.mean(p <= 0.1) > 0.05  # and it is no empty promise


def test_guesses_are_exact_though_accounts_react_to_their_own_refusals() -> None:
    """Accounts give up or come again after *their own* refusals; every outcome of ten coins."""
    base = np.array([3, 0, 2, 5, 1, 4, 0, 2, 6, 1])
    p = []
    for coins in itertools.product((False, True), repeat=10):
        windows, backlog, gone = [], 0, 0
        for coin, resurfaced in zip(coins, base, strict=True):
            followed = max(8 - gone, 1)
            windows.append(Followed(coin, followed, min(followed, int(resurfaced) + backlog)))
            backlog = (backlog + 2) % 7 if coin else 0  # comes back with what it was refused
            gone = gone + 2 if coin else max(gone - 1, 0)  # or stays away for a while
        p.append(guess_tails(windows, 0.0)[1].upper)
    found = np.array(p)
    for hits in range(11):
        level = binomial_tails(hits, 10).upper
        assert np.mean(found <= level + 1e-12) == pytest.approx(level)


def test_effects_are_found_again_by_inversion() -> None:
    rng = np.random.default_rng(3)
    factors, shares = [], []
    for _ in range(40):
        on = rng.integers(0, 2, 10).astype(bool)
        mean = np.where(on, 2.0, 1.0)[:, None] * np.full((10, 20), 3.0)
        table = Round(
            rng.poisson(mean).astype(float),
            rng.poisson(3.0, (10, 20)).astype(float),
            np.where(on, 1.0, -1.0),
        )
        if 3 <= on.sum() <= 7:
            factors.append(shift_of_rounds([table]).factor)
        counts = rng.binomial(12, np.where(on, 0.7, 0.1))
        shares.append(
            resurfacing_of(
                [Followed(bool(o), 12, int(k)) for o, k in zip(on, counts, strict=True)]
            ).share
        )
    for found, truth in ((factors, 2.0), (shares, 0.6)):
        held = sum(each.low <= truth <= each.high for each in found)
        assert clopper_pearson(held, len(found)).high >= 0.95
    assert 1.8 < float(np.median([each.estimate for each in factors])) < 2.2
    assert 0.5 < float(np.median([each.estimate for each in shares])) < 0.7


def test_nothing_sent_says_nothing() -> None:
    design = Design("empty", b"sixteen bytes at least", accounts_of(8), 0.0)
    result = analyse(design, Observations())
    assert result.outcome is Outcome.CANNOT_SAY
    assert result.load.p_value == 1.0
    assert math.isnan(result.load.factor.estimate)
    assert any("Nothing can be said" in line for line in result.lines())


def test_too_few_windows_for_the_level_cannot_say() -> None:
    design = Design("short", b"sixteen bytes at least", accounts_of(40), 0.0, windows=8)
    driven = Experiment(design)
    run_world(World(WorldKind.SHARED_QUEUE, 40, 200, design.end / 3600, 1), driven.ask)
    assert analyse(design, driven.seen, alpha=0.001).outcome is Outcome.CANNOT_SAY
    with pytest.raises(ConfigError, match="no level"):
        analyse(design, driven.seen, alpha=0.0)


@pytest.mark.parametrize(
    "kind",
    [
        WorldKind.UNRELATED,
        WorldKind.PER_ACCOUNT,
        WorldKind.SAME_BENCHMARK,
        WorldKind.COMMON_SHOCKS,
    ],
)
def test_honest_accounts_are_called_common_control_as_seldom_as_promised(kind: WorldKind) -> None:
    """Bursts, drift, hours of the day, hammering, giving up, backlogs: nominal rates hold."""
    runs = 30
    p = [experiment(kind, 12, 40, seed) for seed in range(runs)]
    for alpha in (0.05, 0.01):
        for values in (
            [each.load.p_value for each in p],
            [each.prompts.p_value for each in p],
            [each.p_value for each in p],
        ):
            false = sum(value <= alpha for value in values)
            assert clopper_pearson(false, runs, 0.99).low <= alpha


@pytest.mark.slow
@pytest.mark.parametrize("kind", [WorldKind.UNRELATED, WorldKind.SAME_BENCHMARK])
def test_false_positive_rate_over_many_experiments(kind: WorldKind) -> None:
    runs = 300
    found = [experiment(kind, 20, 40, seed) for seed in range(1000, 1000 + runs)]
    for alpha in (0.05, 0.01):
        for name in ("load", "prompts", "both"):
            values = [
                each.p_value if name == "both" else getattr(each, name).p_value for each in found
            ]
            false = sum(value <= alpha for value in values)
            assert clopper_pearson(false, runs, 0.99).low <= alpha, (alpha, name)


@pytest.mark.parametrize(("size", "rate"), [(10, 26), (40, 46), (60, 26)])
def test_a_shared_queue_is_seen(size: int, rate: float) -> None:
    found = [experiment(WorldKind.SHARED_QUEUE, size, rate, seed) for seed in range(12)]
    assert sum(each.outcome is Outcome.REACTS for each in found) >= 11
    assert all(each.prompts.on[0] >= 0.9 * each.prompts.on[1] for each in found)
    if size * rate > 1000:
        assert np.median([each.load.factor.estimate for each in found]) > 1.4


def test_a_declared_company_reacts_too_and_the_words_say_so() -> None:
    result = experiment(WorldKind.DECLARED_COMPANY, 30, 46, 5)
    assert result.outcome is Outcome.REACTS
    text = " ".join(result.lines())
    assert "common control, not harm" in text
    assert "declared" in text
    assert "attack" not in text
    evidence = result.evidence()
    assert evidence.family == "coordination"
    assert evidence.p_value == result.p_value


def test_who_waits_out_every_refusal_is_not_seen_and_not_cleared() -> None:
    found = [experiment(WorldKind.PER_ACCOUNT, 30, 46, seed) for seed in range(10)]
    assert sum(each.outcome is Outcome.REACTS for each in found) <= 1
    assert "clears nobody" in " ".join(found[0].lines() + found[1].lines())


def test_same_seed_same_result() -> None:
    assert experiment(WorldKind.UNRELATED, 10, 40, 3) == experiment(WorldKind.UNRELATED, 10, 40, 3)


def test_power_rises_with_size_rate_and_windows() -> None:
    small = plan_power(10, 26, runs=50)
    assert small.load_shift < plan_power(60, 26, runs=50).load_shift
    assert small.load_shift < plan_power(10, 400, runs=50).load_shift
    assert plan_power(10, 10, 12, runs=50).either < plan_power(10, 10, 28, runs=50).either
    assert small.hours == 20
    assert small.refusals == pytest.approx(10 / 2 * 26 / 48 * 10)


def test_power_without_a_shared_queue_is_the_level() -> None:
    none = plan_power(30, 46, moved=0.0, alpha=0.05, runs=300)
    assert none.either <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize("plan", [(3, 26, 20), (10, 0, 20), (10, math.nan, 20), (10, 26, 7)])
def test_plans_that_make_no_sense_are_refused(plan: tuple[int, float, int]) -> None:
    with pytest.raises(ConfigError, match="the plan of a throttling experiment"):
        plan_power(*plan)
