"""Many answers to the same prompt: the prompt sent again and again, or ``n`` above one.

As the binary logarithm of answers per distinct prompt; OpenThoughts takes 16. Only repeats among
the last 32 different prompts count, so that a benchmark run again next week is no sample. False
positives: self-consistency, pass@k. Cannot see: samples shuffled over more than 32 prompts, or
spread over accounts.
"""

from __future__ import annotations

from math import log2, nan
from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal
from overproof.guard.signals.rates import share_of

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]

PRIOR = 5.0


def _measure(state: AccountState, _now: float) -> float:
    if not state.sketched and not state.described:
        return nan
    sent = (state.sketched + PRIOR) / (state.sketched - state.repeats + PRIOR)
    asked = (state.requests + state.samples + PRIOR) / (state.requests + PRIOR)
    return log2(sent) + log2(asked)


def _detail(state: AccountState, _now: float) -> str:
    distinct = max(1, state.sketched - state.repeats)
    return (
        f"{share_of(state.repeats, state.sketched)} repeat a recent prompt, "
        f"{state.sketched / distinct:.1f} requests a prompt; "
        f"{state.sampled:,} requests ask for several answers, {state.samples:,} beyond the first"
    )


SIGNAL = Signal("samples_a_prompt", Family.SAMPLING, _measure, _detail)
