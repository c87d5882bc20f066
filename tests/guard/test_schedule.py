"""Every look once, in order, at its time; whatever was taken early or forgotten."""

from __future__ import annotations

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from overproof.guard.schedule import LookSchedule

AGES = (1.0, 2.0, 5.0)
HOUR = 3600.0


def test_looks_come_at_their_ages() -> None:
    looks = LookSchedule(AGES)
    looks.start(0, 100.0)
    looks.start(1, 50.0)
    assert list(looks.due(100.0)) == []
    assert looks.earliest == 50.0 + HOUR
    assert list(looks.due(100.0 + 2 * HOUR)) == [
        (1, 0, 50.0 + HOUR), (0, 0, 100.0 + HOUR), (1, 1, 50.0 + 2 * HOUR),
        (0, 1, 100.0 + 2 * HOUR),
    ]  # fmt: skip
    assert list(looks.due(math.inf)) == [(1, 2, 50.0 + 5 * HOUR), (0, 2, 100.0 + 5 * HOUR)]
    assert looks.earliest == math.inf
    assert not looks.waits(0, math.inf)


def test_a_forgotten_account_has_no_looks_left() -> None:
    looks = LookSchedule(AGES)
    looks.start(5, 0.0)
    looks.forget(5)
    looks.forget(99)
    assert list(looks.due(math.inf)) == []
    looks.start(6, HOUR)
    assert [each[0] for each in looks.due(math.inf)] == [6] * 3


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), most=st.integers(1, 3))
def test_each_look_is_taken_once_in_any_course_of_events(seed: int, most: int) -> None:
    chance = random.Random(seed)
    looks, taken = LookSchedule(AGES), []
    first = {index: chance.uniform(0, 4) * HOUR for index in range(20)}
    starts = sorted(first, key=first.__getitem__)
    now = 0.0
    while now < 12 * HOUR:
        now += chance.uniform(0, HOUR)
        while starts and first[starts[0]] <= now:
            looks.start(starts[0], first[starts[0]])
            starts.pop(0)
        known = [index for index in first if index not in starts]
        if known:
            index = chance.choice(known)
            taken += [(index, look, at) for look, at in looks.own(index, now)]
            assert not looks.waits(index, now)
        if chance.random() < 0.2:  # a snapshot in between changes nothing
            state = looks.state()
            looks = LookSchedule(AGES)
            looks.restore(state)
        before = looks.earliest
        some = list(looks.due(now, most))
        assert [at for *_, at in some] == sorted(at for *_, at in some)
        assert not some or some[0][2] == before
        taken += some
    taken += list(looks.due(math.inf))
    expected = {
        (index, look, first[index] + age * HOUR) for index in first for look, age in enumerate(AGES)
    }
    assert len(taken) == len(expected)
    assert set(taken) == expected
