"""Use at all hours: no night.

The quietest eight hours of the day on the circle of 24, as a share of what an even spread would
give; counted in clock hours with a request rather than requests, so that one busy night does not
hide the others. False positives: products with users in every time zone; 5.9 % of tenants are
never idle for an hour (ServeGen). Cannot see: campaigns that keep office hours.
"""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal
from overproof.guard.signals.rates import age_days

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]

NIGHT_H = 8
DAY_H = 24
PRIOR = 4.0


def _quietest(hour_days: bytes) -> tuple[int, int]:
    """Active clock hours in the quietest window of eight hours, and where it begins."""
    twice = hour_days * 2
    night = sum(twice[:NIGHT_H])
    quietest = (night, 0)
    for start in range(1, DAY_H):
        night += twice[start + NIGHT_H - 1] - twice[start - 1]
        quietest = min(quietest, (night, start))
    return quietest


def _measure(state: AccountState, now: float) -> float:
    if age_days(state.first_seen, now) < 1.0:
        return nan
    night, _ = _quietest(state.hour_days)
    return night / (state.active_hours * NIGHT_H / DAY_H + PRIOR)


def _detail(state: AccountState, _now: float) -> str:
    night, start = _quietest(state.hour_days)
    active = state.active_hours
    percent = 100 * night / active if active else 0.0
    return (
        f"active in {active:,} clock hours, {active / max(1, state.active_days):.1f} a day, and in "
        f"{state.hours.bit_count()} of the 168 hours of the week; its quietest eight hours, from "
        f"{start}:00 UTC, hold {percent:.0f} % of them (33 % if there were no night)"
    )


SIGNAL = Signal("round_the_clock", Family.USE, _measure, _detail)
