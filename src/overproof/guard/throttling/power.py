"""How likely the experiment is to see a shared queue, before anybody is refused.

Shapes: W windows of a round, F watched accounts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from overproof.errors import ConfigError
from overproof.guard.throttling.load_shift import Round, shift_tails
from overproof.guard.throttling.resurfacing import Followed, guess_tails

__all__ = ["Power", "plan_power"]

Floats = npt.NDArray[np.float64]
DAY_S = 86_400.0


@dataclass(frozen=True)
class Power:
    """Shares of simulated experiments that would see a shared queue.

    Attributes:
        load_shift: by the load alone, at ``alpha``.
        resurfacing: by prompts alone, at ``alpha``.
        either: by both together as `analyse` does, each at half of ``alpha``.
        error: two standard errors of the simulation, at most.
        refusals: requests refused in an experiment, on average.
        hours: that it takes.
    """

    load_shift: float
    resurfacing: float
    either: float
    error: float
    refusals: float
    hours: float


def plan_power(
    size: int,
    rate: float,
    windows: int = 20,
    *,
    rounds: int = 2,
    window_s: float = 1800.0,
    wash_out_s: float = 1800.0,
    alpha: float = 0.01,
    moved: float = 0.9,
    dispersion: float = 1.25,
    runs: int = 200,
    seed: int = 0,
) -> Power:
    """Simulate the tables of the experiment for a community on one shared queue.

    Args:
        size: accounts in the community.
        rate: requests a day and account.
        windows: W of all rounds.
        rounds: R.
        window_s: of a window.
        wash_out_s: of the rest before each.
        alpha: the level.
        moved: the share of refused requests that go to other accounts at once.
        dispersion: coefficient of variation of the gaps between requests; counts are drawn from
            a negative binomial whose variance is its square times the mean.
        runs: simulated experiments.
        seed: of the simulation.

    Raises:
        ConfigError: fewer than 4 accounts, no requests, or windows that rounds cannot share.
    """
    if size < 4 or not rate > 0 or windows % rounds or windows < 4 * rounds:
        raise ConfigError(
            "the plan of a throttling experiment",
            f"{size} accounts at {rate:g} a day in {windows} windows and {rounds} rounds",
            "take at least 4 accounts, a positive rate, and 4 windows or more for every round",
        )
    rng = np.random.default_rng(seed)
    hits = np.zeros((runs, 3))
    for run in range(runs):
        tables, followed = [], []
        for _ in range(rounds):
            table, some = _draw(
                rng, size, rate * window_s / DAY_S, windows // rounds, moved=moved, cv=dispersion
            )
            tables.append(table)
            followed += some
        load = shift_tails(tables).upper
        prompts = guess_tails(followed, 0.0)[1].upper
        hits[run] = load <= alpha, prompts <= alpha, 2 * min(load, prompts) <= alpha
    share = hits.mean(axis=0)
    return Power(
        load_shift=float(share[0]),
        resurfacing=float(share[1]),
        either=float(share[2]),
        error=1 / math.sqrt(runs),
        refusals=size / 2 * rate * window_s / DAY_S * windows / 2,
        hours=windows * (window_s + wash_out_s) / 3600,
    )


def _draw(
    rng: np.random.Generator, size: int, mean: float, windows: int, *, moved: float, cv: float
) -> tuple[Round, list[Followed]]:
    """One round of a shared queue: refused requests of one half arrive at the other."""
    throttled = size // 2
    watched = size - throttled
    on = rng.integers(0, 2, size=windows).astype(bool)
    before = _counts(rng, mean, cv, (windows, watched))
    own = _counts(rng, mean, cv, (windows, watched))
    refused = _counts(rng, mean, cv, (windows, throttled)) * on[:, None]
    moving = rng.binomial(refused.sum(axis=1).astype(int), moved)
    shifted = np.array([rng.multinomial(m, np.full(watched, 1 / watched)) for m in moving])
    followed = rng.binomial(throttled, 1 - math.exp(-mean), size=windows)
    back = rng.binomial(followed, moved) * on
    rows = [Followed(bool(o), int(f), int(b)) for o, f, b in zip(on, followed, back, strict=True)]
    return Round(own + shifted, before, np.where(on, 1.0, -1.0)), rows


def _counts(rng: np.random.Generator, mean: float, cv: float, shape: tuple[int, int]) -> Floats:
    if cv <= 1:
        return rng.poisson(mean, size=shape).astype(np.float64)
    # Negative binomial with variance cv^2 * mean: n = mean / (cv^2 - 1), p = 1 / cv^2.
    return rng.negative_binomial(mean / (cv * cv - 1), 1 / (cv * cv), size=shape).astype(np.float64)
