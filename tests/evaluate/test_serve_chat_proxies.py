"""Engines that are servers: against a scripted one that speaks as llama.cpp and vLLM do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from talking import CHAT, ask, chunks_of, connected, listening

from overproof.config.teacher import TeacherConfig
from overproof.errors import StudentError
from overproof.evaluate.chat import ProtocolError
from overproof.evaluate.serve_chat import build_chat_app
from overproof.evaluate.serve_chat_defer import Alone
from overproof.evaluate.serve_chat_engines import choices_of
from overproof.evaluate.serve_chat_proxies import VllmEngine
from overproof.evaluate.serve_chat_request import ChatAsked


def token(text: str) -> dict[str, Any]:
    top = {"id": 9, "token": text, "logprob": -0.5, "bytes": list(text.encode())}
    return {**top, "top_logprobs": [top, {**top, "token": "other"}]}


WORDS = [("Hel", "Hel"), ("lo", "lo"), ("", "<|im_end|>")]  # what is said, which token says it


class Upstream:
    """A server of chat completions that records what it is asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.left = asyncio.Event()
        self.cancelled = False
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/models", self.models),
                Route("/health", self.health),
            ]
        )

    async def health(self, _: Request) -> Response:
        return Response()

    async def models(self, _: Request) -> Response:
        listed = {"id": "served", "owned_by": "vllm", "max_model_len": 128}
        return JSONResponse({"object": "list", "data": [listed]})

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers.get("authorization"))
        what = body["messages"][-1]["content"]
        if what == "refuse":
            error = {
                "code": 400,
                "message": "the request exceeds the available context size",
                "type": "exceed_context_size_error",
            }
            return JSONResponse({"error": error}, 400)
        if what.isdecimal():
            return JSONResponse({"error": {"message": "no", "type": "x"}}, int(what))
        if what == "page":
            return Response("<html>gateway</html>")
        if body.get("stream"):
            return StreamingResponse(self.events(what), media_type="text/event-stream")
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Hello"},
        }
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [token(t) for _, t in WORDS]}
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        return JSONResponse({"choices": [choice], "usage": usage, "timings": {"x": 1}})

    async def events(self, what: str) -> AsyncIterator[str]:
        def event(delta: Any, reason: Any = None, logprobs: Any = None) -> str:
            choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": logprobs}
            return f"data: {json.dumps({'choices': [choice]})}\n\n"

        yield event({"role": "assistant", "content": None})
        for text, name in WORDS:
            yield event({"content": text}, None, {"content": [token(name)]})
            if what == "break":
                return
            if what == "error":
                yield 'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
                return
            if what == "slow":
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    self.cancelled = True
                    raise
        yield event({}, "stop")
        usage = {"prompt_tokens": 5, "completion_tokens": 3}
        yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def address(upstream: Upstream) -> Iterator[str]:
    with listening(upstream.app) as base:
        yield base


def engine_at(address: str, **changes: Any) -> VllmEngine:
    config = {"kind": "openai", "model": "small", "base_url": f"{address}/v1", **changes}
    return VllmEngine("small", upstream=TeacherConfig.model_validate(config))


async def test_answers_are_handed_back_translated(
    upstream: Upstream, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "hush-hush")
    async with engine_at(address, api_key_env="UPSTREAM_KEY") as engine:
        assert engine.context_length == 128
        assert await engine.is_alive()
        app = build_chat_app(engine, Alone(engine, "small"), model_name="small")
        async with connected(app) as client:
            wanted = ask(n=2, seed=7, stop=["x"], top_k=3, logprobs=True, top_logprobs=1)
            body = (await client.post(CHAT, json=wanted)).json()
            streamed = await client.post(
                CHAT, json=ask(stream=True, logprobs=True, stream_options={"include_usage": True})
            )
    assert body["model"] == "small"
    assert [c["message"]["content"] for c in body["choices"]] == ["Hello", "Hello"]
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}
    assert "timings" not in body
    told = body["choices"][0]["logprobs"]["content"]
    plain = {"token": "Hel", "logprob": -0.5, "bytes": [72, 101, 108]}
    assert told[0] == {**plain, "top_logprobs": [plain]}
    assert [each["token"] for each in told] == ["Hel", "lo"]  # no end of turn
    first, second, _ = upstream.asked
    assert [first["seed"], second["seed"]] == [7, 8]
    assert (first["model"], first["temperature"], first["top_p"]) == ("served", 1.0, 1.0)
    assert (first["stop"], first["top_k"]) == (["x"], 3)
    assert "n" not in first
    assert set(upstream.keys) == {"Bearer hush-hush"}
    *chunks, usage = chunks_of(streamed.text)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(c["delta"].get("content", "") for c in choices) == "Hello"
    tokens = [t["token"] for c in choices if c["logprobs"] for t in c["logprobs"]["content"]]
    assert tokens == ["Hel", "lo"]
    assert usage["usage"]["total_tokens"] == 8


async def test_the_log_prob_of_the_end_counts_in_a_confidence(address: str) -> None:
    async with engine_at(address) as engine:
        for stream in (False, True):
            asked = ChatAsked.parse(ask(stream=stream, logprobs=True))
            pieces = [piece async for piece in choices_of(engine, asked)]
            assert pieces[-1].values == (-0.5, -0.5, -0.5)


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("refuse", 400, "context_length_exceeded"),
        ("429", 503, "overloaded"),
        ("503", 503, "overloaded"),
        ("401", 502, None),
        ("500", 502, None),
        ("page", 502, None),
    ],
)
async def test_its_errors_become_ours(address: str, text: str, status: int, code: Any) -> None:
    async with engine_at(address) as engine:
        for stream in (False, True):
            with pytest.raises(ProtocolError) as caught:
                async for _ in choices_of(engine, ChatAsked.parse(ask(text, stream=stream))):
                    pass
            assert (caught.value.status, caught.value.code) == (status, code)


@pytest.mark.parametrize("text", ["break", "error"])
async def test_a_stream_that_breaks_off_is_no_answer(address: str, text: str) -> None:
    async with engine_at(address) as engine:
        pieces = choices_of(engine, ChatAsked.parse(ask(text, stream=True)))
        assert (await anext(pieces)).delta == {"content": "Hel"}
        with pytest.raises(ProtocolError) as caught:
            await anext(pieces)
    assert caught.value.status == 502


async def test_leaving_closes_the_connection_behind(upstream: Upstream, address: str) -> None:
    async with engine_at(address) as engine:
        pieces = choices_of(engine, ChatAsked.parse(ask("slow", stream=True)))
        await anext(pieces)
        await pieces.aclose()
        for _ in range(500):
            if upstream.cancelled:
                break
            await asyncio.sleep(0.01)
    assert upstream.cancelled


async def test_a_prefill_is_continued(upstream: Upstream, address: str) -> None:
    async with engine_at(address) as engine:
        messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "He"}]
        asked = ChatAsked.parse({"messages": messages})
        assert [piece async for piece in choices_of(engine, asked)]
    assert upstream.asked[0]["continue_final_message"] is True
    assert upstream.asked[0]["add_generation_prompt"] is False


async def test_nobody_there_is_said_with_the_way_out(address: str) -> None:
    with pytest.raises(StudentError, match="nobody answers") as caught:
        async with engine_at("http://127.0.0.1:9"):
            pass
    assert "vllm serve" in caught.value.way_out
    with pytest.raises(StudentError, match="cannot be served from"):
        async with engine_at(f"{address}/nowhere"):
            pass
