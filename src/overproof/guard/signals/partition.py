"""Working through a data set once: many distinct turns and hardly one twice.

The share of turns that are new × the common logarithm of how many there are. An evaluator repeats
his benchmark; a harvester divides a data set and sends each part once. False positives: anybody
who talks much and never repeats himself; batch ETL. Cannot see: that other accounts send the rest
of the same set, which the signals of communities look for.
"""

from __future__ import annotations

from math import log10, nan
from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]


def _measure(state: AccountState, _now: float) -> float:
    if not len(state.turns):
        return nan
    novelty = state.turns.novelty(state.sketched)
    return novelty * log10(1 + novelty * state.sketched)


def _detail(state: AccountState, _now: float) -> str:
    if not len(state.turns):
        return "no text to compare"
    distinct = state.turns.novelty(state.sketched) * state.sketched
    return (
        f"about {distinct:,.0f} distinct turns in {state.sketched:,} requests; "
        f"the median turn came {state.turns.repetition():.0f} times"
    )


SIGNAL = Signal("partition", Family.COVERAGE, _measure, _detail)
