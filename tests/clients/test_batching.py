"""Asking in batches: queueing, failing, asking again, at both providers."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from batch_worlds import PATIENCE, World, make_world, question
from fake_batches import Fate

from overproof.clients.batch_protocol import BatchLimits, custom_id_of
from overproof.errors import BudgetError, SecretError, TeacherError, TeacherUnreachableError
from overproof.records.exchange import Completion, Outcome, Request

QUEUE_FULL = {
    "code": "token_limit_exceeded",
    "line": None,
    "message": "Enqueued token limit reached for m. Limit: 2,000,000 enqueued tokens.",
    "param": None,
}


@pytest.fixture(params=["openai", "anthropic"])
async def world(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[World]:
    monkeypatch.setenv("BATCH_KEY", "sk-secret-of-the-batches")
    async with make_world(request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def openai_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[World]:
    monkeypatch.setenv("BATCH_KEY", "sk-secret-of-the-batches")
    async with make_world("openai", tmp_path) as made:
        yield made


async def test_answers_come_from_one_batch(world: World) -> None:
    world.server.text = lambda body: body["messages"][0]["content"].upper()
    async with world.teacher() as teacher:
        assert teacher.capabilities.batch
        assert teacher.capabilities.choices == 1
        answers = await asyncio.gather(*(teacher.complete(question(i)) for i in range(50)))
    assert [a.text for a in answers] == [f"QUESTION {i}" for i in range(50)]
    assert {a.batch for a in answers} == set(world.server.batches)
    first = answers[0]
    assert (first.outcome, first.attempts, first.status) == (Outcome.ANSWERED, 1, 200)
    assert first.latency_s == pytest.approx(60, abs=1)
    assert first.usage is not None
    assert first.usage.input_tokens == 10
    assert set(world.server.accepted.values()) == {1}
    assert teacher.farewell() is None


@pytest.mark.slow
async def test_five_thousand_requests_in_a_batch(world: World) -> None:
    async with world.teacher(batch_size=5000) as teacher:
        answers = await asyncio.gather(*(teacher.complete(question(i)) for i in range(5000)))
    assert len(world.server.batches) == 1
    assert all(a.outcome is Outcome.ANSWERED for a in answers)


async def test_batches_hold_no_more_than_asked(world: World) -> None:
    async with world.teacher(batch_size=4) as teacher:
        await asyncio.gather(*(teacher.complete(question(i)) for i in range(10)))
    assert sorted(len(items) for items in world.server.items.values()) == [2, 4, 4]


async def test_batches_hold_no_more_than_the_wire_allows(world: World) -> None:
    world.api.limits = BatchLimits(requests=3, bytes=1_000_000)
    async with world.teacher() as teacher:
        await asyncio.gather(*(teacher.complete(question(i)) for i in range(7)))
    assert sorted(len(items) for items in world.server.items.values()) == [1, 3, 3]


async def test_a_batch_is_cut_at_its_bytes(world: World) -> None:
    line = len(world.api.line(question(0)))
    world.api.limits = BatchLimits(requests=100, bytes=1000 + 2 * line + 10)
    long = Request(model="m", messages=question(0).messages * 20)
    async with world.teacher() as teacher:
        *answers, too_long = await asyncio.gather(
            *(teacher.complete(question(i)) for i in range(5)), teacher.complete(long)
        )
    assert sorted(len(items) for items in world.server.items.values()) == [1, 2, 2]
    assert all(a.outcome is Outcome.ANSWERED for a in answers)
    assert too_long.outcome is Outcome.FAILED
    assert "more than a batch holds" in (too_long.error or "")


async def test_one_request_twice_goes_into_two_batches(world: World) -> None:
    async with world.teacher() as teacher:
        first, second = await asyncio.gather(*(teacher.complete(question(0)) for _ in range(2)))
    assert first.batch != second.batch
    assert {first.batch, second.batch} == set(world.server.batches)


async def test_models_do_not_share_a_batch(openai_world: World) -> None:
    world = openai_world
    other = question(1).model_copy(update={"model": "other"})
    async with world.teacher() as teacher:
        answers = await asyncio.gather(teacher.complete(question(0)), teacher.complete(other))
    assert [a.outcome for a in answers] == [Outcome.ANSWERED] * 2
    assert len(world.server.batches) == 2


async def test_a_request_error_fails_that_request_alone(world: World) -> None:
    bad, busy = custom_id_of(question(1)), custom_id_of(question(2))
    world.server.fates = [Fate(results={bad: 400, busy: 429})]
    async with world.teacher() as teacher:
        good, failed, late = await asyncio.gather(
            *(teacher.complete(question(i)) for i in range(3))
        )
    assert good.outcome is Outcome.ANSWERED
    assert (failed.outcome, failed.status, failed.attempts) == (Outcome.FAILED, 400, 1)
    assert "status 400" in (failed.error or "")
    assert failed.usage is not None
    assert failed.usage.input_tokens == 0
    assert (late.outcome, late.attempts) == (Outcome.ANSWERED, 2)
    assert late.batch != good.batch


async def test_an_expired_batch_keeps_its_answers_and_the_rest_is_asked_again(
    world: World,
) -> None:
    world.server.fates = [Fate(word="expired", only=3)]
    async with world.teacher() as teacher:
        answers = await asyncio.gather(*(teacher.complete(question(i)) for i in range(5)))
    assert [a.attempts for a in answers] == [1, 1, 1, 2, 2]
    assert all(a.outcome is Outcome.ANSWERED for a in answers)
    assert all(a.uncertain_attempts == 0 for a in answers)
    assert [len(items) for items in world.server.items.values()] == [5, 2]


async def test_what_expires_every_time_fails_in_the_end(world: World) -> None:
    world.server.fates = [Fate(word="expired", only=0) for _ in range(9)]
    async with world.teacher(max_attempts=3) as teacher:
        answer = await teacher.complete(question(0))
    assert (answer.outcome, answer.attempts) == (Outcome.FAILED, 3)
    assert "expired" in (answer.error or "")
    assert len(world.server.batches) == 3


async def test_a_cancelled_batch_keeps_its_answers_and_names_the_reason(world: World) -> None:
    world.server.fates = [Fate(word="cancelled", only=1)]
    async with world.teacher() as teacher:
        good, failed = await asyncio.gather(*(teacher.complete(question(i)) for i in range(2)))
    assert good.outcome is Outcome.ANSWERED
    assert failed.outcome is Outcome.FAILED
    assert "cancelled" in (failed.error or "")
    assert len(world.server.batches) == 1


async def test_what_the_results_leave_out_is_asked_again_as_uncertain(world: World) -> None:
    world.server.fates = [Fate(results={custom_id_of(question(1)): "left out"})]
    async with world.teacher() as teacher:
        sure, unsure = await asyncio.gather(*(teacher.complete(question(i)) for i in range(2)))
    assert (sure.attempts, sure.uncertain_attempts) == (1, 0)
    assert (unsure.attempts, unsure.uncertain_attempts) == (2, 1)


async def test_a_broken_download_is_read_again(world: World) -> None:
    world.server.breaks = 2
    async with world.teacher() as teacher:
        answers = await asyncio.gather(*(teacher.complete(question(i)) for i in range(40)))
    assert all(a.outcome is Outcome.ANSWERED and a.attempts == 1 for a in answers)
    assert len(world.server.batches) == 1


async def test_a_batch_whose_answer_was_lost_is_found_and_not_made_twice(world: World) -> None:
    world.server.creates = ["lost"]
    async with world.teacher() as teacher:
        answers = await asyncio.gather(*(teacher.complete(question(i)) for i in range(3)))
    assert all(a.outcome is Outcome.ANSWERED for a in answers)
    assert set(world.server.accepted.values()) == {1}


async def test_a_batch_that_was_not_made_is_made(world: World) -> None:
    world.server.creates = ["dropped", (500, {}), (429, {"Retry-After": "0"}), (529, {})]
    async with world.teacher() as teacher:
        answer = await teacher.complete(question(0))
    assert (answer.outcome, answer.uncertain_attempts) == (Outcome.ANSWERED, 0)
    assert len(world.server.batches) == 1


async def test_where_no_batches_are_listed_a_lost_one_stays_uncertain(world: World) -> None:
    world.server.creates = ["lost"]
    world.server.refuses_lists = True
    async with world.teacher() as teacher:
        answer = await teacher.complete(question(0))
    assert (answer.outcome, answer.uncertain_attempts) == (Outcome.ANSWERED, 1)
    assert len(world.server.batches) == 2


async def test_too_large_a_batch_is_halved(world: World) -> None:
    world.server.creates = [(413, {}), (413, {})]
    async with world.teacher(batch_size=8) as teacher:
        answers = await asyncio.gather(*(teacher.complete(question(i)) for i in range(8)))
    assert all(a.outcome is Outcome.ANSWERED for a in answers)
    assert sorted(map(len, world.server.items.values())) == [2, 2, 4]


async def test_a_rejected_batch_ends_the_run_and_is_not_looked_for_again(world: World) -> None:
    world.server.creates = [(400, {})]
    async with world.teacher() as teacher:
        with pytest.raises(TeacherError, match="rejected"):
            await teacher.complete(question(0))
    assert [line["event"] for line in world.journal()] == ["intent", "dropped"]


async def test_a_refused_key_ends_the_run(world: World) -> None:
    world.server.creates = [(401, {})]
    async with world.teacher() as teacher:
        with pytest.raises(SecretError, match="BATCH_KEY"):
            await teacher.complete(question(0))


async def test_nobody_there_ends_the_run(world: World) -> None:
    await world.server.stop()
    async with world.teacher(max_attempts=2) as teacher:
        with pytest.raises(TeacherUnreachableError):
            await teacher.complete(question(0))


async def test_a_full_queue_means_smaller_batches_later(openai_world: World) -> None:
    world = openai_world
    world.server.fates = [Fate(word="failed", errors=[QUEUE_FULL]) for _ in range(2)]
    async with world.teacher(batch_size=8, max_attempts=1) as teacher:
        answers = await asyncio.gather(*(teacher.complete(question(i)) for i in range(8)))
    assert all((a.outcome, a.attempts) == (Outcome.ANSWERED, 1) for a in answers)
    assert next(iter(map(len, world.server.items.values()))) == 2


async def test_a_queue_that_stays_full_fails_in_the_end(openai_world: World) -> None:
    world = openai_world
    world.server.fates = [Fate(word="failed", errors=[QUEUE_FULL]) for _ in range(9)]
    async with world.teacher(max_attempts=3) as teacher:
        answer = await teacher.complete(question(0))
    assert answer.outcome is Outcome.FAILED
    assert "Enqueued token limit" in (answer.error or "")


async def test_bad_lines_fail_and_the_others_go_on_without_them(openai_world: World) -> None:
    world = openai_world
    error = {"code": "invalid_json_line", "line": 2, "message": "no", "param": None}
    world.server.fates = [Fate(word="failed", errors=[error])]
    async with world.teacher() as teacher:
        answers = await asyncio.gather(*(teacher.complete(question(i)) for i in range(3)))
    assert [a.outcome for a in answers] == [Outcome.ANSWERED, Outcome.FAILED, Outcome.ANSWERED]
    assert "invalid_json_line" in (answers[1].error or "")


async def test_a_batch_failed_as_a_whole_fails_its_requests(openai_world: World) -> None:
    world = openai_world
    error = {"code": "model_not_found", "line": None, "message": "no model", "param": None}
    world.server.fates = [Fate(word="failed", errors=[error])]
    async with world.teacher() as teacher:
        answers = await asyncio.gather(*(teacher.complete(question(i)) for i in range(3)))
    assert all("no model" in (a.error or "") for a in answers)
    assert len(world.server.batches) == 1


async def test_malformed_lines_and_answers(openai_world: World) -> None:
    world = openai_world
    async with world.teacher() as teacher:
        asked = [asyncio.create_task(teacher.complete(question(i))) for i in range(3)]
        world.server.hold = True
        await world.until(lambda: world.server.batches)
        (batch_id,) = world.server.batches
        world.server._end(batch_id)
        file_id = world.server.batches[batch_id]["output_file_id"]
        lines = world.server.files[file_id].splitlines()
        broken = json.loads(lines[1])
        broken["response"]["body"] = {"choices": []}
        lines[1:2] = [json.dumps(broken).encode(), b"[]", b"7", b'{"custom_id": 3}']
        world.server.files[file_id] = b"\n".join(lines)
        world.server.hold = False
        answers = await asyncio.gather(*asked)
    assert [a.outcome for a in answers] == [
        Outcome.ANSWERED,
        Outcome.MALFORMED,
        Outcome.ANSWERED,
    ]
    assert answers[1].uncertain_attempts == 1


class Purse:
    """A meter with room for so many attempts."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.told: list[tuple[Completion, bool]] = []

    async def before(self) -> None:
        if self.room == 0:
            raise BudgetError("budget.max_calls", "is reached")
        self.room -= 1

    def after(self, completion: Completion, *, reached: bool) -> None:
        self.told.append((completion, reached))


