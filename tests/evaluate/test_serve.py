from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from overproof.errors import ConfigError
from overproof.evaluate.serve import bind, build_app
from overproof.evaluate.student import Student

CHAT = "/v1/chat/completions"


def ask(text: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "gpt-x", "messages": [{"role": "user", "content": text}], **fields}


@asynccontextmanager
async def connected(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


@pytest.fixture
async def client(student: Student) -> AsyncIterator[httpx.AsyncClient]:
    async with connected(build_app(student, model_name="tiny")) as client:
        yield client


async def test_chat_answers_with_the_label(client: httpx.AsyncClient) -> None:
    response = await client.post(CHAT, json=ask("a good film"))
    assert response.status_code == 200
    body = response.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "tiny"
    (choice,) = body["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == "positive"
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"] is None
    assert body["usage"] == {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}


async def test_only_the_last_user_message_counts(client: httpx.AsyncClient) -> None:
    messages = [
        {"role": "system", "content": "good good good"},
        {"role": "user", "content": "great"},
        {"role": "assistant", "content": "positive"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "bad"}, {"type": "text", "text": ""}],
        },
    ]
    body = (await client.post(CHAT, json={"messages": messages})).json()
    assert body["choices"][0]["message"]["content"] == "negative"


async def test_logprobs_are_the_label_distribution(
    client: httpx.AsyncClient, student: Student
) -> None:
    fields = ask("bad film", logprobs=True, top_logprobs=2, n=2)
    choices = (await client.post(CHAT, json=fields)).json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    (token,) = choices[1]["logprobs"]["content"]
    expected = student.log_probabilities(student.logits(["bad film"]))[0]
    assert token["token"] == "negative"
    assert bytes(token["bytes"]).decode() == "negative"
    assert token["logprob"] == pytest.approx(expected[1])
    assert [top["token"] for top in token["top_logprobs"]] == ["negative", "positive"]
    assert token["top_logprobs"][1]["logprob"] == pytest.approx(expected[0])
    only = (await client.post(CHAT, json=ask("bad", logprobs=True))).json()["choices"][0]
    assert only["logprobs"]["content"][0]["top_logprobs"] == []


def events(text: str) -> list[Any]:
    lines = [line for line in text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


async def test_stream(client: httpx.AsyncClient) -> None:
    fields = ask("great", stream=True, stream_options={"include_usage": True}, logprobs=True)
    response = await client.post(CHAT, json=fields)
    assert response.headers["content-type"].startswith("text/event-stream")
    chunks = events(response.text)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "positive"}, {}]
    assert chunks[1]["choices"][0]["logprobs"]["content"][0]["token"] == "positive"
    assert chunks[2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 3
    plain = events((await client.post(CHAT, json=ask("great", stream=True))).text)
    assert len(plain) == 3
    assert "usage" not in plain[0]


async def test_prompt_template_is_taken_off(
    tmp_path: Path, build_student: Callable[..., Path]
) -> None:
    directory = build_student(tmp_path / "s")
    frame = {"prefix": "Is this good or bad?\n", "suffix": "\nAnswer:"}
    (directory / "prompt.json").write_text(json.dumps(frame))
    student = Student.load(directory, threads=1)
    async with connected(build_app(student, model_name="tiny")) as client:
        for text in ("Is this good or bad?\ntable\nAnswer:", "table"):
            fields = ask(text, logprobs=True)
            choice = (await client.post(CHAT, json=fields)).json()["choices"][0]
            expected = student.log_probabilities(student.logits(["table"])).max()
            assert choice["message"]["content"] == "neutral"
            assert choice["logprobs"]["content"][0]["logprob"] == pytest.approx(expected)
        empty = await client.post(CHAT, json=ask("Is this good or bad?\n \nAnswer:"))
        assert empty.status_code == 400


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ([], None, "JSON object"),
        ({}, "messages", "list"),
        ({"messages": []}, "messages", "list"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages", "no user message"),
        ({"messages": ["x"]}, "messages[0]", "role"),
        (ask(None), "messages[0].content", "text"),
        (ask(" \n"), "messages", "empty"),
        (ask([{"type": "image_url", "image_url": {"url": "x"}}]), "messages[0].content[0]", "text"),
        (ask("\ud800"), "messages[0].content", "surrogate"),
        (ask("x", n=0), "n", "from 1 to 128"),
        (ask("x", n=True), "n", "whole number"),
        (ask("x", stream="yes"), "stream", "true or false"),
        (ask("x", top_logprobs=2), "top_logprobs", "logprobs: true"),
        (ask("x", logprobs=True, top_logprobs=-1), "top_logprobs", "at least 0"),
        (ask("x", stream_options=1), "stream_options", "object"),
    ],
)
async def test_bad_requests(
    client: httpx.AsyncClient, fields: Any, param: str | None, says: str
) -> None:
    response = await client.post(CHAT, content=json.dumps(fields))
    assert response.status_code == 400
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert says in error["message"]


