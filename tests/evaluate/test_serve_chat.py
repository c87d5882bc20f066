from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from talking import CHAT, ScriptedEngine, ask, chunks_of, connected, said

from overproof.evaluate.chat import ProtocolError
from overproof.evaluate.serve_chat import build_chat_app
from overproof.evaluate.serve_chat_defer import Alone
from overproof.evaluate.serve_chat_request import ChatAsked
from overproof.records.exchange import Outcome, ToolCall


def app(engine: ScriptedEngine, **options: Any) -> Any:
    return build_chat_app(engine, Alone(engine, "small"), model_name="small", **options)


async def test_a_whole_answer() -> None:
    engine = ScriptedEngine()
    async with connected(app(engine)) as client:
        response = await client.post(CHAT, json=ask(logprobs=True, top_logprobs=0))
    body = response.json()
    assert response.headers["x-overproof-answered-by"] == "student"
    assert (body["object"], body["model"]) == ("chat.completion", "small")
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "yes it is", "refusal": None}
    assert choice["finish_reason"] == "stop"
    tokens = choice["logprobs"]["content"]
    assert [token["token"] for token in tokens] == ["yes", " it", " is"]  # no end of turn
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


async def test_a_streamed_answer_comes_token_by_token() -> None:
    async with connected(app(ScriptedEngine())) as client:
        wanted = ask(stream=True, stream_options={"include_usage": True}, logprobs=True)
        response = await client.post(CHAT, json=wanted)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-overproof-answered-by"] == "student"
    *chunks, usage = chunks_of(response.text)
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert all(chunk["usage"] is None for chunk in chunks)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert [c["delta"].get("content") for c in choices[1:-1]] == ["yes", " it", " is"]
    assert [c["logprobs"]["content"][0]["token"] for c in choices[1:-1]] == ["yes", " it", " is"]
    assert [c["finish_reason"] for c in choices] == [None] * 4 + ["stop"]
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 7


async def test_several_choices_share_the_prompt() -> None:
    engine = ScriptedEngine()
    async with connected(app(engine)) as client:
        body = (await client.post(CHAT, json=ask(n=3))).json()
        streamed = chunks_of((await client.post(CHAT, json=ask(n=3, stream=True))).text)
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 12, "total_tokens": 15}
    texts = {0: "", 1: "", 2: ""}
    for chunk in streamed:
        choice = chunk["choices"][0]
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert set(texts.values()) == {"yes it is"}


async def test_tool_calls_and_limits_are_told() -> None:
    call = ToolCall(id="call_0", name="add", arguments='{"a": 1}')
    engine = ScriptedEngine(
        {
            "tool": said("", tool_calls=(call,), finish_reason="tool_calls"),
            "long": said("on and on", outcome=Outcome.TRUNCATED, finish_reason="length"),
        }
    )

    async def choice(asked: ChatAsked, index: int) -> Any:
        from overproof.evaluate.serve_chat_engines import pieces_of_completion

        for piece in pieces_of_completion(engine.script[asked.messages[-1].content], index):
            yield piece

    engine.choice = choice  # type: ignore[method-assign, assignment]
    async with connected(app(engine)) as client:
        tool = (await client.post(CHAT, json=ask("tool"))).json()["choices"][0]
        long = (await client.post(CHAT, json=ask("long"))).json()["choices"][0]
        streamed = chunks_of((await client.post(CHAT, json=ask("tool", stream=True))).text)
    assert tool["message"]["content"] is None
    (told,) = tool["message"]["tool_calls"]
    assert told == {
        "id": "call_0", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}
    }  # fmt: skip
    assert tool["finish_reason"] == "tool_calls"
    assert long["finish_reason"] == "length"
    assert streamed[1]["choices"][0]["delta"]["tool_calls"][0]["index"] == 0


async def test_a_failure_before_the_first_token_has_a_status() -> None:
    failure = ProtocolError("too long", param="messages", code="context_length_exceeded")
    engine = ScriptedEngine({"long": failure})
    async with connected(app(engine)) as client:
        for stream in (False, True):
            response = await client.post(CHAT, json=ask("long", stream=stream))
            assert response.status_code == 400
            assert response.json()["error"]["code"] == "context_length_exceeded"


async def test_a_failure_on_the_way_is_an_event_and_no_end() -> None:
    engine = ScriptedEngine()
    engine.break_after = 2
    async with connected(app(engine)) as client:
        response = await client.post(CHAT, json=ask(stream=True))
        whole = await client.post(CHAT, json=ask())
    events = [line for line in response.text.split("\n\n") if line]
    assert json.loads(events[-1].removeprefix("data: "))["error"]["message"] == "it broke"
    assert "[DONE]" not in response.text
    assert whole.status_code == 502  # never half an answer as a whole one


