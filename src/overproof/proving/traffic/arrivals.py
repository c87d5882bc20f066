"""When requests come: bursts, hours of the day, days of the week, a heavy tail over clients.

Gaps are Gamma or Weibull with a coefficient of variation of 1.25 to 1.5, the median of 1.25–1.5
that ServeGen found over tenants of a public cloud (Gamma after BurstGPT, arXiv 2401.17644). They
are drawn in operational time and stretched by the hour of the week, as a renewal process with a
modulated rate: the coefficient holds once the week's shape is taken out.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from random import Random

__all__ = ["HOUR", "SHAPES", "Shape", "arrivals", "gap", "heavy_tail", "local_hour"]

HOUR = 3_600.0
WEEK_H = 168
DAY_S = 86_400.0
# 1970-01-01 was a Thursday: hours from the epoch to the first Monday.
TO_MONDAY_H = 96

_DAYS = {
    "office": (
        (.05, .03, .03, .03, .03, .05, .2, .6, 1.2, 1.8, 2.0, 1.9,
         1.4, 1.7, 2.0, 1.9, 1.7, 1.2, .6, .4, .3, .2, .15, .1), (.12, .08)),
    "consumer": (
        (.6, .35, .2, .12, .1, .12, .25, .5, .8, .95, 1.05, 1.1,
         1.15, 1.1, 1.1, 1.15, 1.25, 1.35, 1.5, 1.7, 1.9, 1.95, 1.7, 1.1), (1.1, 1.15)),
    "nightly": (
        (4.0, 4.5, 4.5, 4.0, 3.0, 1.5, .3, .1, .05, .05, .05, .05,
         .05, .05, .05, .05, .05, .05, .05, .05, .1, .2, .6, 2.0), (1.0, 1.0)),
    "flat": ((1.0,) * 24, (1.0, 1.0)),
}  # fmt: skip
SHAPES = tuple(_DAYS)


class Shape:
    """Relative rate by hour of the week in one time zone; its mean over the week is one.

    Args:
        kind: one of ``SHAPES``.
        zone_h: hours ahead of UTC.
    """

    __slots__ = ("_ahead_h", "_sums", "rates")

    def __init__(self, kind: str, zone_h: int = 0) -> None:
        day, weekend = _DAYS[kind]
        week = [
            rate * (weekend[weekday - 5] if weekday >= 5 else 1.0)
            for weekday in range(7)
            for rate in day
        ]
        mean = sum(week) / WEEK_H
        self.rates = [rate / mean for rate in week]
        self._ahead_h = zone_h - TO_MONDAY_H
        total = 0.0
        self._sums = [0.0]
        for rate in self.rates:
            total += rate
            self._sums.append(total)

    def after(self, ts: float, operational_s: float) -> float:
        """When ``operational_s`` seconds at the mean rate have passed since ``ts``."""
        hours = ts / HOUR + self._ahead_h
        week, hour = divmod(hours, WEEK_H)
        whole = int(hour)
        spent = self._sums[whole] + (hour - whole) * self.rates[whole] + operational_s / HOUR
        weeks, left = divmod(spent, WEEK_H)
        found = min(bisect_right(self._sums, left) - 1, WEEK_H - 1)
        inside = (left - self._sums[found]) / self.rates[found]
        return ((week + weeks) * WEEK_H + found + inside - self._ahead_h) * HOUR

    def operational(self, ts: float) -> float:
        """Seconds at the mean rate since the epoch: the inverse of `after`, for measuring."""
        week, hour = divmod(ts / HOUR + self._ahead_h, WEEK_H)
        whole = int(hour)
        inside = self._sums[whole] + (hour - whole) * self.rates[whole]
        return (week * WEEK_H + inside) * HOUR


def local_hour(ts: float, zone_h: int) -> float:
    """Hour of the day, 0 to 24, in a time zone."""
    return (ts / HOUR + zone_h) % 24


@lru_cache(maxsize=1_024)
def weibull_shape(cv: float) -> float:
    """The k at which a Weibull variable has this coefficient of variation, by bisection.

    Its square is Γ(1 + 2/k) / Γ(1 + 1/k)² − 1, which falls as k rises.
    """
    low, high = 0.3, 20.0
    for _ in range(30):
        k = 0.5 * (low + high)
        if math.gamma(1.0 + 2.0 / k) > (cv * cv + 1.0) * math.gamma(1.0 + 1.0 / k) ** 2:
            low = k
        else:
            high = k
    return 0.5 * (low + high)


def gap(rng: Random, cv: float, weibull: bool = False) -> float:
    """One gap with mean 1 and coefficient of variation ``cv``."""
    if weibull:
        k = weibull_shape(cv)
        return rng.weibullvariate(1.0 / math.gamma(1.0 + 1.0 / k), k)
    k = 1.0 / (cv * cv)
    return rng.gammavariate(k, 1.0 / k)


def arrivals(
    rng: Random,
    begin: float,
    end: float,
    a_day: float,
    shape: Shape,
    *,
    cv: float | None = None,
) -> Iterator[float]:
    """Moments from ``begin`` to ``end``, about ``a_day`` of them a day, in bursts.

    Args:
        rng: of the gaps.
        begin: seconds since the epoch; the client was there before.
        end: seconds since the epoch.
        a_day: at the mean over a week.
        shape: of the week.
        cv: of the gaps; drawn from 1.25 to 1.5 where none is given.
    """
    if a_day <= 0:
        return
    cv = rng.uniform(1.25, 1.5) if cv is None else cv
    weibull = rng.random() < 0.5
    k = weibull_shape(cv) if weibull else 1.0 / (cv * cv)
    mean = DAY_S / a_day
    scale = mean / math.gamma(1.0 + 1.0 / k) if weibull else mean / k
    draw = rng.weibullvariate if weibull else rng.gammavariate
    after = shape.after
    # The first gap is cut at random, as if the client had been there before the log.
    first = rng.random()
    ts = begin
    while True:
        length = draw(scale, k) if weibull else draw(k, scale)
        ts = after(ts, length * first)
        first = 1.0
        if ts >= end:
            return
        yield ts


def heavy_tail(rng: Random, n: int, top: int, share: float, sigma: float = 1.0) -> list[float]:
    """Weights of ``n`` clients that sum to one; the ``top`` heaviest carry ``share`` of it.

    Below and above the cut weights are lognormal. ServeGen: the ten heaviest of 314 tenants carry
    63 to 93 %.
    """
    raw = sorted((rng.lognormvariate(0.0, sigma) for _ in range(n)), reverse=True)
    head, tail = raw[:top], raw[top:]
    if not tail:
        weights = [weight / sum(head) for weight in head]
    else:
        weights = [weight / sum(head) * share for weight in head]
        weights += [weight / sum(tail) * (1.0 - share) for weight in tail]
    rng.shuffle(weights)
    return weights