async def test_invalid_json_unknown_path_wrong_method(client: httpx.AsyncClient) -> None:
    for content in (b"{", b"", b"\xff", b"[" * 100_000):
        response = await client.post(CHAT, content=content)
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "invalid_json"
    response = await client.post("/v1/embeddings", json={})
    assert response.status_code == 404
    assert "/v1/embeddings" in response.json()["error"]["message"]
    response = await client.get(CHAT)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


async def test_body_too_large(student: Student) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    async with connected(build_app(student, model_name="tiny", max_body=1000)) as client:
        assert (await client.post(CHAT, content=b" " * 1001)).status_code == 413
        assert (await client.post(CHAT, content=endless())).status_code == 413
        assert (await client.post(CHAT, json=ask("good"))).status_code == 200


async def test_classify(client: httpx.AsyncClient, student: Student) -> None:
    one = (await client.post("/v1/classify", json={"input": "a good film"})).json()
    assert len(one["results"]) == 1
    texts = ["a good film", "bad", "table and chair"] * 50
    body = (await client.post("/v1/classify", json={"input": texts})).json()
    assert one["results"][0] == body["results"][0]
    for result, expected in zip(body["results"], student.predict_proba(texts), strict=True):
        assert list(result["probabilities"].values()) == pytest.approx(expected.tolist())
        assert result["confidence"] == pytest.approx(expected.max())
        assert result["label"] == student.labels[expected.argmax()]
    assert body["usage"]["total_tokens"] == 50 * (4 + 2 + 4)


@pytest.mark.parametrize("given", [None, [], "", [1], ["x", " "], {"a": 1}, ["x"] * 2049])
async def test_classify_refuses(client: httpx.AsyncClient, given: Any) -> None:
    response = await client.post("/v1/classify", json={"input": given})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "input"
    assert (await client.post("/v1/classify", json=["x"])).status_code == 400


async def test_models_and_health(client: httpx.AsyncClient) -> None:
    models = (await client.get("/v1/models")).json()
    assert [model["id"] for model in models["data"]] == ["tiny"]
    assert (await client.get("/v1/models/tiny")).json()["object"] == "model"
    missing = await client.get("/v1/models/gpt-x")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"
    assert (await client.get("/health")).json() == {"status": "ok", "model": "tiny"}


async def test_api_key(student: Student) -> None:
    async with connected(build_app(student, model_name="tiny", api_key="sésame")) as client:
        for header in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Basic sésame"}):
            encoded = {name: value.encode() for name, value in header.items()}
            response = await client.post(CHAT, json=ask("good"), headers=encoded)
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"
        right = {"Authorization": "Bearer sésame".encode()}
        assert (await client.post(CHAT, json=ask("good"), headers=right)).status_code == 200
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.get("/health")).status_code == 200


async def test_requests_share_batches_and_keep_their_answers(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    score = student.score

    def counted(texts: Any, batch_size: int = 64) -> Any:
        sizes.append(len(texts))
        return score(texts, batch_size)

    monkeypatch.setattr(student, "score", counted)
    app = build_app(student, model_name="tiny", max_batch=8, max_wait_s=0.05)
    words = {"good": "positive", "awful": "negative", "floor": "neutral"}
    async with connected(app) as client:
        texts = list(words) * 20
        answers = await asyncio.gather(*(client.post(CHAT, json=ask(text)) for text in texts))
    labels = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
    assert labels == [words[text] for text in texts]
    assert sum(sizes) == 60
    assert max(sizes) == 8
    assert len(sizes) < 30


async def test_full_queue_is_503(student: Student) -> None:
    app = build_app(student, model_name="tiny", max_queued=2, max_wait_s=0.2)
    async with connected(app) as client:
        first = asyncio.create_task(client.post("/v1/classify", json={"input": ["good", "bad"]}))
        await asyncio.sleep(0.05)
        refused = await client.post(CHAT, json=ask("good"))
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["type"] == "server_error"
        assert (await first).status_code == 200
        assert (await client.post(CHAT, json=ask("good"))).status_code == 200
        assert (await client.post("/v1/classify", json={"input": ["x"] * 3})).status_code == 400


async def test_a_failing_student_is_500_and_the_server_lives(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = build_app(student, model_name="tiny")
    async with connected(app) as client:
        with monkeypatch.context() as patch:
            patch.setattr(student, "score", lambda *_: 1 / 0)
            response = await client.post(CHAT, json=ask("good"))
        assert response.status_code == 500
        assert response.json()["error"]["type"] == "server_error"
        assert (await client.post(CHAT, json=ask("good"))).status_code == 200


def test_port_in_use() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            bind("127.0.0.1", port)
    assert caught.value.culprit == f"127.0.0.1:{port}"
    assert "in use" in caught.value.reason
    assert "--port" in caught.value.way_out
