"""An account that moves to another organisation or payer.

False positives: takeovers, a new card. Cannot see: accounts whose owner changes behind an
unchanged organisation.
"""

from __future__ import annotations

from math import log2, nan
from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]


def _measure(state: AccountState, _now: float) -> float:
    if state.org is None and state.payer is None:
        return nan
    return log2(1 + state.changed)


def _detail(state: AccountState, now: float) -> str:
    if not state.changes:
        return "organisation and payer never changed"
    ts, what, _, _ = state.changes[-1]
    named = "organisation" if what == "org" else "payer"
    days = max(0.0, now - ts) / 86400
    times = "once" if state.changed == 1 else f"{state.changed:,} times"
    return f"changed organisation or payer {times}; the {named} last, {days:.1f} days ago"


SIGNAL = Signal("owner_change", Family.NETWORK, _measure, _detail)
