"""Asking for answers to be graded by a rubric, as one does to build a reward model.

False positives: judges in continuous integration. Cannot see: grading hidden in free prose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal
from overproof.guard.signals.rates import about_share_of, log_odds

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]

USUAL = 0.02


def _measure(state: AccountState, _now: float) -> float:
    return log_odds(state.rubric, state.sketched, USUAL)


def _detail(state: AccountState, _now: float) -> str:
    return (
        f"{about_share_of(state.rubric, state.sketched)} ask for an answer to be graded; "
        f"about {USUAL:.0%} is usual"
    )


SIGNAL = Signal("rubric_grading", Family.TEXT, _measure, _detail)
