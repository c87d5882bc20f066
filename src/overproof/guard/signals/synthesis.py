"""Asking for training data: instructions, questions with answers, dialogues by the dozen.

False positives: permitted synthetic data, teachers who make exercises. Cannot see: a harvest of
plain answers to plain questions.
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
    return log_odds(state.synthesis, state.sketched, USUAL)


def _detail(state: AccountState, _now: float) -> str:
    return (
        f"{about_share_of(state.synthesis, state.sketched)} ask for training data to be written; "
        f"about {USUAL:.0%} is usual"
    )


SIGNAL = Signal("synthesis", Family.TEXT, _measure, _detail)
