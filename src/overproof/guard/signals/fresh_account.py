"""How old the account was when it was first used: pools are made for the purpose.

Minus the common logarithm of the age in hours at first sight: 0 for an account used at once, -3
after six weeks. False positives: everybody is new once. Cannot see: bought and aged accounts, and
providers that do not say when an account was made.
"""

from __future__ import annotations

from math import isnan, log10, nan
from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal
from overproof.guard.signals.rates import age_days

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]

HOURS = 24.0


def _measure(state: AccountState, _now: float) -> float:
    if isnan(state.created):
        return nan
    return -log10(1 + HOURS * age_days(state.created, state.first_seen)) + 0.0


def _detail(state: AccountState, _now: float) -> str:
    if isnan(state.created):
        return "not known when the account was made"
    days = age_days(state.created, state.first_seen)
    return f"made {days:,.1f} days before its first request"


SIGNAL = Signal("fresh_account", Family.USE, _measure, _detail)