async def test_the_meter_is_told_of_every_attempt(world: World) -> None:
    world.server.fates = [Fate(word="expired", only=1)]
    purse = Purse(4)
    async with world.teacher() as teacher:
        answers = await asyncio.gather(*(teacher.complete(question(i), purse) for i in range(2)))
    assert [a.outcome for a in answers] == [Outcome.ANSWERED] * 2
    told = sorted((c.outcome.value, reached) for c, reached in purse.told)
    assert told == [("answered", True), ("answered", True), ("failed", True)]
    assert all(c.usage is not None for c, _ in purse.told)


async def test_an_empty_purse_stops_its_asker_alone(world: World) -> None:
    purse = Purse(2)
    async with world.teacher() as teacher:
        *answers, error = await asyncio.gather(
            *(teacher.complete(question(i), purse) for i in range(3)), return_exceptions=True
        )
    assert isinstance(error, BudgetError)
    assert all(isinstance(a, Completion) for a in answers)
    assert [len(items) for items in world.server.items.values()] == [2]


async def test_status_lines_say_how_far_it_is(world: World) -> None:
    world.server.hold = True
    async with world.teacher() as teacher:
        assert teacher.status_lines() == []
        asked: list[asyncio.Task[Any]]
        asked = [asyncio.create_task(teacher.complete(question(i))) for i in range(3)]
        await asyncio.sleep(0)
        assert teacher.status_lines() == ["3 requests wait for the next batch"]
        await world.until(lambda: teacher.status_lines()[0].startswith("batch "))
        (line,) = teacher.status_lines()
        (batch_id,) = world.server.batches
        assert line.startswith(f"batch {batch_id}: ")
        assert "3" in line
        assert "next look in" in line
        world.server.hold = False
        await asyncio.gather(*asked)


