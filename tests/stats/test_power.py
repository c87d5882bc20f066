from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from overproof.stats.paired import partly_paired_non_inferiority, score_statistic
from overproof.stats.power import items_needed, non_inferiority_power, partly_paired_power


@pytest.mark.parametrize(("margin", "items"), [(0.02, 3090), (0.03, 1375), (0.05, 495)])
def test_items_needed(margin: float, items: int) -> None:
    needed = items_needed(margin)
    assert needed == pytest.approx(items, rel=0.01)
    assert non_inferiority_power(needed, margin) >= 0.8
    assert non_inferiority_power(needed - 1, margin) < 0.8


@pytest.mark.parametrize(
    ("n", "margin", "discordance"), [(500, 0.05, 0.2), (1400, 0.03, 0.2), (800, 0.02, 0.1)]
)
def test_power_is_what_the_test_has(n: int, margin: float, discordance: float) -> None:
    runs = 20_000
    rng = np.random.default_rng(8)
    draws = rng.multinomial(n, [discordance / 2, discordance / 2, 1 - discordance], size=runs)
    power = np.mean(score_statistic(draws[:, 0], draws[:, 1], n, -margin) > ndtri(0.95))
    # Three standard errors of the simulation, and 1.5 points for the normal approximation.
    assert abs(power - non_inferiority_power(n, margin, discordance)) < 0.009 + 0.015


def test_partly_paired_power_is_what_the_test_has() -> None:
    rng = np.random.default_rng(4)
    n, m, share, runs = 500, 150, 0.85, 800
    known = np.arange(n) < m
    passed = sum(
        partly_paired_non_inferiority(
            rng.random(n) < share, rng.random(n) < share, known, 0.1
        ).verdict
        == "non-inferior"
        for _ in range(runs)
    )
    assert passed / runs == pytest.approx(partly_paired_power(n, m, share, 0.1), abs=0.05)


def test_edges() -> None:
    assert non_inferiority_power(0, 0.05) == 0.0
    assert non_inferiority_power(10, 0.05, 0.0) == 1.0
    assert items_needed(0.05, 0.0) == 1
    assert partly_paired_power(100, 0, 0.9, 0.05) == 0.0
    assert partly_paired_power(100, 10, 1.0, 0.05) == 1.0
    for bad in ({"margin": 0.0}, {"margin": 0.1, "alpha": 0.6}, {"margin": 0.1, "power": 1.0}):
        with pytest.raises(ValueError, match="must lie"):
            items_needed(**bad)
