"""Tokens per active day, both ways, on a logarithmic scale.

Weak on purpose: volume alone tells a harvest from nothing. False positives: every large customer.
Cannot see: slow pools.
"""

from __future__ import annotations

from math import log10, nan
from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]


def _measure(state: AccountState, _now: float) -> float:
    tokens = state.tokens_in + state.tokens_out
    if not tokens:
        return nan
    return log10(1 + tokens / max(1, state.active_days))


def _detail(state: AccountState, _now: float) -> str:
    days = max(1, state.active_days)
    return (
        f"{state.tokens_in / days:,.0f} tokens in and {state.tokens_out / days:,.0f} out "
        f"on each of {days} active days"
    )


SIGNAL = Signal("throughput", Family.USE, _measure, _detail)
