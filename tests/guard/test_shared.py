"""SharedEvidence and its parts: bounded, exact where it says so, the same after a snapshot."""

from __future__ import annotations

import random

import numpy as np
import pytest
from crowds import START, World

from overproof.errors import DataError
from overproof.guard.accounts import AccountState
from overproof.guard.activity import SLOT_S, SLOTS, Activity
from overproof.guard.shared import SharedEvidence
from overproof.guard.things import LEAST_SINGLES, MOST_MEMBERS, Banned, Things
from overproof.records.traffic import Event, Sketch


def event(account: str, ts: float = START, **more: object) -> Event:
    row = {"request_id": "", "model": "m", "endpoint": "messages", **more}
    return Event(ts=ts, account=account, **row)  # type: ignore[arg-type]


def test_a_thing_begins_with_its_second_user() -> None:
    things = Things(Banned())
    things.touch(7, 0, 1.0)
    things.touch(7, 0, 2.0)
    assert things.get(7) is None
    things.touch(7, 1, 3.0)
    things.touch(7, 1, 4.0)
    thing = things.get(7)
    assert thing is not None
    assert (thing.first, thing.last, thing.members) == (3.0, 4.0, {0: 1, 1: 2})


def test_single_keys_take_bounded_memory_and_the_newest_are_known() -> None:
    things = Things(Banned())
    draw = random.Random(0)
    keys = [draw.getrandbits(64) for _ in range(3 * LEAST_SINGLES)]
    for at in keys:
        things.touch(at, 0, 1.0)
    for at in keys[-1000:]:
        things.touch(at, 1, 2.0)
    assert len(things) >= 900  # few were taken over by newer keys
    size = len(things.state()["singles"])
    assert size <= 8 * 16 * LEAST_SINGLES


def test_shared_things_are_capped_and_the_most_used_stay() -> None:
    things = Things(Banned(), most=100)
    for member in range(5):
        things.touch(1, member, 1.0)
    for at in range(2, 500):
        things.touch(at, 0, 2.0)
        things.touch(at, 1, 2.0)
    assert len(things) <= 100
    assert things.get(1) is not None
    assert things.get(499) is not None


def test_a_thing_names_its_first_users_and_counts_the_others() -> None:
    things = Things(Banned())
    for member in range(MOST_MEMBERS + 10):
        things.touch(3, member, 1.0)
    thing = things.get(3)
    assert thing is not None
    assert (len(thing.members), thing.others) == (MOST_MEMBERS, 10)


@pytest.mark.parametrize("key", [-5, 1 << 80, (1 << 64) - 1, 1])
def test_a_key_that_no_fingerprinter_makes_is_survived(key: int) -> None:
    things = Things(Banned())
    things.touch(key, 0, 1.0)
    things.touch(key, 1, 1.0)
    assert things.get(key) is not None
    state = things.state()
    state["things"] = list(state["things"])
    assert 0 <= state["things"][0][0] < 1 << 64
    assert things.ban({0, 1}, 2.0) == 1


def test_forgotten_accounts_leave_nothing_and_their_rows_are_given_again() -> None:
    shared = SharedEvidence()
    accounts = [AccountState(at, f"a{at}", START) for at in range(3)]
    for one in accounts:
        shared.add(one, event(one.account, payer="p", ip="i"), Sketch(template=9))
    rows = [shared.row(one) for one in accounts]
    shared.forget([0, 1])
    shared.expire(START)
    thing = shared.things["template"].get(9)
    assert thing is not None
    assert set(thing.members) == {rows[2]}
    assert shared.row(accounts[0]) is None
    new = AccountState(77, "new", START)
    shared.add(new, event("new"), None)
    assert shared.row(new) in rows[:2]
    shared.forget([0, 1, 1000])  # twice, and one never seen


def test_what_nobody_uses_any_more_is_forgotten() -> None:
    shared = SharedEvidence()
    for at in range(2):
        shared.add(AccountState(at, "", START), event("", payer="p"), Sketch(template=9))
    shared.expire(START + 29 * 86400)
    assert shared.things["template"].get(9) is not None
    shared.expire(START + 31 * 86400)
    assert shared.things["template"].get(9) is None
    assert len(shared.things["payer"]) == 1  # an account's payer stays while the account does


