"""Servers that ignore ``n``: what they leave out is asked for singly, and each call is counted."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from overproof.clients.openai_compatible import OpenAICompatibleTeacher
from overproof.clients.retry import RetryPolicy
from overproof.clients.terms import check_terms
from overproof.collect.asker import Asker
from overproof.collect.budget import Budget
from overproof.config.load import parse_recipe
from overproof.config.teacher import TeacherConfig
from overproof.errors import BudgetError
from overproof.records.exchange import Completion, Message, Outcome, Parameters, Request, Usage
from overproof.records.ledger import Ledger


def teacher(url: str, clock: Any, **more: Any) -> OpenAICompatibleTeacher:
    config = TeacherConfig(kind="openai", model="m", base_url=url, choices=3, **more)
    policy = RetryPolicy(max_attempts=2)
    return OpenAICompatibleTeacher(config, policy=policy, sleep=clock.sleep, now=clock.now)


def ask(sample: int = 0, text: str = "hello") -> Request:
    return Request(
        model="m",
        messages=(Message(role="user", content=text),),
        parameters=Parameters(max_tokens=8),
        sample=sample,
    )


class Tape:
    """A meter with so much room, that writes down what it is told."""

    def __init__(self, room: int = 99) -> None:
        self.room = room
        self.calls = 0
        self.tokens = 0
        self.paused = 0

    async def before(self) -> None:
        if self.calls == self.room:
            raise BudgetError("budget.max_calls", "is reached")
        self.calls += 1

    def after(self, completion: Completion, *, reached: bool) -> None:
        usage = completion.usage
        self.tokens += 0 if usage is None else usage.input_tokens + usage.output_tokens

    def pause(self) -> None:
        self.paused += 1

    async def resume(self) -> None:
        self.paused -= 1


async def test_what_is_not_delivered_is_asked_for_singly(fake_server: Any, clock: Any) -> None:
    tape = Tape()
    async with teacher(fake_server.url, clock) as client:
        assert client.capabilities.choices == 3
        found = await client.complete_many([ask(n) for n in range(3)], tape)
        assert [one.outcome for one in found] == ["answered"] * 3
        assert [received.body.get("n") for received in fake_server.requests] == [3, None, None]
        # Each is the first choice of its own call.
        assert [(one.choice, one.attempts) for one in found] == [(0, 1)] * 3
        assert {one.usage for one in found} == {Usage(input_tokens=10, output_tokens=1)}
        assert (tape.calls, tape.tokens, tape.paused) == (3, 33, 0)
        assert client.capabilities.choices == 1
        # A call that was made up before that was known.
        await client.complete_many([ask(n, "more") for n in range(3)], tape)
        assert [one.body.get("n") for one in fake_server.requests[3:]] == [None] * 3
        assert tape.calls == 6


async def test_two_of_three_by_whatever_number(fake_server: Any, wire: Any, clock: Any) -> None:
    answer = wire.chat_completion("A")
    answer["choices"] = [answer["choices"][0] | {"index": n} for n in (1, 2)]
    fake_server.script = [wire.says(200, answer)]
    async with teacher(fake_server.url, clock) as client:
        found = await client.complete_many([ask(n) for n in range(3)])
    assert [one.choice for one in found] == [0, 1, 0]
    # The usage of the call stands with its first choice, and is not lost.
    paid = Usage(input_tokens=10, output_tokens=1)
    assert [one.usage for one in found] == [paid, Usage(), paid]
    assert len(fake_server.requests) == 2


async def test_a_streamed_call_that_gives_one(fake_server: Any, clock: Any) -> None:
    async def streams(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chunk = {"choices": [{"index": 0, "delta": {"content": "A"}, "finish_reason": "stop"}]}
        await response.write(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())
        return response

    fake_server.default = streams
    async with teacher(fake_server.url, clock, stream=True) as client:
        found = await client.complete_many([ask(n) for n in range(2)])
    assert [one.text for one in found] == ["A", "A"]
    assert len(fake_server.requests) == 2


async def test_a_call_that_fails_as_a_whole_is_not_split(
    fake_server: Any, wire: Any, clock: Any
) -> None:
    fake_server.default = wire.fails(400, "no")
    async with teacher(fake_server.url, clock) as client:
        found = await client.complete_many([ask(n) for n in range(3)])
        assert [(one.outcome, one.choice) for one in found] == [("failed", n) for n in range(3)]
        assert client.capabilities.choices == 3
    assert len(fake_server.requests) == 1


async def test_an_answer_that_is_paid_for_is_kept_where_there_is_no_room_for_the_rest(
    fake_server: Any, clock: Any
) -> None:
    async with teacher(fake_server.url, clock) as client:
        found = await client.complete_many([ask(n) for n in range(3)], Tape(room=2))
        assert sorted(one.outcome for one in found) == ["answered", "answered", "failed"]
        [lost] = [one for one in found if one.outcome is Outcome.FAILED]
        assert "budget.max_calls" in str(lost.error)
        assert lost.choice > 0  # no call of its own: it was never sent
        with pytest.raises(BudgetError):
            await client.complete_many([ask(n) for n in range(3)], Tape(room=0))


async def test_nothing_of_it_uses_up_reasks_and_every_call_is_counted(
    fake_server: Any, tmp_path: Path
) -> None:
    recipe = parse_recipe(
        f"""
        [run]
        name = "asked"
        dir = "run"
        [data]
        file = "data.csv"
        [task]
        labels = ["yes", "no"]
        [teacher]
        kind = "openai"
        model = "m"
        base_url = "{fake_server.url}"
        choices = 4
        [teacher.price]
        input = 1000.0
        output = 2000.0
        [teacher.terms]
        training = "allowed"
        [budget]
        max_calls = 100
        reasks = 0
        """
    )
    with Ledger.open(tmp_path / "ledger.sqlite", write=True) as ledger:
        async with OpenAICompatibleTeacher(recipe.teacher) as client:
            asker = Asker(recipe, client, ledger, check_terms(recipe.teacher))
            texts = ("hello", "more")
            both = await asyncio.gather(*(asker.ask_samples(ask(text=t), 8) for t in texts))
            await asker.drain()
            spent = asker.budget.spent
        assert {one.outcome for answers in both for one in answers} == {Outcome.ANSWERED}
        assert len(fake_server.requests) == spent.calls == 16
        found = list(ledger.exchanges())
        assert len(found) == 16
        assert sum(one.cost_usd or 0 for one in found) == pytest.approx(spent.usd)
        assert Budget(recipe, ledger).spent.calls == 16
