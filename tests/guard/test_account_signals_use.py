"""Signals of when, how much, from where and of which model; and the vector of them all."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from account_traffic import DAY, HOUR, MONDAY, account, all_day, daytime, event, person, sketch

from overproof.guard.account_snapshot import plain_account
from overproof.guard.accounts import AccountState
from overproof.guard.parts import Signal
from overproof.guard.signals import (
    first_day,
    fresh_account,
    long_answers,
    many_addresses,
    model_pivot,
    owner_change,
    plan_use,
    round_the_clock,
    throughput,
)
from overproof.guard.signals.accounts import ACCOUNT_SIGNALS, account_vector


def value(signal: Signal, state: AccountState, later: float = HOUR) -> float:
    return signal.measure(state, state.last_seen + later)


def words(signal: Signal, state: AccountState) -> str:
    return signal.detail(state, state.last_seen + HOUR)


def rising(days: list[int], **fields: float) -> AccountState:
    return account(
        (event(MONDAY + day * DAY + n * 30, **fields), None)
        for day, number in enumerate(days)
        for n in range(number)
    )


def test_full_use_on_the_first_day_rises_and_an_adoption_does_not() -> None:
    signal = first_day.SIGNAL
    pool = rising([700, 690, 710, 700])
    assert value(signal, pool) > 0.95
    assert words(signal, pool).startswith(
        "700 requests on its first day, 99 % of its busiest (710)"
    )
    assert value(signal, rising([10, 80, 300, 700])) < 0.05
    assert abs(value(signal, rising([2, 1, 2])) - 0.5) < 0.15  # few requests say little


def test_the_first_day_is_measured_in_days_and_only_where_it_was_seen() -> None:
    signal = first_day.SIGNAL
    start = [(event(MONDAY + n), None) for n in range(50)]
    assert math.isnan(signal.measure(account(start), MONDAY + 1.9 * DAY))
    assert signal.measure(account(start), MONDAY + 2.1 * DAY) > 0.9
    tenured = rising([700, 700, 700], account_created=MONDAY - 30 * DAY)
    assert math.isnan(value(signal, tenured))
    young = rising([700, 700, 700], account_created=MONDAY - DAY)
    assert value(signal, young) > 0.9


def test_answers_longer_than_what_was_sent_rise_and_summaries_do_not() -> None:
    signal = long_answers.SIGNAL
    harvest = rising([200], input_tokens=420, output_tokens=1_900)
    assert value(signal, harvest) == pytest.approx(math.log(384_000 / 92_000))
    assert words(signal, harvest) == "380,000 tokens of answers, 4.5 times what was sent"
    assert value(signal, rising([200], input_tokens=1_000, output_tokens=130)) < -1
    # Two long answers say little, and what is not in the log says nothing.
    assert value(signal, rising([2], input_tokens=420, output_tokens=1_900)) < 0
    assert math.isnan(value(signal, rising([200], input_tokens=None, output_tokens=1_900)))


def test_no_night_rises_at_26_requests_a_day_and_office_hours_do_not() -> None:
    signal = round_the_clock.SIGNAL
    machine = account((event(ts), None) for ts in all_day(4, 26))
    assert value(signal, machine) > 0.8
    assert "(33 % if there were no night)" in words(signal, machine)
    office = account((event(ts), None) for ts in daytime(20, 500))
    assert value(signal, office) == 0
    late = account(
        [(event(ts), None) for ts in daytime(20, 26)]
        + [(event(MONDAY + 20 * DAY + hour * HOUR), None) for hour in range(24)]
    )
    assert value(signal, late) < 0.15  # one night at work
    few = account((event(MONDAY + n * 9 * HOUR), None) for n in range(6))
    assert value(signal, few) < 0.4


def test_the_clock_needs_a_day() -> None:
    machine = account((event(ts), None) for ts in all_day(1, 200))
    assert math.isnan(round_the_clock.SIGNAL.measure(machine, MONDAY + 0.99 * DAY))
    assert round_the_clock.SIGNAL.measure(machine, MONDAY + 1.01 * DAY) > 0.5


@pytest.mark.parametrize("days", [1, 4, 30])
def test_use_is_set_against_the_plan_per_day(days: int) -> None:
    signal = plan_use.SIGNAL
    free, team = (
        account((event(ts, plan=plan), None) for ts in all_day(days, 150))
        for plan in ("free", "team")
    )
    assert value(signal, free) > 2
    assert value(signal, team) == pytest.approx(0, abs=0.01)
    assert "150 requests per active day on the free plan" in words(signal, free)
    assert math.isnan(value(signal, account([(event(), None)])))


def test_one_request_on_a_free_plan_is_nothing_and_other_plans_have_a_middle_scale() -> None:
    assert value(plan_use.SIGNAL, account([(event(plan="free"), None)])) < 0
    odd = account((event(ts, plan="gold <b>"), None) for ts in all_day(2, 5000))
    assert value(plan_use.SIGNAL, odd) > 2
    assert "<b>" not in words(plan_use.SIGNAL, odd)
    assert plan_use.against_plan(odd, {"gold <b>": plan_use.Usual(5000.0, 1.0)}) < 0.01


def test_tokens_are_counted_per_active_day() -> None:
    signal = throughput.SIGNAL
    small, same, large = (
        account((event(ts, input_tokens=tokens, output_tokens=tokens), None) for ts in times)
        for tokens, times in (
            (50, all_day(1, 10)), (50, all_day(30, 10)), (50_000, all_day(1, 10)),
        )
    )  # fmt: skip
    assert value(signal, small) == pytest.approx(3, abs=0.01)
    assert value(signal, same) == pytest.approx(3, abs=0.01)
    assert value(signal, large) == pytest.approx(6, abs=0.01)
    assert words(signal, same) == "500 tokens in and 500 out on each of 30 active days"
    assert math.isnan(value(signal, person()))


def test_an_account_used_at_once_is_fresher_than_a_tenured_one() -> None:
    signal = fresh_account.SIGNAL
    fresh, tenured, skewed = (
        account([(event(account_created=MONDAY - age), None)]) for age in (0, 400 * DAY, -DAY)
    )
    assert value(signal, fresh) == value(signal, skewed) == 0
    assert value(signal, tenured) < -3.9
    assert value(signal, tenured, 90 * DAY) == value(signal, tenured)  # at first use, not now
    assert words(signal, tenured) == "made 400.0 days before its first request"
    assert math.isnan(value(signal, person()))


def test_a_key_used_from_everywhere_rises_above_a_fleet_of_build_machines() -> None:
    signal = many_addresses.SIGNAL
    proxied = account(
        (event(ts, ip=f"ip{n}", asn=n % 40, user_agent=f"ua{n % 5}", device=f"d{n % 30}"), None)
        for n, ts in enumerate(all_day(4, 50))
    )
    machines = account(
        (event(ts, ip=f"ip{n}", asn=14618, user_agent="ci", device=None), None)
        for n, ts in enumerate(all_day(4, 50))
    )
    home = account((event(ts, ip="ip", asn=1, user_agent="ua"), None) for ts in all_day(4, 50))
    assert value(signal, proxied) > 2 * value(signal, machines)
    assert value(signal, home) == 0
    assert re.match(r"about \d+ addresses in \d+ networks, \d+ devices", words(signal, proxied))
    assert math.isnan(value(signal, person()))


def test_a_change_of_owner_is_told() -> None:
    signal = owner_change.SIGNAL
    sold = account([
        (event(org="o1", payer="p"), None), (event(MONDAY + DAY, org="o2", payer="p"), None),
    ])  # fmt: skip
    assert value(signal, sold) == 1
    assert signal.detail(sold, MONDAY + 3 * DAY) == (
        "changed organisation or payer once; the organisation last, 2.0 days ago"
    )
    assert value(signal, person(org="o1")) == 0
    assert math.isnan(value(signal, person()))


def moving(before: int, share: int, hours: float = 0.1) -> AccountState:
    """``share`` percent of 100 requests go to the new model after ``before`` to the old."""
    requests = [(event(MONDAY + n * 60, model="old"), None) for n in range(before)]
    start = MONDAY + before * 60
    for n in range(100):
        model = "new" if n == 0 or n % 100 < share else "old"
        requests.append((event(start + n * hours * HOUR, model=model), None))
    return account(requests)


def test_a_pivot_rises_and_trying_a_new_model_does_not() -> None:
    signal = model_pivot.SIGNAL
    assert value(signal, moving(200, 80)) > 0.7
    assert value(signal, moving(200, 5)) < 0.1
    assert value(signal, moving(0, 100)) == 0  # its first model is no move
    assert value(signal, moving(2, 100)) < 0.2  # two requests are no past
    assert value(signal, person()) == 0
    assert "80 of the next 100 (80 %)" in words(signal, moving(200, 80))


def test_only_the_first_day_of_a_new_model_is_a_pivot() -> None:
    move = moving(200, 100, hours=1.0).pivot
    assert move is not None
    assert (move.after, move.moved) == (25, 25)
    slow = account(
        (event(MONDAY + n * HOUR, model="new" if n == 100 or n > 124 else "old"), None)
        for n in range(400)
    )
    assert value(model_pivot.SIGNAL, slow) < 0.1


def test_a_decoy_model_does_not_hide_a_pivot() -> None:
    state = moving(200, 90)
    high = value(model_pivot.SIGNAL, state)
    for number in range(5):
        state.add(event(state.last_seen + 60, model=f"decoy{number}"), None)
    assert value(model_pivot.SIGNAL, state) == high


def test_the_vector_is_every_signal_in_order_and_changes_nothing() -> None:
    names = [signal.name for signal in ACCOUNT_SIGNALS]
    assert len(set(names)) == len(names) == 19
    state = account(
        (event(ts, org="o", ip="i", params={"temperature": 1}), sketch(n))
        for n, ts in enumerate(all_day(3, 30))
    )
    before = plain_account(state)
    now = state.last_seen
    vector = account_vector(state, now)
    assert vector.dtype == np.float64
    expected = [signal.measure(state, now) for signal in ACCOUNT_SIGNALS]
    np.testing.assert_array_equal(vector, expected)
    assert repr(plain_account(state)) == repr(before)
    np.testing.assert_array_equal(account_vector(state, now), vector)


def test_an_account_of_one_bare_request_measures_hardly_anything_and_accuses_nobody() -> None:
    state = account([(event(), None)])
    vector = account_vector(state, MONDAY)
    measured = {
        signal.name: number
        for signal, number in zip(ACCOUNT_SIGNALS, vector, strict=True)
        if not math.isnan(number)
    }
    assert measured == {"model_pivot": 0.0}
