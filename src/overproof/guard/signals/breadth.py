"""Breadth of capabilities against peers.

The effective number of kinds of task, exp of the entropy of their shares, as doublings above what
is usual for the declared use. Few requests cannot show many kinds, so the small count errs towards
narrow. What is usual is `PEERS`, a constant; calibration sets what is rare. False positives:
resellers and chat products. Cannot see: a harvest of one capability.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log, log2, nan
from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["PEERS", "SIGNAL"]

PEERS: Mapping[str, float] = {
    "chat": 4.0,
    "coding": 2.0,
    "evaluation": 3.0,
    "batch-etl": 1.5,
    "synthetic-data": 3.0,
}
OTHER = 3.0


def _effective(state: AccountState) -> float:
    total = sum(state.capabilities)
    entropy = log(total) - sum(n * log(n) for n in state.capabilities if n) / total
    return exp(max(0.0, entropy))


def _usual(state: AccountState) -> float:
    return PEERS.get(state.declared_use or "", OTHER)


def _measure(state: AccountState, _now: float) -> float:
    if not any(state.capabilities):
        return nan
    return log2(_effective(state) / _usual(state))


def _detail(state: AccountState, _now: float) -> str:
    if not any(state.capabilities):
        return "no text to sort by kind of task"
    return (
        f"{sum(1 for n in state.capabilities if n)} kinds of task, "
        f"as broad as {_effective(state):.1f} in equal shares; {_usual(state):.1f} are usual for "
        f"the use it declares"
    )


SIGNAL = Signal("breadth", Family.COVERAGE, _measure, _detail)
