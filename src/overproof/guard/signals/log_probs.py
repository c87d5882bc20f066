"""Harvesting log-probabilities, which carry far more of the teacher than its words.

False positives: classifiers that read a confidence, calibration studies. Cannot see: anything
where the provider's log keeps no parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal
from overproof.guard.signals.rates import log_odds, share_of

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]

USUAL = 0.02


def _measure(state: AccountState, _now: float) -> float:
    return log_odds(state.logprobs, state.described, USUAL)


def _detail(state: AccountState, _now: float) -> str:
    return (
        f"{share_of(state.logprobs, state.described)} with parameters ask for log-probabilities; "
        f"about {USUAL:.0%} is usual"
    )


SIGNAL = Signal("log_probs", Family.SAMPLING, _measure, _detail)
