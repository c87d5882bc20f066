"""Streams, choices and tools through a teacher, against a server on this machine."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from overproof.clients.openai_compatible import OpenAICompatibleTeacher
from overproof.config.teacher import TeacherConfig
from overproof.records.exchange import Message, Outcome, Parameters, Request, Tool

TOOL = Tool(name="now")


def ask(sample: int = 0, **parameters: Any) -> Request:
    return Request(
        model="m",
        messages=(Message(role="user", content="Hi"),),
        parameters=Parameters(**parameters),
        sample=sample,
    )


def chunk(index: int = 0, reason: str | None = None, **delta: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": reason}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = [chunk(content=""), chunk(content="He"), chunk(content="y."), chunk(reason="stop"), USAGE]


def streams(*parts: bytes, pause_s: float = 0.0) -> Any:
    async def behave(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(pause_s)
        return response

    return behave


def teacher(fake_server: Any, clock: Any, **changes: Any) -> OpenAICompatibleTeacher:
    said = {"kind": "openai", "model": "m", "base_url": fake_server.url, "max_attempts": 3}
    config = TeacherConfig.model_validate(said | {"stream": True} | changes)
    return OpenAICompatibleTeacher(config, sleep=clock.sleep, now=clock.now)


async def test_a_stream_is_asked_for_and_read(fake_server: Any, clock: Any) -> None:
    fake_server.default = streams(*WHOLE, DONE)
    async with teacher(fake_server, clock) as asked:
        completion = await asked.complete(ask())
    assert (completion.text, completion.outcome) == ("Hey.", Outcome.ANSWERED)
    assert (completion.attempts, completion.status) == (1, 200)
    assert completion.usage is not None
    assert completion.usage.output_tokens == 4
    assert fake_server.requests[0].body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    "broken",
    [WHOLE, WHOLE[:2], [*WHOLE[:2], b'data: {"error": {"message": "busy", "code": 503}}\n\n']],
)
async def test_a_broken_stream_is_asked_again(
    fake_server: Any, clock: Any, broken: list[bytes]
) -> None:
    fake_server.script = [streams(*broken), streams(*WHOLE, DONE)]
    async with teacher(fake_server, clock) as asked:
        completion = await asked.complete(ask())
    assert (completion.text, completion.attempts) == ("Hey.", 2)
    assert completion.uncertain_attempts == 1  # somebody may bill the first


async def test_a_stalled_stream_is_asked_again(fake_server: Any, clock: Any) -> None:
    alive = streams(*WHOLE[:2], *[b": still here\n\n"] * 1000, pause_s=0.01)
    fake_server.script = [alive, streams(*WHOLE, DONE)]
    async with teacher(fake_server, clock, stall_s=0.1) as asked:
        completion = await asked.complete(ask())
    assert (completion.text, completion.attempts) == ("Hey.", 2)


async def test_a_server_that_streams_nothing_is_read_all_the_same(
    fake_server: Any, wire: Any, clock: Any
) -> None:
    fake_server.default = wire.answers("Hey.")
    async with teacher(fake_server, clock) as asked:
        assert (await asked.complete(ask())).text == "Hey."


@pytest.mark.parametrize("stream", [False, True])
async def test_several_choices_with_calls(
    fake_server: Any, wire: Any, clock: Any, stream: bool
) -> None:
    call = {"index": 0, "id": "c", "function": {"name": "now", "arguments": "{}"}}
    if stream:
        parts = [chunk(1, content="Hey."), chunk(0, tool_calls=[call])]
        ends = [chunk(0, "tool_calls"), chunk(1, "stop"), USAGE, DONE]
        fake_server.default = streams(*parts, *ends)
    else:
        calls = {"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}
        body = wire.chat_completion() | {
            "choices": [calls | {"index": 0}, wire.chat_completion("Hey.", index=1)["choices"][0]],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4},
        }
        fake_server.default = wire.says(200, body)
    requests = [ask(n, tools=(TOOL,), tool_choice="auto") for n in (0, 1)]
    async with teacher(fake_server, clock, stream=stream, choices=2) as asked:
        assert asked.capabilities.choices == 2
        first, second = await asked.complete_many(requests)
    assert [(one.choice, one.outcome) for one in (first, second)] == [
        (0, Outcome.ANSWERED),
        (1, Outcome.ANSWERED),
    ]
    assert first.tool_calls[0].name == "now"
    assert second.text == "Hey."
    assert [one.usage.output_tokens for one in (first, second) if one.usage] == [4, 0]
    assert fake_server.requests[0].body["n"] == 2
    assert len(fake_server.requests) == 1
