"""A new account at full use from its first day.

Requests in the first 24 hours as a share of the busiest day since. Not before the second day is
over, as until then the first is the only one; not for an account that was made more than a week
before the log begins, as its first day was not seen. False positives: 57 % of the new tenants of a
public cloud reach 80 % of their peak on day one (ServeGen), so it can only tip a balance. Cannot
see: campaigns that let accounts warm up.
"""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from overproof.guard.parts import Family, Signal
from overproof.guard.signals.rates import DAY_S, age_days

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["SIGNAL"]

PRIOR = 10.0
LEAST_DAYS = 2.0
NEW_DAYS = 7.0


def _measure(state: AccountState, now: float) -> float:
    if age_days(state.first_seen, now) < LEAST_DAYS or not state.peak_day:
        return nan
    if state.first_seen - state.created > NEW_DAYS * DAY_S:  # False where created is unknown
        return nan
    return (state.daily[0] + PRIOR / 2) / (state.peak_day + PRIOR)


def _detail(state: AccountState, now: float) -> str:
    percent = 100 * state.daily[0] / state.peak_day if state.peak_day else 0.0
    return (
        f"{state.daily[0]:,} requests on its first day, {percent:.0f} % of its busiest "
        f"({state.peak_day:,}) in {age_days(state.first_seen, now):.1f} days"
    )


SIGNAL = Signal("first_day", Family.USE, _measure, _detail)
