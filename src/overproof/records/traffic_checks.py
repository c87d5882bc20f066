"""Whether what stands in a verdict can be true: files from outside may hold anything."""

from __future__ import annotations

import math
from collections.abc import Iterator

from overproof.records.traffic import TrafficVerdict

__all__ = ["LATEST", "time_problem", "verdict_problem"]

LATEST = 253_402_300_800.0  # the year 10000, in seconds since the epoch
MOST = 2**63 - 1


def time_problem(value: object) -> str:
    """Why ``value`` is no time in seconds since the epoch, in words; "" if it is one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "is no time in seconds since the epoch"
    if not 0 <= value < LATEST:  # NaN is not
        return "is no time between 1970 and the year 9999"
    return ""


def verdict_problem(verdict: TrafficVerdict) -> str:
    """The first field that cannot be true, and why: ``decided_at is …``; "" if all can."""
    return next((f"{name} {problem}" for name, problem in _fields(verdict) if problem), "")


def _fields(verdict: TrafficVerdict) -> Iterator[tuple[str, str]]:
    yield "decided_at", time_problem(verdict.decided_at)
    if verdict.expires_at is not None:
        yield "expires_at", time_problem(verdict.expires_at)
    yield "n_calibration", _count(verdict.n_calibration)
    yield "tokens_before", _count(verdict.tokens_before)
    yield "p_value", _probability(verdict.p_value)
    yield "e_value", _evidence(verdict.e_value)
    for place, one in enumerate(verdict.evidence):
        yield f"evidence[{place}].p_value", _probability(one.p_value)
        yield f"evidence[{place}].e_value", _evidence(one.e_value)


def _count(value: int) -> str:
    return "" if 0 <= value <= MOST else "is no count"


def _probability(value: float | None) -> str:
    return "" if value is None or 0.0 <= value <= 1.0 else f"is {value:g}, and no probability"


def _evidence(value: float | None) -> str:
    sound = value is None or (value >= 0.0 and math.isfinite(value))
    return "" if sound else f"is {value:g}, and no e-value"
