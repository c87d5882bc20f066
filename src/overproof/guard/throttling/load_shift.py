"""Does the load of the watched half rise while the other half is refused?

**Null hypothesis**: what a watched account sends does not depend on whether others are refused.
**What is fixed**: watched accounts are never refused in a round, so under the null all of their
traffic in it, baseline and windows, is the same whichever way the coins fell. The throttled
accounts' own answers to their own refusals (waiting, hammering, giving up, a backlog) touch no
number that enters. **The statistic**: per window the square root of the
watched accounts' attempts (which steadies the variance of counts); then its correlation with the
coins, given the same of the window's baseline (the t of a regression of load on baseline and coin;
covariance adjustment as in Rosenbaum, *Statistical Science* 2002, 17(3)). All but the coins is
fixed, so its distribution over all their outcomes is known exactly, under bursts, drift and hours
of the day alike.

**Rounds**: in a later round a watched account may carry a backlog from when it was itself
throttled. Given everything up to the start of the round that is the past, and fixed; so the
round's p-value is valid given the earlier ones, and Fisher's method combines them.

**The effect** is the factor by which watched load is multiplied in windows that are on; its
interval holds every factor that the test, with the windows that are on divided by it, does not
reject (Rosenbaum, *Observational Studies* 2002, section 2.6).

Shapes: W windows of a round, F watched accounts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from overproof.guard.throttling.design import Design
from overproof.guard.throttling.observations import Observations, watched_loads
from overproof.guard.throttling.randomisation import (
    TwoSided,
    assignments,
    fisher_combined,
    tails,
)
from overproof.stats.intervals import Estimate

__all__ = ["LoadShift", "Round", "load_shift", "shift_of_rounds", "shift_tails"]

Floats = npt.NDArray[np.float64]
_WIDEST = 32.0
_STEPS = 20
_FLAT = 1e-9


@dataclass(frozen=True)
class Round:
    """One round's tables of the watched half, W x F, and its coins as signs, W."""

    loads: Floats
    before: Floats
    signs: Floats


@dataclass(frozen=True)
class LoadShift:
    """The load of the watched half, windows on against windows off.

    Attributes:
        p_value: one-sided, of no reaction; exact, or Monte Carlo with its own error allowed for.
        floor: the smallest p-value that so many windows can give.
        exact: every outcome of the coins was looked at.
        factor: of the load, with its interval by inversion; NaN where there is no load.
        on: attempts of watched accounts in windows that are on.
        off: in windows that are off.
        windows_on: how many windows are on.
        windows: W of all rounds.
    """

    p_value: float
    floor: float
    exact: bool
    factor: Estimate
    on: int
    off: int
    windows_on: int
    windows: int


def load_shift(design: Design, seen: Observations, *, confidence: float = 0.95) -> LoadShift:
    """Test whether watched load rises when the others are refused.

    Raises:
        DataError: the record was cut off.
    """
    seen.check()
    rounds = []
    for each in range(design.rounds):
        loads, before = watched_loads(design, seen, each)
        coins = design.coins[each * design.per_round : (each + 1) * design.per_round]
        rounds.append(Round(loads, before, np.where(coins, 1.0, -1.0)))
    return shift_of_rounds(rounds, confidence=confidence)


def shift_of_rounds(rounds: Sequence[Round], *, confidence: float = 0.95) -> LoadShift:
    """`load_shift` on tables already made."""
    tests = [_Test.of(each) for each in rounds]
    on = [each.loads[each.signs > 0] for each in rounds]
    off = [each.loads[each.signs < 0] for each in rounds]
    load_on = int(sum(table.sum() for table in on))
    load_off = int(sum(table.sum() for table in off))
    return LoadShift(
        p_value=_tails(tests, 1.0).upper,
        floor=fisher_combined([1 / (len(each.null) + (not each.exact)) for each in tests]),
        exact=all(each.exact for each in tests),
        factor=_factor(tests, confidence, load_on > 0 and load_off > 0),
        on=load_on,
        off=load_off,
        windows_on=sum(len(table) for table in on),
        windows=sum(len(each.signs) for each in rounds),
    )


def shift_tails(rounds: Sequence[Round], factor: float = 1.0) -> TwoSided:
    """Both p-values of "windows that are on carry ``factor`` times the load"."""
    return _tails([_Test.of(each) for each in rounds], factor)


@dataclass(frozen=True)
class _Test:
    """One round made ready: the statistic of any load is ``directions @ load``.

    A direction is the coins as signs, less what the baseline explains of them, at length one; so
    the product is the partial correlation of load and coins but for a constant. It is nought where
    the baseline explains the coins whole, as with coins that all fell alike.
    """

    load: Floats  # W
    signs: Floats  # W
    observed: Floats  # W
    null: Floats  # A x W
    exact: bool

    @classmethod
    def of(cls, table: Round) -> _Test:
        baseline = np.sqrt(table.before.sum(axis=1))
        predictors = np.stack([np.ones_like(baseline), baseline], axis=1)
        vectors, sizes, _ = np.linalg.svd(predictors, full_matrices=False)
        span = vectors[:, sizes > sizes[0] * _FLAT]
        outcomes, exact = _outcomes(len(baseline))
        return cls(
            load=table.loads.sum(axis=1),
            signs=table.signs,
            observed=_directions(table.signs[None], span)[0],
            null=_directions(outcomes, span),
            exact=exact,
        )

    def tails(self, factor: float) -> TwoSided:
        load = np.sqrt(np.where(self.signs > 0, self.load / factor, self.load))
        return tails(float(self.observed @ load), self.null @ load, self.exact)


def _directions(signs: Floats, span: Floats) -> Floats:
    left = signs - (signs @ span) @ span.T
    length = np.sqrt((left * left).sum(axis=1, keepdims=True))
    found: Floats = np.divide(left, length, out=np.zeros_like(left), where=length > 1e-6)
    return found


@cache
def _outcomes(windows: int) -> tuple[Floats, bool]:
    return assignments(windows)


def _tails(tests: Sequence[_Test], factor: float) -> TwoSided:
    each = [test.tails(factor) for test in tests]
    return TwoSided(
        fisher_combined([one.upper for one in each]), fisher_combined([one.lower for one in each])
    )


def _factor(tests: Sequence[_Test], confidence: float, measurable: bool) -> Estimate:
    """The factor with the interval that inverts both one-sided tests; bisection on its log."""
    method = "randomisation test, inverted"
    n = sum(len(test.load) for test in tests)
    if not measurable:
        return Estimate(math.nan, 0.0, math.inf, confidence, method, n)
    tail = (1 - confidence) / 2

    def crossing(beyond: Callable[[TwoSided], bool]) -> float:
        """The factor from which on ``beyond`` holds: upper rises with it, lower falls."""
        low, high = -math.log(_WIDEST), math.log(_WIDEST)
        for _ in range(_STEPS):
            middle = (low + high) / 2
            if beyond(_tails(tests, math.exp(middle))):
                high = middle
            else:
                low = middle
        edge = math.log(_WIDEST) - 1e-3
        return 0.0 if middle < -edge else math.inf if middle > edge else math.exp(middle)

    return Estimate(
        crossing(lambda p: p.upper > p.lower),
        crossing(lambda p: p.upper > tail),
        crossing(lambda p: p.lower <= tail),
        confidence,
        method,
        n,
    )
