"""The signals of one account, in a fixed order: one vector for the scorer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from overproof.guard.signals import (
    breadth,
    elicitation,
    first_day,
    fresh_account,
    log_probs,
    long_answers,
    many_addresses,
    model_pivot,
    one_template,
    owner_change,
    partition,
    plan_use,
    round_the_clock,
    rubric_grading,
    samples_a_prompt,
    synthesis,
    technique_sweep,
    temperature_sweep,
    throughput,
)

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState
    from overproof.guard.parts import Signal

__all__ = ["ACCOUNT_SIGNALS", "account_vector"]

ACCOUNT_SIGNALS: tuple[Signal, ...] = (
    elicitation.SIGNAL,
    rubric_grading.SIGNAL,
    synthesis.SIGNAL,
    technique_sweep.SIGNAL,
    one_template.SIGNAL,
    samples_a_prompt.SIGNAL,
    temperature_sweep.SIGNAL,
    log_probs.SIGNAL,
    first_day.SIGNAL,
    round_the_clock.SIGNAL,
    plan_use.SIGNAL,
    throughput.SIGNAL,
    long_answers.SIGNAL,
    fresh_account.SIGNAL,
    many_addresses.SIGNAL,
    owner_change.SIGNAL,
    model_pivot.SIGNAL,
    breadth.SIGNAL,
    partition.SIGNAL,
)
"""A frozen scorer holds one weight each, so the order is part of its version."""

_MEASURES = tuple(signal.measure for signal in ACCOUNT_SIGNALS)


def account_vector(state: AccountState, now: float) -> npt.NDArray[np.float64]:
    """Every signal of one account at ``now`` (seconds since the epoch), higher is more suspicious.

    Returns:
        Shape (len(ACCOUNT_SIGNALS),); NaN where the account gives a signal nothing to measure.
    """
    return np.array([measure(state, now) for measure in _MEASURES], dtype=np.float64)
