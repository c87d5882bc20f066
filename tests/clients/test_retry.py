from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from overproof.clients.pacing import Pacer
from overproof.clients.retry import (
    Attempt,
    RetryPolicy,
    is_retryable,
    may_be_billed,
    retry_after_s,
    with_retries,
)
from overproof.errors import TeacherError
from overproof.records.exchange import Completion, Outcome

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FAILED = Completion(outcome=Outcome.FAILED, error="HTTP 429: slow down")
ANSWERED = Completion(outcome=Outcome.ANSWERED, text="A")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:35 GMT"}, 30.0),
        ({"retry-after": "Fri, 02 Jan 2026 03:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


def test_which_statuses_are_worth_another_attempt() -> None:
    again = {408, 409, 425, 429, 500, 502, 503, 504, 529}
    for_good = {301, 400, 401, 403, 404, 405, 413, 422}
    assert {status for status in again | for_good if is_retryable(status)} == again


def test_what_was_refused_was_not_billed() -> None:
    unsure, refused = {408, 500, 502, 504}, {400, 401, 404, 409, 422, 425, 429, 501, 503, 529}
    assert {status for status in unsure | refused if may_be_billed(status)} == unsure


def test_backoff_doubles_to_a_cap_with_full_jitter() -> None:
    policy, rng = RetryPolicy(base_s=1.0, cap_s=4.0), random.Random(0)
    waits = {n: [policy.backoff_s(n, rng) for _ in range(300)] for n in (1, 2, 3, 4, 50)}
    for number, bound in ((1, 1.0), (2, 2.0), (3, 4.0), (4, 4.0), (50, 4.0)):
        assert bound * 0.9 < max(waits[number]) <= bound
        assert min(waits[number]) < bound * 0.1


def attempts(*results: Attempt) -> Any:
    left = list(results)

    async def attempt() -> Attempt:
        return left.pop(0)

    return attempt


async def test_it_stops_at_success_and_counts_attempts(clock: Any) -> None:
    again = Attempt(FAILED, retry=True)
    [completion], alone = await with_retries(
        attempts(again, again, Attempt(ANSWERED)),
        RetryPolicy(),
        rng=random.Random(0),
        pacer=Pacer(now=clock.now),
        sleep=clock.sleep,
    )
    assert (completion.outcome, completion.attempts, alone) == (Outcome.ANSWERED, 3, False)
    assert len(clock.slept) == 2


async def test_the_same_seed_waits_the_same(clock: Any) -> None:
    for _ in range(2):
        await with_retries(
            attempts(*[Attempt(FAILED, retry=True)] * 3),
            RetryPolicy(max_attempts=3),
            rng=random.Random(7),
            pacer=Pacer(now=clock.now),
            sleep=clock.sleep,
        )
    assert clock.slept[:2] == clock.slept[2:]


async def test_nobody_answered_only_where_no_attempt_found_anybody(clock: Any) -> None:
    gone = Attempt(FAILED, retry=True, unreachable=True)
    for results, expected in (([gone, gone], True), ([gone, Attempt(FAILED, retry=True)], False)):
        _, alone = await with_retries(
            attempts(*results),
            RetryPolicy(max_attempts=2),
            rng=random.Random(0),
            pacer=Pacer(now=clock.now),
            sleep=clock.sleep,
        )
        assert alone is expected


async def test_a_server_that_asks_for_hours_is_not_waited_for(clock: Any) -> None:
    with pytest.raises(TeacherError, match="asks to wait 7200 s"):
        await with_retries(
            attempts(Attempt(FAILED, retry=True, wait_s=7200.0)),
            RetryPolicy(),
            rng=random.Random(0),
            pacer=Pacer(now=clock.now),
            sleep=clock.sleep,
        )
    assert not clock.slept


async def test_attempts_that_reached_nobody_are_no_calls_and_doubtful_ones_are_counted(
    clock: Any,
) -> None:
    gone = Attempt(FAILED, retry=True, unreachable=True)
    late = Attempt(FAILED.model_copy(update={"uncertain_attempts": 1}), retry=True)
    [completion], alone = await with_retries(
        attempts(gone, late, gone, late, Attempt(ANSWERED)),
        RetryPolicy(),
        rng=random.Random(0),
        pacer=Pacer(now=clock.now),
        sleep=clock.sleep,
    )
    assert (completion.attempts, completion.uncertain_attempts, alone) == (3, 2, False)


async def test_what_is_fatal_is_raised_at_once(clock: Any) -> None:
    with pytest.raises(TeacherError, match="the key"):
        await with_retries(
            attempts(Attempt(FAILED, retry=True, fatal=TeacherError("the key", "is refused"))),
            RetryPolicy(),
            rng=random.Random(0),
            pacer=Pacer(now=clock.now),
            sleep=clock.sleep,
        )


async def test_a_server_that_says_to_wait_for_nothing_is_not_hammered(clock: Any) -> None:
    pacer = Pacer(now=clock.now)
    now = Attempt(FAILED, retry=True, wait_s=0.0)
    policy = RetryPolicy(max_attempts=6, base_s=1.0)
    await with_retries(
        attempts(*[now] * 6), policy, rng=random.Random(1), pacer=pacer, sleep=clock.sleep
    )
    rng = random.Random(1)
    assert clock.slept == [policy.backoff_s(number, rng) for number in range(1, 6)]
    assert clock.seconds > 1.0


async def test_after_a_pause_retries_do_not_start_together(clock: Any) -> None:
    pacer = Pacer(now=clock.now)
    ends = []
    for seed in range(8):
        again = [Attempt(FAILED, retry=True, wait_s=7.0), Attempt(ANSWERED)]
        slept = len(clock.slept)
        await with_retries(
            attempts(*again),
            RetryPolicy(),
            rng=random.Random(seed),
            pacer=pacer,
            sleep=clock.sleep,
        )
        [waited] = clock.slept[slept:]
        ends.append(waited)
    assert min(ends) >= 7.0
    assert len(set(ends)) == 8