async def test_a_full_queue_is_refused_and_room_is_given_back() -> None:
    engine = ScriptedEngine()
    engine.hold = asyncio.Event()
    async with connected(app(engine, max_queued=1)) as client:
        waiting = [
            asyncio.create_task(client.post(CHAT, json=ask(stream=s))) for s in (0 == 1, 1 == 1)
        ]
        while len(engine.asked) < 2:
            await asyncio.sleep(0)
        refused = await client.post(CHAT, json=ask())
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "overloaded"
        engine.hold.set()
        assert [task.status_code for task in await asyncio.gather(*waiting)] == [200, 200]
        assert (await client.post(CHAT, json=ask(n=2))).status_code == 200
        too_many = await client.post(CHAT, json=ask(n=3))
        assert too_many.json()["error"]["param"] == "n"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_the_generation(stream: bool) -> None:
    engine = ScriptedEngine()
    engine.hold = asyncio.Event()
    served = app(engine, max_queued=1)
    sent: list[Any] = []
    left = asyncio.Event()
    body = json.dumps(ask(stream=stream, n=2)).encode()
    incoming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if incoming:
            return incoming.pop(0)
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "method": "POST",
        "path": CHAT, "raw_path": CHAT.encode(), "headers": [], "query_string": b"",
        "http_version": "1.1", "scheme": "http", "root_path": "",
    }  # fmt: skip
    task = asyncio.create_task(served(scope, receive, send))
    while len(engine.asked) < 2:
        await asyncio.sleep(0)
    if stream:  # leave in the middle of it
        engine.hold.set()
        while not any(message.get("body") for message in sent):
            await asyncio.sleep(0)
        engine.hold.clear()
    left.set()
    await asyncio.wait_for(task, 5)
    for _ in range(20):  # what was begun ends by itself
        await asyncio.sleep(0)
    assert engine.ended == 2
    engine.hold.set()
    async with connected(served) as client:  # and its room is free again
        assert (await client.post(CHAT, json=ask(n=2))).status_code == 200


async def test_models_health_and_the_key() -> None:
    engine = ScriptedEngine()
    async with connected(app(engine, api_key="right")) as client:
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.post(CHAT, json=ask())).status_code == 401
        client.headers["authorization"] = "Bearer right"
        (model,) = (await client.get("/v1/models")).json()["data"]
        assert (model["id"], model["max_model_len"]) == ("small", 64)
        assert (await client.get("/v1/models/small")).json() == model
        assert (await client.get("/v1/models/other")).json()["error"]["code"] == "model_not_found"
        assert (await client.get("/health")).json()["status"] == "ok"
        engine.alive = False
        assert (await client.get("/health")).status_code == 503


async def test_bodies_are_bounded_and_must_be_json() -> None:
    async with connected(app(ScriptedEngine(), max_body=200)) as client:
        assert (await client.post(CHAT, json=ask("x" * 300))).status_code == 413
        assert (await client.post(CHAT, content=b"{")).json()["error"]["code"] == "invalid_json"
        assert (await client.get(CHAT)).status_code == 405


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": "x"}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ["a", 1]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": 1}, "stream_options"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 6}, "top_logprobs"),
    ],
)
async def test_fields_that_cannot_be_answered_are_named(fields: dict[str, Any], param: str) -> None:
    async with connected(app(ScriptedEngine())) as client:
        response = await client.post(CHAT, json=ask() | fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_half_a_character_and_nan_are_refused() -> None:
    async with connected(app(ScriptedEngine())) as client:
        half = await client.post(
            CHAT, content=b'{"messages": [{"role": "user", "content": "\\ud800"}]}'
        )
        assert half.status_code == 400
        nan = json.dumps(ask(temperature=float("nan")))
        assert (await client.post(CHAT, content=nan)).json()["error"]["param"] == "temperature"


def test_a_request_says_what_it_says() -> None:
    asked = ChatAsked.parse(
        ask(
            [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            max_tokens=9,
            max_completion_tokens=7,
            stop="x",
            user="me",
            tools=[],
            frequency_penalty=0,
            response_format={"type": "text"},
            tool_choice="auto",
            top_k=5,
            logit_bias=None,
            presence_penalty=0.5,
            seed=-1,
        )
    )
    assert asked.messages[0].content == "a\nb"
    assert asked.more == {"top_k": 5, "presence_penalty": 0.5}
    assert asked.body("m") == {
        "model": "m", "messages": [{"role": "user", "content": "a\nb"}], "max_tokens": 7,
        "stop": ["x"], "seed": -1, "top_k": 5, "presence_penalty": 0.5,
    }  # fmt: skip
    request = asked.request("m", 100, sample=2)
    assert (request.parameters.max_tokens, request.sample) == (7, 2)
    assert request.parameters.extra == {"top_k": 5, "presence_penalty": 0.5}
    assert ChatAsked.parse(ask()).request("m", 100).parameters.max_tokens == 100
