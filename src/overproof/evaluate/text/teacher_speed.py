"""How fast the teacher was, from the ledger's record of the test requests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from overproof.records.certificate import Speed
from overproof.records.exchange import Exchange

__all__ = ["teacher_speed"]

PAUSE_S = 5.0


def teacher_speed(asked: Sequence[Exchange], n_prompts: int) -> Speed:
    """Rate and latency of the exchanges about ``n_prompts`` prompts, pauses left out.

    The test prompts were asked amid others, so the rate is a lower bound of what it can do.
    """
    collected = [exchange for exchange in asked if exchange.source == "collected"]
    if len(collected) < 2:
        return Speed(how="not measured: the answers were imported, or the ledger is not here")
    latencies = [exchange.completion.latency_s for exchange in collected]
    moments = sorted(datetime.fromisoformat(e.created_at).timestamp() for e in collected)
    gaps = np.diff(moments)
    near = gaps <= PAUSE_S
    busy = float(gaps[near].sum())
    p50, p95 = np.quantile(latencies, [0.5, 0.95])
    return Speed(
        requests_per_second=float(near.sum()) / busy if busy > 0 else None,
        latency_p50_s=float(p50),
        latency_p95_s=float(p95),
        n=len(collected),
        how=(
            f"from the ledger, of {len(collected):,} of {n_prompts:,} test prompts while they were "
            f"collected amid others, pauses over {PAUSE_S:g} s left out"
        ),
    )
