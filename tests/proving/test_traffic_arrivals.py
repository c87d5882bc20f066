"""Arrivals, lengths and tails as published, within tolerances that a thousand draws allow."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise
from random import Random

import pytest

from overproof.proving.traffic.arrivals import HOUR, SHAPES, Shape, arrivals, gap, heavy_tail
from overproof.proving.traffic.lengths import (
    CODE,
    CONVERSATION,
    NARROW_SHARE,
    WRITING_SHARE,
    tenant,
)

START = 1_772_409_600.0  # Monday 2026-03-02T00:00:00Z
DAY = 86_400.0


@pytest.mark.parametrize("weibull", [False, True])
@pytest.mark.parametrize("cv", [1.25, 1.5])
def test_gaps_have_mean_one_and_the_coefficient_asked_for(cv: float, weibull: bool) -> None:
    rng = Random(f"{cv}/{weibull}")
    drawn = [gap(rng, cv, weibull) for _ in range(40_000)]
    assert statistics.fmean(drawn) == pytest.approx(1.0, abs=0.03)
    assert statistics.pstdev(drawn) / statistics.fmean(drawn) == pytest.approx(cv, abs=0.06)


@pytest.mark.parametrize("kind", SHAPES)
def test_the_week_keeps_its_mean_and_time_runs_both_ways(kind: str) -> None:
    shape = Shape(kind, 5)
    assert sum(shape.rates) == pytest.approx(168.0)
    rng = Random(kind)
    ts = START
    for _ in range(300):
        ahead = rng.expovariate(1.0 / (3 * HOUR))
        later = shape.after(ts, ahead)
        assert later > ts
        assert shape.operational(later) - shape.operational(ts) == pytest.approx(ahead, abs=1e-3)
        ts = later
    week = 168 * HOUR
    assert shape.after(START, week) == pytest.approx(START + week, abs=1e-3)


def test_arrivals_keep_the_rate_and_burst_once_the_week_is_taken_out() -> None:
    rng = Random(5)
    coefficients = []
    for _ in range(12):
        shape = Shape("consumer", 1)
        moments = list(arrivals(rng, START, START + 14 * DAY, 200.0, shape))
        assert moments == sorted(moments)
        assert moments[0] > START
        assert moments[-1] < START + 14 * DAY
        assert len(moments) / 14 == pytest.approx(200.0, rel=0.15)
        at = [shape.operational(ts) for ts in moments]
        gaps = [late - early for early, late in pairwise(at)]
        coefficients.append(statistics.pstdev(gaps) / statistics.fmean(gaps))
    assert 1.2 < statistics.median(coefficients) < 1.55


def test_office_hours_are_by_day_in_their_own_time_zone() -> None:
    moments = list(arrivals(Random(1), START, START + 14 * DAY, 300.0, Shape("office", 8)))
    local = [((ts / HOUR) + 8) % 24 for ts in moments]
    weekday = [int((ts - START + 8 * HOUR) // DAY) % 7 for ts in moments]
    assert sum(8 <= hour < 19 for hour in local) / len(local) > 0.75
    assert sum(day >= 5 for day in weekday) / len(weekday) < 0.1


@pytest.mark.parametrize("share", [0.63, 0.68, 0.93])
def test_the_ten_heaviest_carry_what_was_asked(share: float) -> None:
    weights = heavy_tail(Random(2), 300, 10, share)
    assert sum(weights) == pytest.approx(1.0)
    assert sum(sorted(weights)[-10:]) == pytest.approx(share, abs=0.01)
    assert heavy_tail(Random(2), 4, 10, share)[0] > 0
    assert heavy_tail(Random(2), 0, 10, share) == []


@pytest.mark.parametrize("lengths", [CODE, CONVERSATION])
def test_lengths_have_the_published_medians(lengths: object) -> None:
    rng = Random(3)
    pairs = [lengths.draw(rng) for _ in range(6_000)]  # type: ignore[attr-defined]
    into = statistics.median(pair[0] for pair in pairs)
    out = statistics.median(pair[1] for pair in pairs)
    assert into == pytest.approx(lengths.into, rel=0.06)  # type: ignore[attr-defined]
    assert out == pytest.approx(lengths.out, rel=0.1)  # type: ignore[attr-defined]
    assert min(min(pair) for pair in pairs) >= 1


def test_one_tenant_in_eight_asks_at_nearly_one_length() -> None:
    rng = Random(4)
    narrow = 0
    for _ in range(1_500):
        own = tenant(rng, CONVERSATION)
        logs = math.sqrt(math.exp(own.into_sigma**2) - 1.0)
        narrow += logs < 0.15
    assert narrow / 1_500 == pytest.approx(NARROW_SHARE, abs=0.03)


def test_a_quarter_of_the_tenants_are_sent_more_than_they_send() -> None:
    rng = Random(6)
    tenants = [tenant(rng, CONVERSATION) for _ in range(1_500)]
    writing = sum(own.out > own.into for own in tenants) / len(tenants)
    assert WRITING_SHARE - 0.06 < writing < WRITING_SHARE + 0.03
