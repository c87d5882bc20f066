"""What the pass knows of a community beyond its members' own states.

A community signal is a pure function of a `Community`. What it needs of everybody else (who else
took to the new model, what share of traffic is code) is measured once a pass and put here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CommunityFacts", "Population", "SharedThing"]


@dataclass(frozen=True)
class SharedThing:
    """Something rare that members share.

    Attributes:
        kind: system, template, opening, closing, shingle, payer, device, address, pivot,
            synchrony.
        weight: in nats; see `Edge`.
        first: seconds since the epoch; when a second account used it.
        users: positions among the community's members.
        uses: their requests with it.
        banned: since when it is known from blocked accounts; NaN if it is not.
    """

    kind: str
    weight: float
    first: float
    users: npt.NDArray[np.int64]
    uses: npt.NDArray[np.int64]
    banned: float


@dataclass(frozen=True)
class Population:
    """All accounts at a pass, or an even sample of them; every account counts once.

    Attributes:
        accounts: how many there are.
        away: (28,) mean share of requests to another than the account's home model, by six hours.
        shape: (336,) mean over accounts of activity by half hour, as a multiple of its weekly
            mean: above 1 where everybody is active.
        capabilities: (16,) mean share of requests by capability.
    """

    accounts: int
    away: npt.NDArray[np.float64]
    shape: npt.NDArray[np.float64]
    capabilities: npt.NDArray[np.float64]


@dataclass(frozen=True)
class CommunityFacts:
    """Arrays over a community's M members, in their order.

    Attributes:
        active: (M, 336) requests by half hour of the last seven days, 255 at most.
        away: (M, 28) requests to another than the home model, by six hours.
        totals: (M, 28) all requests by the same six hours.
        owners: (M,) who pays: equal for accounts of one organisation or one payer.
        banned: (M,) is the account blocked?
        things: what they share, the heaviest first; at most 256.
        measured: what several signals measure of the community, by name, so that it is done once.
    """

    active: npt.NDArray[np.uint8]
    away: npt.NDArray[np.uint8]
    totals: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]
    banned: npt.NDArray[np.bool_]
    things: tuple[SharedThing, ...]
    population: Population
    measured: dict[str, Any] = field(init=False, repr=False, compare=False, default_factory=dict)
