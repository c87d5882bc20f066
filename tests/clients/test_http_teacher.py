"""The HTTP side of a teacher: what attempts cost, how the pace adapts, bodies that break."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest
from aiohttp import web

from overproof.clients.http_teacher import HttpTransport
from overproof.clients.openai_compatible import OpenAICompatibleTeacher
from overproof.clients.retry import RetryPolicy
from overproof.config.teacher import TeacherConfig
from overproof.errors import BudgetError, SecretError, TeacherError, TeacherUnreachableError
from overproof.records.exchange import Completion, Message, Outcome, Parameters, Request, Usage


def config(url: str, **more: Any) -> TeacherConfig:
    return TeacherConfig(kind="openai", model="m", base_url=url, **more)


def teacher(url: str, clock: Any, **more: Any) -> OpenAICompatibleTeacher:
    return OpenAICompatibleTeacher(
        config(url, **more), policy=RetryPolicy(max_attempts=3), sleep=clock.sleep, now=clock.now
    )


def ask(text: str = "hello", sample: int = 0) -> Request:
    return Request(
        model="m",
        messages=(Message(role="user", content=text),),
        parameters=Parameters(max_tokens=8),
        sample=sample,
    )


class Tape:
    """A meter that writes down what it is told."""

    def __init__(self, room: int = 99) -> None:
        self.room = room
        self.told: list[tuple[bool, int]] = []
        self.usage: list[Usage | None] = []
        self.before_calls = 0

    async def before(self) -> None:
        if self.before_calls == self.room:
            raise BudgetError("budget.max_calls", "is reached")
        self.before_calls += 1

    def after(self, completion: Completion, *, reached: bool) -> None:
        self.told.append((reached, completion.uncertain_attempts))
        self.usage.append(completion.usage)

    def pause(self) -> None:
        """Nothing is held."""

    async def resume(self) -> None:
        """Nothing is held."""


async def cuts_gzip(request: web.Request) -> web.StreamResponse:
    body = gzip.compress(json.dumps({"choices": ["x" * 500]}).encode())[:-20]
    return web.Response(
        body=body, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"}
    )


async def test_every_attempt_is_metered_and_doubtful_ones_are_marked(
    fake_server: Any, wire: Any, clock: Any
) -> None:
    doubtful = {
        "cut short": wire.truncates,
        "closed": wire.disconnects,
        "cut gzip": cuts_gzip,
        "no JSON": wire.says(200, '{"choices": [{"mess'),
        "500": wire.fails(500),
        "502": wire.fails(502),
        "408": wire.fails(408),
        "not an answer": wire.says(200, {"choices": []}),
    }
    free = {str(n): wire.fails(n) for n in (409, 425, 429, 503)} | {"400": wire.fails(400)}
    async with teacher(fake_server.url, clock) as client:
        for name, trouble in (doubtful | free).items():
            fake_server.script = [trouble]
            tape = Tape()
            answer = await client.complete(ask(), tape)
            final = name in ("400", "not an answer")
            assert tape.told[0] == (True, int(name in doubtful)), name
            assert len(tape.told) == tape.before_calls == answer.attempts == (1 if final else 2)
            assert answer.uncertain_attempts == int(name in doubtful)
            if not final:
                assert answer.outcome is Outcome.ANSWERED
                assert tape.usage[-1] == Usage(input_tokens=10, output_tokens=1)


async def test_an_attempt_that_found_nobody_reached_nobody(fake_server: Any, clock: Any) -> None:
    url = fake_server.url
    await fake_server.stop()
    tape = Tape()
    async with teacher(url, clock) as client:
        with pytest.raises(TeacherUnreachableError):
            await client.complete(ask(), tape)
    assert tape.told == [(False, 0)] * 3


async def test_no_room_for_a_retry_ends_the_request(
    fake_server: Any, wire: Any, clock: Any
) -> None:
    fake_server.default = wire.fails(500)
    tape = Tape(room=2)
    async with teacher(fake_server.url, clock) as client:
        with pytest.raises(BudgetError):
            await client.complete(ask(), tape)
    assert tape.told == [(True, 1)] * 2
    assert len(fake_server.requests) == 2


async def test_who_waits_for_money_holds_no_place(fake_server: Any, clock: Any) -> None:
    richer = asyncio.Event()

    class Poor(Tape):
        async def before(self) -> None:
            await richer.wait()

    async with teacher(fake_server.url, clock, concurrency=1) as client:
        poor = asyncio.create_task(client.complete(ask("poor"), Poor()))
        await asyncio.sleep(0)
        assert (await client.complete(ask("rich"))).outcome is Outcome.ANSWERED
        richer.set()
        assert (await poor).outcome is Outcome.ANSWERED


async def test_a_refused_key_is_a_call_and_costs_nothing(
    fake_server: Any, wire: Any, clock: Any
) -> None:
    fake_server.script = [wire.fails(401)]
    tape = Tape()
    async with teacher(fake_server.url, clock) as client:
        with pytest.raises(SecretError):
            await client.complete(ask(), tape)
    assert tape.told == [(True, 0)]


async def test_a_cancelled_attempt_is_doubtful_only_once_it_was_sent(
    fake_server: Any, wire: Any, clock: Any
) -> None:
    fake_server.default = wire.hangs
    sent, queued = Tape(), Tape()
    async with teacher(fake_server.url, clock, concurrency=1) as client:
        tasks = [asyncio.create_task(client.complete(ask(), tape)) for tape in (sent, queued)]
        while not fake_server.requests:
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert sent.told == [(True, 1)]
    assert [reached for reached, _ in queued.told] == [False]


async def test_overload_halves_the_places_and_success_gives_them_back(
    fake_server: Any, wire: Any, clock: Any
) -> None:
    async with teacher(fake_server.url, clock, concurrency=8) as client:
        limiter = client.transport.limiter
        assert limiter.limit == 8
        fake_server.script = [wire.fails(503)]
        await client.complete(ask())
        assert 4 <= limiter.limit < 5
        for number in range(60):
            await client.complete(ask(str(number)))
        assert limiter.limit == 8
    async with teacher(fake_server.url, clock, concurrency=8, pacing="fixed") as client:
        fake_server.script = [wire.fails(429)]
        await client.complete(ask())
        assert client.transport.limiter.limit == 8


async def test_a_timeout_counts_as_overload(fake_server: Any, wire: Any, clock: Any) -> None:
    fake_server.script = [wire.hangs]
    async with teacher(fake_server.url, clock, concurrency=8, timeout_s=0.1) as client:
        await client.complete(ask())
        assert client.transport.limiter.limit < 8


async def test_tokens_a_minute_are_settled_with_what_was_used(fake_server: Any, clock: Any) -> None:
    """A request can take 16 + 5 + 8 tokens and takes 11: ten fit into 120, not four."""
    async with teacher(fake_server.url, clock, tokens_per_minute=120) as client:
        for _ in range(9):
            await client.complete(ask())
        assert not clock.slept
        await client.complete(ask())
    assert sum(clock.slept) == pytest.approx(60.0, abs=0.1)


async def test_the_choices_of_one_call(fake_server: Any, wire: Any, clock: Any) -> None:
    answer = wire.chat_completion("A")
    answer["choices"] = [answer["choices"][0] | {"index": n} for n in range(3)]
    fake_server.script = [wire.fails(500), wire.says(200, answer)]
    tape = Tape()
    async with teacher(fake_server.url, clock, choices=3) as client:
        found = await client.complete_many([ask(sample=n) for n in range(3)], tape)
        assert fake_server.requests[-1].body["n"] == 3
        assert [one.choice for one in found] == [0, 1, 2]
        assert [one.usage for one in found] == [Usage(input_tokens=10, output_tokens=1)] + [
            Usage()
        ] * 2
        assert {one.attempts for one in found} == {2}
        assert {one.uncertain_attempts for one in found} == {1}
        assert tape.told == [(True, 1), (True, 0)]
        fake_server.script = [wire.fails(400, "only one")]
        found = await client.complete_many([ask(sample=n) for n in range(2)])
        assert [(one.outcome, one.choice) for one in found] == [("failed", 0), ("failed", 1)]
        with pytest.raises(ValueError, match="at most 3 choices"):
            await client.complete_many([ask(sample=n) for n in range(4)])


async def test_other_requests_are_retried_unless_they_must_not_be_done_twice(
    fake_server: Any, wire: Any, clock: Any
) -> None:
    transport = HttpTransport(config(fake_server.url), sleep=clock.sleep, now=clock.now)
    await transport.open()
    try:
        fake_server.script = [wire.fails(500), wire.disconnects, wire.says(200, {"id": "b1"})]
        reply = await transport.request("POST", "/files", json={"x": 1})
        assert (reply.status, reply.json()) == (200, {"id": "b1"})
        assert [one.path for one in fake_server.requests] == ["/v1/files"] * 3
        fake_server.script = [wire.fails(429), wire.says(201, {"id": "b2"})]
        assert (await transport.request("POST", "/b", json={}, once=True)).status == 201
        fake_server.script = [wire.fails(500)]
        assert (await transport.request("POST", "/b", json={}, once=True)).status == 500
        fake_server.script = [wire.disconnects]
        with pytest.raises(TeacherError, match="connection broke"):
            await transport.request("POST", "/b", json={}, once=True)
        assert (await transport.request("GET", "/nothing")).status == 404
        with pytest.raises(TeacherError, match="another server"):
            await transport.request("GET", "http://elsewhere.example/results")
        fake_server.script = [wire.fails(403)]
        with pytest.raises(SecretError):
            await transport.request("POST", "/b", json={})
    finally:
        await transport.close()


async def test_a_body_that_stays_garbled_has_failed_and_other_json_is_malformed(
    fake_server: Any, wire: Any, clock: Any
) -> None:
    async with teacher(fake_server.url, clock) as client:
        fake_server.default = wire.says(200, '{"choices": [{"mess')
        garbled = await client.complete(ask())
        fake_server.default = wire.says(200, {"choices": []})
        other = await client.complete(ask())
    assert (garbled.outcome, garbled.attempts, garbled.uncertain_attempts) == ("failed", 3, 3)
    assert (garbled.status, other.status) == (200, 200)
    assert "expected a JSON chat completion; got: '{" in str(garbled.error)
    assert (other.outcome, other.attempts, other.uncertain_attempts) == ("malformed", 1, 1)
    assert len(fake_server.requests) == 4