def test_a_banned_key_is_known_again_after_its_thing_is_gone() -> None:
    things = Things(Banned())
    secret = random.Random(1).getrandbits(64)
    things.touch(secret, 0, 1.0)
    assert things.ban({0}, 1.0) == 1
    things.forget({0}, 10.0)
    things.touch(secret, 1, 20.0)
    things.touch(secret, 2, 21.0)
    thing = things.get(secret)
    assert thing is not None
    assert thing.banned == 21.0
    other = random.Random(2).getrandbits(64)
    things.touch(other, 1, 20.0)
    things.touch(other, 2, 21.0)
    fresh = things.get(other)
    assert fresh is not None
    assert np.isnan(fresh.banned)


def test_a_ban_does_not_taint_what_others_share() -> None:
    things = Things(Banned())
    for member in range(5):
        things.touch(1 << 50, member, 1.0)
    things.ban({0, 1}, 2.0)
    thing = things.get(1 << 50)
    assert thing is not None
    assert np.isnan(thing.banned)


def test_the_bloom_filter_forgets_nothing_and_errs_seldom() -> None:
    banned = Banned()
    draw = random.Random(3)
    kept = [draw.getrandbits(40) for _ in range(20_000)]
    for at in kept:
        banned.add(at)
    assert all(at in banned for at in kept)
    wrong = sum(draw.getrandbits(40) in banned for _ in range(20_000))
    assert wrong <= 10  # (1 − e^(−4·20,000/2^20))^4 = 2.9e-5 a key, so 0.6 expected


def brute(times: list[float], now: float) -> np.ndarray:
    end = int(now // SLOT_S)
    counts = np.zeros(SLOTS, dtype=np.int64)
    for ts in times:
        at = int(ts // SLOT_S) - end + SLOTS - 1
        if 0 <= at < SLOTS:
            counts[at] += 1
    return np.minimum(counts, 255)


@pytest.mark.parametrize("seed", range(4))
def test_activity_counts_what_a_list_would(seed: int) -> None:
    draw = random.Random(seed)
    activity = Activity()
    times: dict[int, list[float]] = {0: [], 5: [], 2000: []}
    ts = START
    for _ in range(600):
        ts += draw.expovariate(1 / (3600 if draw.random() < 0.95 else 40 * 3600))
        who = draw.choice([0, 5, 2000])
        at = ts - draw.uniform(0, 300)  # late by up to five minutes
        times[who].append(at)
        activity.add(who, at, "m")
    for now in (ts, ts + 3 * 86400, ts + 30 * 86400):
        rows = activity.active([0, 5, 2000, 99_999], now)
        for row, who in zip(rows, times, strict=False):
            assert row.tolist() == brute(times[who], now).tolist()
        assert not rows[3].any()
        assert activity.by_away(rows, now).sum() <= rows.sum()


def test_requests_to_a_further_model_are_counted_apart() -> None:
    activity = Activity()
    for hour in range(48):
        activity.add(0, START + 3600 * hour, "old" if hour < 24 else "new")
    now = START + 48 * 3600 - 1
    away = activity.away([0], now)[0]
    assert away.sum() == 24
    assert away[-4:].tolist() == [6, 6, 6, 6]
    assert activity.by_away(activity.active([0], now), now)[0, -8:].tolist() == [6] * 8


def test_memory_is_bounded_by_accounts() -> None:
    """Less than a kilobyte an account, in the flat arrays."""
    activity = Activity()
    for at in range(5000):
        activity.add(at, START, "m")
    held = sum(len(part) for part in activity.state().values() if isinstance(part, bytes))
    assert held / 5000 < 500


def test_a_damaged_snapshot_is_named() -> None:
    shared, _ = World(seed=1, days=1).run()
    state = shared.state()
    del state["activity"]
    with pytest.raises(DataError, match="snapshot"):
        SharedEvidence().restore(state)
