"""Which honest accounts an account is set against: those of its plan, as busy as it is.

Against mostly light customers the whole error rate would fall on the few heavy ones, whose conduct
is odd by comparison. So every look lies in a *stratum*: the plan of the account's first
look, and the band of requests that it has sent so far. The number of requests only rises, so that
an account passes through the bands once, from below, and is judged in each by itself.
"""

from __future__ import annotations

__all__ = ["BANDS", "MARK", "band_part", "plan_part", "stratum_of"]

# From how many requests on. Most people never leave the first; a benchmark reaches the last.
BANDS = (("few", 0), ("some", 120), ("many", 1_200))
MARK = "|"


def stratum_of(plan: str | None, requests: int) -> str:
    """The stratum of a look, ``plan|band``; the plan is empty where it is unknown."""
    band = [name for name, least in BANDS if requests >= least][-1]
    return f"{plan or ''}{MARK}{band}"


def plan_part(stratum: str) -> str:
    """The plan in the name of a stratum."""
    return stratum.partition(MARK)[0]


def band_part(stratum: str) -> str:
    """The band with its mark, which is the name of the stratum of all plans; "" without one."""
    _, mark, band = stratum.partition(MARK)
    return mark + band
