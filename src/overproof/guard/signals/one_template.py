"""One template, opening or closing around payloads that are always new.

The share of requests with the commonest of them × the share of turns that never came before.
System prompts are left out: every product has one. False positives: batch ETL does exactly this,
so it must not stand alone. Cannot see: templates below an eighth of the traffic, or paraphrased
for every request.
"""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal
from overproof.guard.signals.rates import share_of

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]

PRIOR = 10.0


def _commonest(state: AccountState) -> tuple[int, str]:
    tables = (
        (state.templates, "template"),
        (state.openings, "opening"),
        (state.closings, "closing"),
    )
    return max(
        ((next(iter(table.values()), 0), name) for table, name in tables),
        key=lambda pair: pair[0],
    )


def _measure(state: AccountState, _now: float) -> float:
    if not state.sketched:
        return nan
    # The first request with a template is no repetition of it.
    again = max(0, _commonest(state)[0] - 1)
    return again / (state.sketched + PRIOR) * state.turns.novelty(state.sketched)


def _detail(state: AccountState, _now: float) -> str:
    if not state.sketched:
        return "no text to compare"
    count, name = _commonest(state)
    return (
        f"at least {share_of(count, state.sketched)} share one {name}, "
        f"while {state.turns.novelty(state.sketched):.0%} of the turns are new"
    )


SIGNAL = Signal("one_template", Family.TEXT, _measure, _detail)
