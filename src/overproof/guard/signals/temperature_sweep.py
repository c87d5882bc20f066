"""Many different temperatures, as one sets to spread the answers of a teacher.

False positives: evaluations that compare temperatures, playgrounds. Cannot see: a harvest at one
temperature, which is the usual one; more than 8 are not told apart.
"""

from __future__ import annotations

from math import log2, nan
from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]

PRIOR = 10.0
MOST = 8


def _measure(state: AccountState, _now: float) -> float:
    if not state.temperatures:
        return nan
    return log2(len(state.temperatures)) * state.described / (state.described + PRIOR)


def _detail(state: AccountState, _now: float) -> str:
    number = len(state.temperatures)
    listed = ", ".join(f"{warmth:g}" for warmth in state.temperatures)
    least = "at least " if number == MOST else ""
    return f"{least}{number} different temperatures: {listed or 'none given'}"


SIGNAL = Signal("temperature_sweep", Family.SAMPLING, _measure, _detail)
