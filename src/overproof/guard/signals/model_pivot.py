"""Traffic that moves to a model within 24 hours of first using it.

The share that moved, shrunk for short pasts and few requests. False positives: evaluators on
release day, default models that change; for a group see the signals of communities. Cannot see: an
account that uses one model only, or is replaced instead of moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]


def _measure(state: AccountState, _now: float) -> float:
    move = state.pivot
    return 0.0 if move is None else move.weight


def _detail(state: AccountState, _now: float) -> str:
    move = state.pivot
    if move is None:
        return "one model throughout"
    percent = 100 * move.moved / move.after if move.after else 0.0
    return (
        f"after {move.before:,} requests to other models, {move.moved:,} of the next "
        f"{move.after:,} ({percent:.0f} %) within 24 hours went to a model new to it"
    )


SIGNAL = Signal("model_pivot", Family.COORDINATION, _measure, _detail)