@pytest.mark.parametrize("garbage", ["[]", "no", '{"status": "completed", "errors": 7}'])
async def test_a_look_that_shows_no_batch_is_taken_again(world: World, garbage: str) -> None:
    world.server.garbage = [garbage] * 3
    async with world.teacher() as teacher:
        answer = await teacher.complete(question(0))
    assert answer.outcome is Outcome.ANSWERED
    assert world.server.garbage == []


async def test_results_elsewhere_are_not_fetched_with_the_key(world: World) -> None:
    world.server.moves = True
    async with world.teacher() as teacher:
        with pytest.raises(TeacherError, match="cannot be read: HTTP 302"):
            await teacher.complete(question(0))


async def test_the_key_stands_on_the_wire_and_nowhere_else(world: World) -> None:
    world.server.creates = [(400, {})]
    async with world.teacher() as teacher:
        with pytest.raises(TeacherError) as caught:
            await teacher.complete(question(0))
    assert any("sk-secret-of-the-batches" in key for key in world.server.keys)
    assert "sk-secret" not in str(caught.value)
    assert all("sk-secret" not in json.dumps(line) for line in world.journal())


def test_patience_grows_to_ten_times_the_poll() -> None:
    rng = random.Random(0)
    wait = PATIENCE.poll_s
    for _ in range(50):
        wait = PATIENCE.slower(wait, rng)
    assert wait == pytest.approx(10 * PATIENCE.poll_s)
