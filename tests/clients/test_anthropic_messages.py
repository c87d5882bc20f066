"""The Messages API over HTTP: headers, retries, streams, against a server on this machine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from overproof.clients.anthropic_messages import AnthropicTeacher
from overproof.clients.connect import connect
from overproof.config.teacher import TeacherConfig
from overproof.errors import ConfigError, SecretError
from overproof.records.exchange import (
    Completion,
    Message,
    Outcome,
    Parameters,
    Request,
    ToolCall,
)

KEY = "sk-ant-not-a-real-key-0123456789"
REQUEST = Request(model="claude", messages=(Message(role="user", content="Hi"),))


def message(text: str = "Hello.", **changes: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-1",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 2},
    } | changes


def error(kind: str, text: str = "M") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": text}, "request_id": "r"}


def event(**fields: Any) -> bytes:
    return f"event: {fields['type']}\ndata: {json.dumps(fields)}\n\n".encode()


START = event(type="message_start", message=message() | {"content": [], "stop_reason": None})
BLOCK = event(type="content_block_start", index=0, content_block={"type": "text", "text": ""})
TEXT = event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello."})
END = event(
    type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2}
) + event(type="message_stop")


def streams(*parts: bytes) -> Any:
    async def behave(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        return response

    return behave


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_KEY", KEY)


async def asked(
    fake_server: Any, clock: Any, request: Request = REQUEST, **changes: Any
) -> Completion:
    said = {
        "kind": "anthropic",
        "model": "claude",
        "base_url": fake_server.url.removesuffix("/v1"),
        "api_key_env": "ANTHROPIC_KEY",
        "max_attempts": 3,
    }
    config = TeacherConfig.model_validate(said | changes)
    async with AnthropicTeacher(config, sleep=clock.sleep, now=clock.now) as teacher:
        return await teacher.complete(request)


async def test_where_and_how_it_asks(fake_server: Any, wire: Any, clock: Any) -> None:
    fake_server.default = wire.says(200, message())
    completion = await asked(fake_server, clock)
    assert (completion.text, completion.outcome) == ("Hello.", Outcome.ANSWERED)
    assert completion.status == 200
    [received] = fake_server.requests
    assert received.path == "/v1/messages"
    assert received.headers["x-api-key"] == KEY
    assert received.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in received.headers
    assert received.body["messages"] == [{"role": "user", "content": "Hi"}]


async def test_the_recipe_may_say_otherwise(fake_server: Any, wire: Any, clock: Any) -> None:
    fake_server.default = wire.says(200, message())
    await asked(
        fake_server,
        clock,
        path="/gateway/messages",
        headers={"Anthropic-Version": "2099-01-01", "anthropic-beta": "x"},
        api_key_header="X-Gateway",
    )
    [received] = fake_server.requests
    assert received.path == "/gateway/messages"
    assert received.headers["anthropic-version"] == "2099-01-01"
    assert received.headers["anthropic-beta"] == "x"
    assert received.headers["x-gateway"] == KEY


def test_its_address_is_known() -> None:
    config = TeacherConfig(kind="anthropic", model="claude", api_key_env="ANTHROPIC_KEY")
    teacher = connect(config)
    assert teacher.name == "claude@api.anthropic.com"
    can = teacher.capabilities
    assert (can.structured, can.tools, can.temperature) == (True, True, True)
    assert (can.seed, can.top_logprobs, can.choices, can.assistant_prefill) == (False, 0, 1, False)
    stated = config.model_copy(update={"structured": "none", "supports_prefill": True})
    assert AnthropicTeacher(stated).capabilities.assistant_prefill
    assert not AnthropicTeacher(stated).capabilities.structured
    with pytest.raises(ConfigError, match=r"teacher\.stream = true"):
        AnthropicTeacher(config.model_copy(update={"body": {"stream": True}}))


async def test_overload_is_waited_out(fake_server: Any, wire: Any, clock: Any) -> None:
    fake_server.script = [
        wire.says(529, error("overloaded_error")),
        wire.says(429, error("rate_limit_error"), {"Retry-After": "7"}),
        wire.says(200, message()),
    ]
    completion = await asked(fake_server, clock)
    assert (completion.outcome, completion.attempts) == (Outcome.ANSWERED, 3)
    assert max(clock.slept) >= 7


async def test_a_bad_request_is_final(fake_server: Any, wire: Any, clock: Any) -> None:
    fake_server.default = wire.says(400, error("invalid_request_error", "max_tokens: too large"))
    completion = await asked(fake_server, clock)
    assert (completion.outcome, completion.attempts) == (Outcome.FAILED, 1)
    assert "max_tokens: too large" in str(completion.error)


async def test_a_refused_key_is_named_and_hidden(fake_server: Any, wire: Any, clock: Any) -> None:
    fake_server.default = wire.says(401, error("authentication_error", f"invalid x-api-key {KEY}"))
    with pytest.raises(SecretError, match="ANTHROPIC_KEY") as caught:
        await asked(fake_server, clock)
    assert KEY not in str(caught.value)


async def test_a_body_of_another_shape(fake_server: Any, wire: Any, clock: Any) -> None:
    fake_server.script = [wire.truncates, wire.says(200, "<html>"), wire.says(200, {"ok": True})]
    completion = await asked(fake_server, clock)
    assert completion.outcome is Outcome.MALFORMED
    assert completion.attempts == 3
    assert "content blocks" in str(completion.error)


@pytest.mark.parametrize(
    "broken",
    [
        [START, BLOCK, TEXT],
        [START, BLOCK, TEXT[:-9]],
        [START, event(**error("overloaded_error"))],
    ],
)
async def test_a_broken_stream_is_asked_again(
    fake_server: Any, clock: Any, broken: list[bytes]
) -> None:
    fake_server.script = [streams(*broken), streams(START, BLOCK, TEXT, END)]
    completion = await asked(fake_server, clock, stream=True)
    assert (completion.text, completion.attempts) == ("Hello.", 2)
    assert fake_server.requests[0].body["stream"] is True


async def test_a_stream_of_pings_has_stalled(fake_server: Any, clock: Any) -> None:
    async def pings(request: web.Request) -> web.StreamResponse:
        import asyncio

        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(START)
        while True:
            await response.write(event(type="ping"))
            await asyncio.sleep(0.01)

    fake_server.script = [pings, streams(START, BLOCK, TEXT, END)]
    completion = await asked(fake_server, clock, stream=True, stall_s=0.1)
    assert (completion.text, completion.attempts) == ("Hello.", 2)


async def test_a_request_that_cannot_be_said_is_not_sent(fake_server: Any, clock: Any) -> None:
    calls = (ToolCall(id="c", name="weather", arguments="{"),)
    request = Request(
        model="claude",
        messages=(*REQUEST.messages, Message(role="assistant", content="", tool_calls=calls)),
        parameters=Parameters(max_tokens=5),
    )
    completion = await asked(fake_server, clock, request)
    assert completion.outcome is Outcome.FAILED
    assert "weather" in str(completion.error)
    assert fake_server.requests == []


async def test_the_key_is_looked_at_before_spending(fake_server: Any, wire: Any) -> None:
    config = TeacherConfig(
        kind="anthropic",
        model="claude",
        base_url=fake_server.url.removesuffix("/v1"),
        api_key_env="ANTHROPIC_KEY",
    )
    fake_server.script = [
        wire.says(401, error("authentication_error")),
        wire.says(400, error("invalid_request_error")),
    ]
    async with AnthropicTeacher(config) as teacher:
        assert "refuses the key" in str(await teacher.check())
        assert await teacher.check() is None
    assert [received.body for received in fake_server.requests] == [{}, {}]
