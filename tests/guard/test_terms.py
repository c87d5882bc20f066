"""Terms: an old account begins anew, and its conduct is looked at again."""

from __future__ import annotations

from typing import Any

import pytest
from account_traffic import DAY, MONDAY, event
from guard_logs import BusyJudge
from pydantic import ValidationError

from overproof.config.guard import GuardConfig, LooksConfig
from overproof.guard.engine import Guard
from overproof.records.traffic import Event, TrafficVerdict

HOUR = 3600.0
CONFIG = GuardConfig()


def asked(ts: float, account: str = "sleeper", **more: Any) -> Event:
    return event(MONDAY + ts, request_id=f"{account}-{ts}", account=account, **more)


def looked(guard: Guard, stream: list[Event]) -> list[TrafficVerdict]:
    for one in stream:
        guard.observe(one)
    guard.finish()
    return [one for one in guard.verdicts() if one.subject.kind == "account"]


def test_whoever_sleeps_first_is_looked_at_like_a_new_account_when_the_term_is_over() -> None:
    guard = Guard(CONFIG, judge=BusyJudge(), passes=True)  # type: ignore[arg-type]
    busy = [asked(9 * DAY + k * HOUR / 4) for k in range(4 * 24 * 8)]
    said = looked(guard, [asked(0.0), *busy])
    ages_h = [(one.decided_at - MONDAY) / HOUR for one in said]
    # The looks of the first term had come and gone before it woke; a term lasts fourteen days, and
    # two hours of the next one are too few requests to tell.
    assert ages_h == pytest.approx([14 * 24 + age for age in (6, 12, 24, 48)], abs=0.26)
    assert guard.counts["begun anew"] == 1
    state = guard.accounts.find("sleeper")
    assert state is not None
    assert (state.index, state.known_since, state.created) == (0, MONDAY, MONDAY)
    assert state.first_seen == MONDAY + 14 * DAY
    assert state.requests == sum(one.ts >= MONDAY + 14 * DAY for one in busy)


def test_the_looks_of_a_term_are_taken_before_the_next_one_begins() -> None:
    guard = Guard(CONFIG, judge=BusyJudge(), passes=True)  # type: ignore[arg-type]
    said = looked(guard, [*(asked(k * 60.0) for k in range(30)), asked(30 * DAY)])
    assert len(said) == len(CONFIG.looks.ages_h)
    assert "30 requests" in said[-1].evidence[0].detail


def test_what_an_account_is_known_for_outlasts_its_terms() -> None:
    guard = Guard(CONFIG, passes=True)
    guard.observe(asked(0.0, org="acme", payer="p1", plan="pro"))
    guard.observe(asked(5 * DAY, org="beta"))
    guard.observe(asked(15 * DAY))
    state = guard.accounts.find("sleeper")
    assert state is not None
    assert (state.org, state.payer, state.plan, state.requests) == ("beta", "p1", "pro", 1)
    assert (state.changed, guard.accounts.changed) == (1, 1)
    assert state is guard.accounts.at(state.index)


def test_a_term_goes_on_from_a_snapshot() -> None:
    stream = [asked(k * 7 * HOUR, f"a{k % 3}") for k in range(200)]
    whole, half = Guard(CONFIG, passes=True), Guard(CONFIG, passes=True)
    for place, one in enumerate(stream):
        whole.observe(one)
        if place == 60:
            half.restore(whole.state())
        elif place > 60:
            half.observe(one)
    assert whole.counts["begun anew"] == half.counts["begun anew"] == 3 * 4
    assert repr(half.accounts.state()) == repr(whole.accounts.state())


def test_looks_lie_within_a_term() -> None:
    with pytest.raises(ValidationError, match="within term_days"):
        LooksConfig(ages_h=(2.0, 400.0))
    assert LooksConfig(ages_h=(2.0, 400.0), term_days=17).term_days == 17
