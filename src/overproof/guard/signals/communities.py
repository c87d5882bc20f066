"""Every signal of a community, in the order of the vector that they make.

The order is part of what a scorer was fitted on: append, never insert.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from overproof.guard.parts import Community, CommunitySignal
from overproof.guard.signals import (
    community_address,
    community_adoption,
    community_alike,
    community_balance,
    community_breadth,
    community_coverage,
    community_creation,
    community_device,
    community_disjoint,
    community_elicitation,
    community_first_day,
    community_injection,
    community_payer,
    community_pivot,
    community_rarity,
    community_round_clock,
    community_rubric,
    community_sampling,
    community_shared_text,
    community_spread,
    community_succession,
    community_synchrony,
    community_synthesis,
)

__all__ = ["COMMUNITY_SIGNALS", "community_vector"]

COMMUNITY_SIGNALS: tuple[CommunitySignal, ...] = (
    community_injection.SIGNAL,
    community_shared_text.SIGNAL,
    community_rarity.SIGNAL,
    community_elicitation.SIGNAL,
    community_rubric.SIGNAL,
    community_synthesis.SIGNAL,
    community_synchrony.SIGNAL,
    community_balance.SIGNAL,
    community_alike.SIGNAL,
    community_creation.SIGNAL,
    community_pivot.SIGNAL,
    community_adoption.SIGNAL,
    community_succession.SIGNAL,
    community_payer.SIGNAL,
    community_device.SIGNAL,
    community_address.SIGNAL,
    community_spread.SIGNAL,
    community_coverage.SIGNAL,
    community_disjoint.SIGNAL,
    community_breadth.SIGNAL,
    community_first_day.SIGNAL,
    community_round_clock.SIGNAL,
    community_sampling.SIGNAL,
)


def community_vector(community: Community) -> npt.NDArray[np.float64]:
    """One number a signal, (23,), higher more suspicious; NaN where there is nothing to measure."""
    return np.array([signal.measure(community) for signal in COMMUNITY_SIGNALS], dtype=np.float64)
