"""Asking for the chain of thought: the reasoning itself, not the answer.

False positives: audit trails and evaluations of reasoning. Cannot see: a request whose wording the
text model does not know; nothing at all in a log without text or sketches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal
from overproof.guard.signals.rates import about_share_of, log_odds

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]

USUAL = 0.01


def _measure(state: AccountState, _now: float) -> float:
    return log_odds(state.elicitation, state.sketched, USUAL)


def _detail(state: AccountState, _now: float) -> str:
    asking = about_share_of(state.elicitation, state.sketched)
    return f"{asking} ask for the reasoning to be written out; about {USUAL:.0%} is usual"


SIGNAL = Signal("elicitation", Family.TEXT, _measure, _detail)
