"""One account's memory: time, outcomes, models, parameters, whatever fields are missing."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from account_traffic import DAY, HOUR, MONDAY, account, all_day, event, hashed, person, sketch
from hypothesis import given, settings
from hypothesis import strategies as st

from overproof.guard.account_snapshot import FIELDS, plain_account, restored_account
from overproof.guard.accounts import AccountState
from overproof.guard.signals.accounts import ACCOUNT_SIGNALS, account_vector
from overproof.records.traffic import Event, Sketch

anything = st.one_of(
    st.floats(), st.integers(), st.sampled_from([None, True, False, "0.5", [1], {"a": 1}, 0]),
)  # fmt: skip
optional: dict[str, st.SearchStrategy[Any]] = {
    "org": st.sampled_from([None, "", "o1", "<b>o2</b>"]),
    "payer": st.sampled_from([None, "p1", "p2"]),
    "plan": st.sampled_from([None, "", "free", "Pro", "odd"]),
    "declared_use": st.sampled_from([None, "chat", "evaluation", "?"]),
    "account_created": st.one_of(st.none(), st.floats()),
    "ip": st.sampled_from([None, "", "10.0.0.1", "\ud800"]),
    "asn": st.one_of(st.none(), st.integers()),
    "user_agent": st.sampled_from([None, "", "<script>"]),
    "device": st.sampled_from([None, "", "d"]),
    "params": st.dictionaries(
        st.sampled_from(["temperature", "n", "logprobs", "top_logprobs", "seed"]), anything
    ),
    "input_tokens": st.one_of(st.none(), st.integers()),
    "output_tokens": st.one_of(st.none(), st.integers()),
    "status": st.one_of(st.none(), st.sampled_from([200, 400, 429, 500, -1])),
    "finish_reason": st.sampled_from([None, "stop", "refusal"]),
    "refused": st.sampled_from([None, True, False]),
    "model": st.sampled_from(["", "m", "n", "x" * 300]),
}
hashes = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1), st.integers())
sketches = st.builds(
    Sketch, system=hashes, prompt=hashes, turn=hashes, template=hashes, opening=hashes,
    closing=hashes, elicitation=st.floats(), rubric=st.floats(), synthesis=st.floats(),
    technique=st.integers(-5, 90), capability=st.integers(-5, 90),
)  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[Event, Sketch | None]]:
    ts = draw(st.sampled_from([0.0, MONDAY, 1e11]))
    requests = []
    for _ in range(draw(st.integers(1, 6))):
        ts += draw(st.sampled_from([-300.0, 0.0, 1.0, HOUR, DAY, 400 * DAY]))
        fields = draw(st.fixed_dictionaries({}, optional=optional))
        requests.append((event(ts, **fields), draw(st.one_of(st.none(), sketches))))
    return requests


@settings(max_examples=60, deadline=None)
@given(streams())
def test_any_subset_of_fields_works_is_pure_and_survives_a_snapshot(
    requests: list[tuple[Event, Sketch | None]],
) -> None:
    state = account(requests)
    assert state.requests == len(requests)
    assert sum(state.daily) <= state.requests
    assert max(state.daily) <= state.peak_day
    before = plain_account(state)
    now = state.last_seen + HOUR
    vector = account_vector(state, now)
    assert vector.shape == (len(ACCOUNT_SIGNALS),)
    assert not np.isinf(vector).any()
    for signal in ACCOUNT_SIGNALS:
        assert signal.detail(state, now)
    assert repr(plain_account(state)) == repr(before)

    copy = restored_account(msgspec.msgpack.decode(msgspec.msgpack.encode(before)))
    assert repr(plain_account(copy)) == repr(before)
    for request in requests:
        state.add(*request)
        copy.add(*request)
    assert repr(plain_account(copy)) == repr(plain_account(state))


def test_days_are_days_of_age_and_hours_are_utc_hours_of_the_week() -> None:
    start = MONDAY + 10.5 * HOUR
    state = account([(event(start + hours * HOUR), None) for hours in (0, 0.2, 23.9, 24.1, 72.5)])
    assert list(state.daily) == [3, 1, 0, 1]
    assert (state.active_days, state.peak_day, state.peak_hour) == (3, 3, 2)
    on = {10, 24 + 10, 72 + 11}  # Monday 10:30 and 10:42; Tuesday 10:24 and 10:36; Thursday 11:00
    assert state.hours == sum(1 << hour for hour in on)
    assert state.active_hours == 3
    assert state.hour_days[10] == 2


def test_two_requests_in_one_hour_of_the_first_day_are_one_active_day() -> None:
    state = account([(event(MONDAY), None), (event(MONDAY + 60), None)])
    assert (state.active_days, list(state.daily), state.peak_hour) == (1, [2], 2)


def test_a_late_request_is_counted_without_moving_time_back() -> None:
    state = account([(event(MONDAY), None), (event(MONDAY + DAY), None)])
    state.add(event(MONDAY + DAY - 200), None)
    state.add(event(MONDAY - 200), None)
    assert state.requests == 4
    assert (state.first_seen, state.last_seen) == (MONDAY, MONDAY + DAY)
    assert list(state.daily) == [3, 1]


def test_beyond_sixty_four_days_only_the_peak_goes_on() -> None:
    state = account((event(ts), None) for ts in all_day(70, 2))
    for _ in range(9):
        state.add(event(MONDAY + 80 * DAY), None)
    assert len(state.daily) == 64
    assert (state.active_days, state.peak_day) == (71, 9)


def test_outcomes_are_counted_apart() -> None:
    state = account([
        (event(status=200, refused=True), sketch(1, technique=3)),
        (event(status=429, refused=False), sketch(2, technique=3)),
        (event(status=500), sketch(3, technique=5)),
        (event(finish_reason="content_filter"), None),
    ])  # fmt: skip
    assert (state.refused, state.failed, state.throttled) == (2, 2, 1)
    assert state.techniques == 1 << 3 | 1 << 5
    assert (state.technique_requests, state.technique_refused) == (3, 1)


def test_parameters_are_read_whatever_their_type() -> None:
    warm = [0.7, 0.7, 1, True, "hot", math.nan, math.inf, -1, [1], None]
    state = account((event(params={"temperature": t, "n": 4, "logprobs": 0}), None) for t in warm)
    assert state.temperatures == (0.7, 1.0)
    assert (state.described, state.sampled, state.samples) == (10, 10, 30)
    assert state.logprobs == 10  # 0 asks for the log-probability of the chosen token
    more = account((event(params={"temperature": n / 10, "n": True}), None) for n in range(20))
    assert len(more.temperatures) == 8
    assert more.sampled == 0


def test_models_are_bounded_and_the_first_and_the_busy_stay() -> None:
    state = account((event(MONDAY, model="first"), None) for _ in range(2))
    for number in range(50):
        for _ in range(2 if number == 3 else 1):
            state.add(event(MONDAY + number, model=f"m{number}"), None)
    state.add(event(MONDAY, model="x" * 10_000), None)
    state.add(event(MONDAY, model="x" * 10_000), None)
    assert len(state.models) == 8
    assert state.models["first"] == [MONDAY, 2]
    assert state.models["m3"] == [MONDAY + 3, 2]
    assert state.models["x" * 64][1] == 2


def test_a_change_of_owner_keeps_the_past_and_is_kept() -> None:
    state = account([(event(org=None), None), (event(org="o1", payer="p1"), None)])
    assert state.changed == 0
    state.add(event(MONDAY + 60, org="o2"), None)
    state.add(event(MONDAY + 90, org=None, payer="p2"), None)
    assert state.changes == ((MONDAY + 60, "org", "o1", "o2"), (MONDAY + 90, "payer", "p1", "p2"))
    assert (state.requests, state.org, state.payer) == (4, "o2", "p2")
    for number in range(100):
        state.add(event(org=f"o{number % 2}"), None)
    assert state.changed > 90
    assert len(state.changes) == 4


def test_repeats_are_of_the_last_prompts_only() -> None:
    state = account((event(), sketch(n % 30)) for n in range(60))
    assert state.repeats == 30
    far = account((event(), sketch(n % 40)) for n in range(80))
    assert far.repeats == 0


def test_hostile_token_counts_are_not_believed() -> None:
    state = account([(event(input_tokens=10**30, output_tokens=-5), None)])
    assert (state.tokens_in, state.tokens_out) == (0, 0)


def test_a_snapshot_of_another_shape_is_refused() -> None:
    values = plain_account(person())
    assert len(values) == len(FIELDS)
    with pytest.raises(ValueError, match="shorter"):
        restored_account(values[:-1])


def test_new_accounts_share_what_is_empty_and_nobody_writes_to_it() -> None:
    one, other = AccountState(0, "a", MONDAY), AccountState(1, "b", MONDAY)
    one.add(event(), sketch(1, system=hashed("s")))
    assert len(one.turns) == 1
    assert sum(one.capabilities) == 1
    assert len(other.turns) == 0
    assert sum(other.capabilities) == 0
    assert other.systems == {}
