"""Answers that are long beside what was sent: a harvest pays for what the model writes.

Tokens out over tokens in, on a logarithmic scale, shrunk for few requests. False positives: whoever
has texts written, makers of stories, descriptions and code. Cannot see: a harvest of short answers,
or one that hides them behind long inputs.
"""

from __future__ import annotations

from math import log, nan
from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]

# As if so many tokens had been sent and answered before: twenty usual requests.
SENT, ANSWERED = 8_000.0, 4_000.0


def _measure(state: AccountState, _now: float) -> float:
    if not state.tokens_in or not state.tokens_out:
        return nan
    return log((state.tokens_out + ANSWERED) / (state.tokens_in + SENT))


def _detail(state: AccountState, _now: float) -> str:
    times = state.tokens_out / max(1, state.tokens_in)
    return f"{state.tokens_out:,} tokens of answers, {times:.1f} times what was sent"


SIGNAL = Signal("long_answers", Family.USE, _measure, _detail)
