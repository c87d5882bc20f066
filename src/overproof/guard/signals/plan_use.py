"""Use against what is usual for the plan.

Requests per active day, as standard scores of their logarithm under the plan. What is usual is
`PLANS`, a constant: a rough scale to put plans side by side; the conformal calibration within a
stratum sets what is rare. False positives: any heavy user. Cannot see: low use of many accounts,
which is how campaigns are published to work (13 to 857 requests a day and account).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log, nan
from typing import TYPE_CHECKING, NamedTuple

from overproof.guard.parts import Family, Signal

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["PLANS", "SIGNAL", "Usual", "against_plan"]

PRIOR_DAYS = 1.0


class Usual(NamedTuple):
    """Requests per active day: their median, and the standard deviation of their logarithm."""

    median: float
    spread: float


PLANS: Mapping[str, Usual] = {
    "free": Usual(5.0, 1.2),
    "pro": Usual(30.0, 1.4),
    "team": Usual(150.0, 1.6),
    "enterprise": Usual(2000.0, 2.2),
}
OTHER = Usual(50.0, 2.0)


def against_plan(state: AccountState, plans: Mapping[str, Usual] = PLANS) -> float:
    """Standard score of the account's requests per active day; NaN without a plan.

    The rate is shrunk towards the median as if one such day had been seen already.
    """
    if state.plan is None or not state.active_days:
        return nan
    usual = plans.get(state.plan.lower(), OTHER)
    days = state.active_days + PRIOR_DAYS
    daily = (state.requests + PRIOR_DAYS * usual.median) / days
    return log(daily / usual.median) / usual.spread


def _measure(state: AccountState, _now: float) -> float:
    return against_plan(state)


def _detail(state: AccountState, _now: float) -> str:
    if state.plan is None or not state.active_days:
        return "no plan known"
    known = state.plan.lower()
    usual = PLANS.get(known, OTHER)
    named = f"the {known} plan" if known in PLANS else "an unlisted plan"
    return (
        f"{state.requests / state.active_days:,.0f} requests per active day on {named}, "
        f"where about {usual.median:,.0f} are usual"
    )


SIGNAL = Signal("plan_use", Family.USE, _measure, _detail)
