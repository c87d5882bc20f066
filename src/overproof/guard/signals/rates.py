"""Shares and figures as the signals of accounts use them: shrunk for few, in words for people."""

from __future__ import annotations

from math import log, nan

__all__ = ["DAY_S", "about_share_of", "age_days", "excess", "log_odds", "share_of"]

DAY_S = 86400.0
WEIGHT = 20.0


def log_odds(count: float, total: int, usual: float, weight: float = WEIGHT) -> float:
    """How far a share lies above the usual one, in nats of odds, shrunk towards it; at least 0.

    The posterior mean under a Beta prior of mean ``usual`` worth ``weight`` requests: one odd
    request of two says little, three hundred of a thousand say much. NaN without requests.
    """
    if total <= 0:
        return nan
    share = (min(count, total) + weight * usual) / (total + weight)
    return max(0.0, log(share / (1 - share)) - log(usual / (1 - usual)))


def excess(count: int, total: int, usual: float) -> float:
    """`log_odds` squeezed into [0, 1), for use as a factor."""
    odds = log_odds(count, total, usual)
    return odds / (1 + odds)


def share_of(count: int, total: int) -> str:
    """``"12 of 300 requests (4.0 %)"``."""
    percent = 100 * count / total if total else 0.0
    return f"{count:,} of {total:,} requests ({percent:.1f} %)"


def about_share_of(count: float, total: int) -> str:
    """As `share_of`, of requests that were counted by how certain each is."""
    return "about " + share_of(round(count), total)


def age_days(first_seen: float, now: float) -> float:
    """Days since the account was first seen; never below 0."""
    return max(0.0, now - first_seen) / DAY_S
