"""Trying many ways round a refusal, and being refused mostly.

Distinct techniques × the share of them refused × how far their number is above the usual: a large
honest account meets every technique once by chance, and is not a sweep for that. False positives:
red teams. Cannot see: a single technique that works, techniques nobody has described.
"""

from __future__ import annotations

from math import log2, nan
from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal
from overproof.guard.signals.rates import excess, share_of

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]

USUAL = 0.005
PRIOR_REFUSED, PRIOR = 1.0, 4.0


def _measure(state: AccountState, _now: float) -> float:
    if not state.sketched:
        return nan
    refused = (state.technique_refused + PRIOR_REFUSED) / (state.technique_requests + PRIOR)
    often = excess(state.technique_requests, state.sketched, USUAL)
    return log2(1 + state.techniques.bit_count()) * refused * often


def _detail(state: AccountState, _now: float) -> str:
    return (
        f"{state.techniques.bit_count()} different techniques against refusals in "
        f"{share_of(state.technique_requests, state.sketched)}; "
        f"{state.technique_refused:,} of these were refused"
    )


SIGNAL = Signal("technique_sweep", Family.TEXT, _measure, _detail)
