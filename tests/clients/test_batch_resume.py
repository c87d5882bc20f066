"""Batches outlive the run that submitted them: stopped anywhere, nothing is submitted twice."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from batch_worlds import World, make_world, question
from fake_batches import Fate

from overproof.clients.batch_journal import BatchJournal
from overproof.clients.batch_protocol import custom_id_of
from overproof.clients.batching import JOURNAL, BatchingTeacher
from overproof.errors import RunError, TeacherError, TeacherUnreachableError
from overproof.records.exchange import Completion, Outcome


@pytest.fixture(params=["openai", "anthropic"])
async def world(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[World]:
    monkeypatch.setenv("BATCH_KEY", "sk-secret-of-the-batches")
    async with make_world(request.param, tmp_path) as made:
        yield made


async def ask(teacher: BatchingTeacher, numbers: range) -> list[Completion]:
    return await asyncio.gather(*(teacher.complete(question(i)) for i in numbers))


async def stop_midway(world: World, numbers: range) -> BatchingTeacher:
    """Ask, and be interrupted once the batch is under way."""
    world.server.hold = True
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        async with world.teacher() as teacher:
            asked = asyncio.create_task(ask(teacher, numbers))
            await world.until(lambda: world.server.batches and len(world.journal()) == 2)
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
            raise KeyboardInterrupt
    world.server.hold = False
    return teacher


async def test_a_stopped_run_picks_its_batch_up(world: World) -> None:
    stopped = await stop_midway(world, range(5))
    (batch_id,) = world.server.batches
    assert stopped.farewell() is not None
    assert f"5 requests stay under way at {world.api.shown} and are billed: {batch_id}" in str(
        stopped.farewell()
    )
    async with world.teacher() as teacher:
        answers = await ask(teacher, range(5))
    assert {a.batch for a in answers} == {batch_id}
    assert set(world.server.accepted.values()) == {1}
    assert teacher.farewell() is None


async def test_more_is_asked_and_less_is_asked_after_a_stop(world: World) -> None:
    await stop_midway(world, range(5))
    async with world.teacher() as teacher:
        assert set(teacher.under_way()) == {question(i).key for i in range(5)}
        assert all(most.output_tokens == 256 for most in teacher.under_way().values())
        answers = await ask(teacher, range(3, 8))
        assert set(teacher.under_way()) == {question(i).key for i in range(3)}
    assert all(a.outcome is Outcome.ANSWERED for a in answers)
    assert world.server.accepted.total() == 8
    assert set(world.server.accepted.values()) == {1}


async def test_what_did_not_reach_the_ledger_is_read_again(world: World) -> None:
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        async with world.teacher() as teacher:
            await ask(teacher, range(5))
            raise KeyboardInterrupt
    async with world.teacher() as teacher:
        first = await ask(teacher, range(2))
        latecomers = await ask(teacher, range(2, 5))
    assert all(a.outcome is Outcome.ANSWERED for a in [*first, *latecomers])
    assert set(world.server.accepted.values()) == {1}


async def test_after_a_clean_end_a_request_is_asked_anew(world: World) -> None:
    for _ in range(2):
        async with world.teacher() as teacher:
            await ask(teacher, range(2))
    assert set(world.server.accepted.values()) == {2}


async def test_failures_are_not_read_again(world: World) -> None:
    world.server.fates = [Fate(results={custom_id_of(question(0)): 400})]
    answers = []
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            async with world.teacher() as teacher:
                answers += await ask(teacher, range(2))
                raise KeyboardInterrupt
    assert [a.outcome for a in answers] == [Outcome.FAILED, *[Outcome.ANSWERED] * 3]
    assert world.server.accepted[custom_id_of(question(0))] == 2
    assert world.server.accepted[custom_id_of(question(1))] == 1


async def test_leaving_early_leaves_nobody_waiting(world: World) -> None:
    world.server.hold = True
    async with world.teacher() as teacher:
        asked = asyncio.create_task(ask(teacher, range(2)))
        await world.until(lambda: world.server.batches)
        late = asyncio.create_task(teacher.complete(question(9)))
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await asked
    with pytest.raises(asyncio.CancelledError):
        await late


def forget_the_id(world: World) -> None:
    """As if killed after the batch was created and before anybody wrote down its id."""
    lines = [line for line in world.journal() if line["event"] == "intent"]
    (world.run / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))


async def test_a_batch_whose_id_was_never_written_is_found(world: World) -> None:
    await stop_midway(world, range(4))
    forget_the_id(world)
    async with world.teacher() as teacher:
        answers = await ask(teacher, range(4))
    assert set(world.server.accepted.values()) == {1}
    assert all(a.uncertain_attempts == 0 for a in answers)
    assert world.journal()[1]["event"] == "submitted"


async def test_it_is_found_among_many_others(world: World) -> None:
    await stop_midway(world, range(4))
    forget_the_id(world)
    (ours,) = world.server.batches
    make = {"openai": "_make", "anthropic": "_make"}[world.config.kind]
    for number in range(250):
        other = question(1000 + number)
        if world.config.kind == "openai":
            world.server.files["file-x"] = world.api.line(other) + b"\n"
            body = {"input_file_id": "file-x", "completion_window": "24h", "endpoint": "/v1/c"}
            getattr(world.server, make)(body)
        else:
            items = [json.loads(world.api.line(question(2000 + number + i))) for i in range(4)]
            getattr(world.server, make)(items)
    world.server.looks = 0
    before = world.server.accepted.total()
    async with world.teacher() as teacher:
        answers = await ask(teacher, range(4))
    assert {a.batch for a in answers} == {ours}
    assert world.server.accepted.total() == before


async def test_one_that_was_never_created_is_submitted(world: World) -> None:
    journal = BatchJournal(world.run / JOURNAL, "m@127.0.0.1")
    journal.intend("a" * 32, {custom_id_of(question(i)): (1, 2) for i in range(3)})
    async with world.teacher() as teacher:
        answers = await ask(teacher, range(3))
    assert all(a.uncertain_attempts == 0 for a in answers)
    assert set(world.server.accepted.values()) == {1}
    assert [line["event"] for line in world.journal()] == [
        "intent",
        "dropped",
        "intent",
        "submitted",
        "spent",
    ]


async def test_one_that_cannot_be_looked_for_is_charged_as_uncertain(world: World) -> None:
    await stop_midway(world, range(2))
    forget_the_id(world)
    world.server.refuses_lists = True
    async with world.teacher() as teacher:
        answers = await ask(teacher, range(2))
    assert all(a.uncertain_attempts == 1 for a in answers)


async def test_a_batch_that_the_provider_does_not_know_is_not_paid_twice(world: World) -> None:
    await stop_midway(world, range(2))
    world.server.batches.clear()
    async with world.teacher() as teacher:
        with pytest.raises(TeacherError, match="is not known at") as caught:
            await ask(teacher, range(2))
    assert JOURNAL in caught.value.way_out
    assert set(world.server.accepted.values()) == {1}


async def test_results_that_have_expired_are_asked_anew_as_uncertain(world: World) -> None:
    await stop_midway(world, range(2))
    (batch_id,) = world.server.batches
    world.server._end(batch_id)
    batch = world.server.batches[batch_id]
    if world.config.kind == "openai":
        del world.server.files[batch["output_file_id"]]
    else:
        batch |= {"archived_at": "2026-01-01T00:00:00Z", "results_url": None}
    async with world.teacher() as teacher:
        answers = await ask(teacher, range(2))
    assert [(a.outcome, a.uncertain_attempts) for a in answers] == [(Outcome.ANSWERED, 1)] * 2


async def test_a_provider_gone_dark_ends_the_run_and_not_the_batch(world: World) -> None:
    await stop_midway(world, range(2))
    url, port = world.server.url, int(world.server.url.rsplit(":", 1)[1])
    await world.server.stop()
    async with world.teacher() as teacher:
        began = time.monotonic()
        with pytest.raises(TeacherUnreachableError, match="nobody answers"):
            await ask(teacher, range(2))
    assert time.monotonic() - began < 30
    assert port
    assert url


async def test_batches_of_another_teacher_are_left_alone(world: World) -> None:
    journal = BatchJournal(world.run / JOURNAL, "m@elsewhere")
    journal.intend("a" * 32, {custom_id_of(question(0)): (1, 2)})
    journal.submitted("a" * 32, "batch_elsewhere")
    async with world.teacher() as teacher:
        (answer,) = await ask(teacher, range(1))
    assert answer.batch in world.server.batches


class TestJournal:
    """The file, cut and torn."""

    def make(self, path: Path) -> BatchJournal:
        journal = BatchJournal(path, "t")
        journal.intend("one", {"a": (1, 2), "b": (3, 4), "c": (5, 6)})
        journal.submitted("one", "batch_1")
        journal.intend("two", {"b": (3, 4), "d": (7, 8)})
        return journal

    def test_the_newest_batch_counts(self, tmp_path: Path) -> None:
        self.make(tmp_path / "j")
        journal = BatchJournal(tmp_path / "j", "t")
        assert journal.under_way() == {"a": "one", "b": "two", "c": "one", "d": "two"}
        assert journal.known_ids() == {"batch_1"}
        assert journal.most() == {"a": (1, 2), "b": (3, 4), "c": (5, 6), "d": (7, 8)}
        journal.dropped("two", "never ran")
        journal.spent("one", ["a"])
        assert BatchJournal(tmp_path / "j", "t").under_way() == {"b": "one", "c": "one"}

    def test_what_the_newest_spent_is_not_read_from_an_older_one(self, tmp_path: Path) -> None:
        journal = self.make(tmp_path / "j")
        journal.spent("two", ["b"])
        assert BatchJournal(tmp_path / "j", "t").under_way() == {
            "a": "one",
            "c": "one",
            "d": "two",
        }

    def test_all_spent_is_said_briefly(self, tmp_path: Path) -> None:
        journal = self.make(tmp_path / "j")
        journal.spent("one", ["a", "b"])
        journal.spent("one", ["c"])
        last = json.loads((tmp_path / "j").read_text().splitlines()[-1])
        assert last == {"event": "spent", "tag": "one", "ids": None}
        assert BatchJournal(tmp_path / "j", "t").under_way() == {"b": "two", "d": "two"}

    def test_a_torn_last_line_was_not_begun(self, tmp_path: Path) -> None:
        path = tmp_path / "j"
        self.make(path)
        whole = path.read_bytes()
        last = whole.splitlines(keepends=True)[-1]
        for cut in range(1, len(last)):
            path.write_bytes(whole[: -len(last)] + last[:cut])
            journal = BatchJournal(path, "t")
            assert journal.under_way() == {"a": "one", "b": "one", "c": "one"}
            journal.intend("two", {"b": (3, 4), "d": (7, 8)})
            assert BatchJournal(path, "t").under_way()["b"] == "two"

    @pytest.mark.parametrize("line", ["{}", "no", "[]", '{"event": "spent", "tag": "x"}', "7"])
    def test_a_broken_line_in_the_middle_is_refused(self, tmp_path: Path, line: str) -> None:
        path = tmp_path / "j"
        self.make(path)
        path.write_text(path.read_text() + line + "\n")
        with pytest.raises(RunError, match=r"j:4: is no line of a batch journal"):
            BatchJournal(path, "t")

    def test_nothing_is_submitted_without_a_journal(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        journal = BatchJournal(tmp_path / "file" / "j", "t")
        with pytest.raises(RunError, match="cannot be written"):
            journal.intend("one", {"a": (1, 2)})
        assert journal.records == {}


async def test_a_journal_that_cannot_be_written_stops_before_anything_is_sent(
    world: World,
) -> None:
    async with world.teacher() as teacher:
        (world.run / JOURNAL).mkdir()
        with pytest.raises(RunError, match="cannot be written"):
            await ask(teacher, range(1))
    assert world.server.batches == {}
