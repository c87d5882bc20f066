"""vLLM's server, by answers that vLLM 0.32 gave (``fixtures/vllm_*.json``), and itself if it runs.

Start ``vllm serve MODEL --served-model-name smollm2 --max-model-len 1024`` with
SmolLM2-135M-Instruct and set ``OVERPROOF_TEST_VLLM=http://127.0.0.1:PORT/v1`` for the last test.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from overproof.clients import vllm_server
from overproof.clients.openai_compatible import OpenAICompatibleTeacher
from overproof.config.teacher import TeacherConfig
from overproof.records.exchange import Message, Outcome, Parameters, Request

FIXTURES = Path(__file__).with_name("fixtures")
QUESTION = Message(role="user", content="Name the colour of the sky in one word.")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["name", "people"],
    "additionalProperties": False,
}


def recorded(name: str) -> Any:
    return json.loads((FIXTURES / f"vllm_{name}.json").read_text())


def config(base_url: str, **changes: object) -> TeacherConfig:
    wanted = {"kind": "openai", "model": "smollm2", "base_url": base_url, "max_attempts": 1}
    return TeacherConfig.model_validate(wanted | changes)


def ask(*messages: Message, **parameters: object) -> Request:
    wanted = {"max_tokens": 4, "temperature": 0.0} | parameters
    return Request(
        model="smollm2",
        messages=messages or (QUESTION,),
        parameters=Parameters.model_validate(wanted),
    )


class Replay:
    """Answers as vLLM did to the same questions."""

    def __init__(self, models: Any = None) -> None:
        self.models = recorded("models") if models is None else models
        self.bodies: list[dict[str, Any]] = []
        self.url = ""

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/v1/models", self._listed)
        app.router.add_post("/tokenize", self._tokenized)
        app.router.add_post("/v1/chat/completions", self._answered)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    async def _listed(self, _: web.Request) -> web.StreamResponse:
        if isinstance(self.models, str):
            return web.Response(text=self.models, status=200, content_type="application/json")
        return web.json_response(self.models)

    async def _tokenized(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        return web.json_response(recorded("tokenize"))

    async def _answered(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        if body.get("top_logprobs", 0) > 20:
            return web.json_response(recorded("too_many"), status=400)
        name = "answer"
        if "prompt_logprobs" in body:
            name = "prompt_logprobs"
        elif body["messages"][-1]["role"] == "assistant":
            name = "prefill"
        elif body.get("n", 1) > 1:
            name = "many"
        elif "response_format" in body:
            name = "schema"
        return web.json_response(recorded(name))


@pytest.fixture
async def replay() -> AsyncIterator[Replay]:
    server = Replay()
    runner = await server.start()
    yield server
    await runner.cleanup()


async def test_a_vllm_server_is_known_by_its_models(replay: Replay) -> None:
    async with OpenAICompatibleTeacher(config(replay.url, choices=4)) as teacher:
        can = teacher.capabilities
    assert can.prompt_logprobs
    assert can.assistant_prefill
    assert can.tokenize
    assert can.seed
    assert can.structured
    assert can.top_logprobs == 20
    assert can.context_length == 1024
    assert can.choices == 4
    async with OpenAICompatibleTeacher(config(replay.url, top_logprobs=50)) as teacher:
        assert teacher.capabilities.top_logprobs == 50  # for a server with --max-logprobs 50


@pytest.mark.parametrize(
    "models",
    [
        "", "{", "[]", "null", '{"data": 5}', '{"data": [5, {}, {"owned_by": "openai"}]}',
        '{"object": "list", "data": []}',
    ],
)  # fmt: skip
async def test_whatever_else_lists_models_is_no_vllm(replay: Replay, models: str) -> None:
    replay.models = models
    async with OpenAICompatibleTeacher(config(replay.url)) as teacher:
        assert not teacher.capabilities.prompt_logprobs
        assert await teacher.tokenize("Hi") is None
        await teacher.complete(ask(QUESTION, Message(role="assistant", content="The sky is")))
    assert "continue_final_message" not in replay.bodies[-1]


def test_lengths_by_model() -> None:
    listed = [
        {"id": "a", "owned_by": "vllm", "max_model_len": 10},
        {"id": "b", "owned_by": "vllm", "max_model_len": 20},
        {"id": "c", "owned_by": "vllm", "max_model_len": None},
    ]
    found = [vllm_server.capabilities_from_models({"data": listed}, name) for name in "abcd"]
    assert [can and can.context_length for can in found] == [10, 20, None, 10]


async def test_pieces_are_bytes_even_of_a_part_of_a_character(replay: Replay) -> None:
    text = "Blau, blåbær — 青い!"
    async with OpenAICompatibleTeacher(config(replay.url)) as teacher:
        pieces = await teacher.tokenize(text)
        assert await teacher.tokenize("another text") is None  # these are not its tokens
    assert pieces is not None
    assert b"".join(pieces) == text.encode()
    assert pieces[4] == "å".encode()
    assert pieces[9:12] == [b" \xe9", b"\x9d", b"\x92"]
    assert replay.bodies[0] == {
        "model": "smollm2",
        "prompt": text,
        "add_special_tokens": False,
        "return_token_strs": True,
    }


def test_pieces_of_other_vocabularies() -> None:
    said = {"token_strs": ["▁the", "▁", "<0xE9>", "<0x9D>", "<0x92>"]}
    assert vllm_server.pieces_of(said, "the 青") == [b" the", b" ", b"\xe9", b"\x9d", b"\x92"]
    assert vllm_server.pieces_of({"token_strs": ["the", "[UNK]"]}, "the 青") is None
    for wrong in (None, {}, {"token_strs": None}, {"token_strs": [5]}, [], "x"):
        assert vllm_server.pieces_of(wrong, "x") is None


async def test_recorded_answers_are_read(replay: Replay) -> None:
    async with OpenAICompatibleTeacher(config(replay.url, choices=3)) as teacher:
        answer = await teacher.complete(ask(top_logprobs=3))
        assert answer.outcome is Outcome.TRUNCATED
        assert answer.text == "The sky is a"
        assert answer.system_fingerprint == "vllm-0.32.0-bceffb73"
        assert answer.logprobs is not None
        assert [top.token for top in answer.logprobs[0].top] == ["The", "I", "S"]
        assert answer.reasoning is None
        begun = await teacher.complete(
            ask(QUESTION, Message(role="assistant", content="The sky is"))
        )
        assert begun.text == " a single word:"
        assert replay.bodies[-1]["continue_final_message"] is True
        assert replay.bodies[-1]["add_generation_prompt"] is False
        drawn = await teacher.complete_many(
            [ask(max_tokens=6, temperature=1.0, seed=7).model_copy(update={"sample": i})
             for i in range(3)]
        )  # fmt: skip
        assert [each.choice for each in drawn] == [0, 1, 2]
        assert len({each.text for each in drawn}) == 3
        structured = await teacher.complete(ask(response_schema=SCHEMA))
        assert json.loads(structured.text)["name"] == "Paris"
        refused = await teacher.complete(ask(top_logprobs=21))
        assert refused.outcome is Outcome.FAILED
        assert "greater than max allowed: 20" in (refused.error or "")


async def test_recorded_prompt_logprobs_are_read(replay: Replay) -> None:
    async with OpenAICompatibleTeacher(config(replay.url)) as teacher:
        answer = await teacher.complete(
            ask(
                Message(role="system", content="Say."),
                Message(role="user", content="Hi"),
                prompt_logprobs=2,
                top_logprobs=2,
                max_tokens=2,
            )
        )
    scored = answer.prompt_logprobs
    assert scored is not None
    assert answer.usage is not None
    assert len(scored) == answer.usage.input_tokens == 17
    assert scored[0] is None
    named = [token.token for token in scored if token]
    assert "".join(named).startswith("system\nSay.")
    assert scored[1] is not None
    assert scored[1].logprob == pytest.approx(-7.861683368682861)


@pytest.mark.slow
async def test_the_real_server() -> None:
    url = os.environ.get("OVERPROOF_TEST_VLLM")
    if url is None:
        pytest.skip("needs a vLLM server: set OVERPROOF_TEST_VLLM")
    async with OpenAICompatibleTeacher(config(url, choices=4)) as teacher:
        assert await teacher.check() is None
        assert teacher.capabilities.prompt_logprobs
        text = "Blau, blåbær — 青い!"
        pieces = await teacher.tokenize(text)
        assert pieces is not None
        assert b"".join(pieces) == text.encode()
        answer = await teacher.complete(ask(top_logprobs=20, prompt_logprobs=1))
        assert answer.logprobs is not None
        assert answer.prompt_logprobs is not None
        assert answer.usage is not None
        assert len(answer.prompt_logprobs) == answer.usage.input_tokens
        top = answer.logprobs[0].top
        assert len(top) == 20
        assert math.fsum(math.exp(each.logprob) for each in top) <= 1.001
        prefill = Message(role="assistant", content=answer.text[:7])
        begun = await teacher.complete(ask(QUESTION, prefill))
        assert answer.text[7:].startswith(begun.text[:2])
        drawn = [ask(temperature=1.0, seed=5, max_tokens=8) for _ in range(4)]
        requests = [each.model_copy(update={"sample": i}) for i, each in enumerate(drawn)]
        many = await teacher.complete_many(requests)
        assert len({each.text for each in many}) > 1
        seeded = await asyncio.gather(*(teacher.complete(drawn[0]) for _ in range(3)))
        assert len({each.text for each in seeded}) == 1
        structured = await teacher.complete(ask(response_schema=SCHEMA, max_tokens=80))
        assert set(json.loads(structured.text)) == {"name", "people"}
    async with OpenAICompatibleTeacher(config(url, stream=True)) as teacher:
        streamed = await teacher.complete(ask(top_logprobs=2))
    assert streamed.text == answer.text
    assert streamed.usage is not None
    assert streamed.usage.output_tokens == 4
