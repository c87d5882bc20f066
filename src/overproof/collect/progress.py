"""Live figures of a collection."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from overproof.records.exchange import Outcome

__all__ = ["Progress"]


@dataclass
class Progress:
    """Live figures of a collection. ``cost_usd`` is ``None`` once a price is unknown.

    ``draining`` counts the answers that are waited for before everything is closed. ``status`` is
    what the teacher says of itself, such as where its batches stand.
    """

    total: int = 0
    done: int = 0
    calls: int = 0
    cached: int = 0
    cost_usd: float | None = 0.0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    draining: int = 0
    status: tuple[str, ...] = ()
