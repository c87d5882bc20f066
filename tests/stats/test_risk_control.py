from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta, binom

from overproof.stats.risk_control import control_risk, control_selective_risk, most_errors


def naive(confidence: np.ndarray, wrong: np.ndarray, alpha: float) -> float:
    """The definition: the lowest threshold among all places where something changes."""
    n = len(confidence)
    for threshold in sorted({0.0, 1.0, *confidence}):
        if (np.sum(wrong & (confidence > threshold)) + 1) / (n + 1) <= alpha:
            return float(threshold)
    return 1.0


@pytest.mark.parametrize("digits", [1, 2, 12])
def test_selective_threshold_is_the_definition(digits: int) -> None:
    rng = np.random.default_rng(digits)
    for _ in range(300):
        n = int(rng.integers(1, 60))
        confidence = np.round(rng.random(n), digits)
        wrong = rng.random(n) < rng.random()
        alpha = float(rng.choice([0.02, 0.05, 0.1, 0.25, 0.5]))
        found = control_selective_risk(confidence, wrong, alpha)
        assert found.threshold == naive(confidence, wrong, alpha)
        grid = np.unique(np.concatenate([[0.0, 1.0], confidence]))
        losses = (wrong[:, None] & (confidence[:, None] > grid)).astype(float)
        general = control_risk(losses, grid, alpha)
        assert general.threshold == found.threshold
        assert general.risk == pytest.approx(found.risk)
        assert general.suffices == found.suffices


def test_nothing_but_passing_everything_on_is_said() -> None:
    found = control_selective_risk([0.9, 0.8, 0.7], [False] * 3, 0.1)  # 1 / 4 > 0.1
    assert (found.threshold, found.suffices, found.risk) == (1.0, False, 0.0)
    # The least n at which a flawless record is enough: 1 / (n + 1) <= alpha.
    assert not control_selective_risk([0.5] * 8, [False] * 8, 0.1).suffices
    flawless = control_selective_risk([0.5] * 9, [False] * 9, 0.1)
    assert (flawless.threshold, flawless.suffices) == (0.0, True)


def test_equal_confidences_stand_or_fall_together() -> None:
    confidence = [0.9] * 10 + [0.5] * 30
    wrong = [True] * 2 + [False] * 8 + [True] * 10 + [False] * 20
    found = control_selective_risk(confidence, wrong, 3.5 / 41)
    assert found.threshold == 0.5  # two errors fit, twelve do not
    assert found.risk == 2 / 40
    assert control_selective_risk(confidence, wrong, 2.5 / 41).threshold == 0.9


def expected_loss(kind: str, n: int, alpha: float, rng: np.random.Generator) -> np.ndarray:
    """The true loss at the chosen threshold, over 4,000 calibration sets of ``n``."""
    losses = []
    for _ in range(4000):
        u = rng.random(n)
        if kind == "continuous":  # P(wrong | c) = 1 - c: loss above t is (1 - t)^2 / 2
            t = control_selective_risk(u, rng.random(n) > u, alpha).threshold
            losses.append((1 - t) ** 2 / 2)
        elif kind == "discrete":  # five values
            c = np.ceil(u * 5) / 5
            t = control_selective_risk(c, rng.random(n) > c, alpha).threshold
            losses.append(sum((1 - v) / 5 for v in (0.2, 0.4, 0.6, 0.8, 1.0) if v > t))
        else:  # a confidence that knows nothing, with one value for half of the items
            c = np.where(u < 0.5, 0.5, u)
            t = control_selective_risk(c, rng.random(n) < 0.3, alpha).threshold
            losses.append(0.3 * ((1 - t) if t >= 0.5 else 1.0))
    return np.array(losses)


@pytest.mark.parametrize("kind", ["continuous", "discrete", "ties"])
@pytest.mark.parametrize("n", [12, 100])
def test_the_stated_loss_holds_over_calibration_sets(kind: str, n: int) -> None:
    rng = np.random.default_rng(n)
    for alpha in (0.1, 0.2):
        losses = expected_loss(kind, n, alpha, rng)
        error = losses.std() / math.sqrt(len(losses))
        assert losses.mean() <= alpha + 3 * error
        if kind == "continuous":  # and it does not give away more than 2 B / (n + 1)
            assert losses.mean() >= alpha - 2 / (n + 1) - 3 * error


def test_the_surer_guarantee_holds_in_all_but_delta_of_the_sets() -> None:
    rng = np.random.default_rng(5)
    alpha, delta, n, rounds = 0.1, 0.1, 100, 1500
    over = {"continuous": 0, "discrete": 0}
    for _ in range(rounds):
        u = rng.random(n)
        t = control_selective_risk(u, rng.random(n) > u, alpha, delta=delta).threshold
        over["continuous"] += (1 - t) ** 2 / 2 > alpha
        c = np.ceil(u * 5) / 5
        t = control_selective_risk(c, rng.random(n) > c, alpha, delta=delta).threshold
        over["discrete"] += sum((1 - v) / 5 for v in (0.2, 0.4, 0.6, 0.8, 1.0) if v > t) > alpha
    assert binom.sf(over["continuous"] - 1, rounds, delta) > 1e-3
    assert binom.sf(over["discrete"] - 1, rounds, delta) > 1e-3
    # Not by being too careful: where confidences differ, the chance is the binomial's own.
    exact = binom.cdf(most_errors(n, alpha, delta), n, alpha)
    assert binom.cdf(over["continuous"], rounds, exact) > 1e-3


def test_allowed_errors_are_those_of_the_exact_bound() -> None:
    for n in (5, 29, 30, 200):
        for alpha in (0.05, 0.1, 0.3):
            for delta in (0.05, 0.1):
                k = most_errors(n, alpha, delta)
                bounds = [float(beta.ppf(1 - delta, i + 1, n - i)) for i in range(n)]
                assert k == sum(bound <= alpha for bound in bounds) - 1
    assert most_errors(99, 0.1) == 9
    assert most_errors(8, 0.1) == -1


def test_losses_of_any_size_are_controlled() -> None:
    rng = np.random.default_rng(1)
    grid = np.linspace(0, 1, 21)
    chosen = []
    for _ in range(2000):
        scale = rng.random(40)
        found = control_risk(scale[:, None] * (1 - grid), grid, 0.2)
        chosen.append(0.5 * (1 - found.threshold))
    assert np.mean(chosen) <= 0.2 + 3 * np.std(chosen) / math.sqrt(len(chosen))


@pytest.mark.parametrize(
    ("losses", "grid", "said"),
    [
        ([[0.0, 1.0]], [0.0, 1.0], "rise"),
        ([[1.0, 0.0]], [1.0, 0.0], "rise"),
        ([[2.0, 0.0]], [0.0, 1.0], "at most"),
        ([[math.nan, 0.0]], [0.0, 1.0], "numbers"),
        ([[1.0, 1.0]], [0.0, 1.0], "highest threshold"),
        ([[1.0]], [0.0, 1.0], "shapes"),
        (np.zeros((0, 2)), [0.0, 1.0], "nothing"),
    ],
)
def test_losses_that_are_not_what_they_must_be(losses: object, grid: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        control_risk(losses, grid, 0.1)


def test_confidences_that_are_not_what_they_must_be() -> None:
    for bad in ([1.5], [-0.1], [math.nan]):
        with pytest.raises(ValueError, match="confidences"):
            control_selective_risk(bad, [True], 0.1)
    with pytest.raises(ValueError, match="shapes"):
        control_selective_risk([], [], 0.1)
    for alpha in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="alpha"):
            control_selective_risk([0.5], [True], alpha)
