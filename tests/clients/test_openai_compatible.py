from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from overproof.clients.connect import connect, redaction_of
from overproof.clients.openai_compatible import OpenAICompatibleTeacher
from overproof.clients.retry import RetryPolicy
from overproof.config.recipe import TeacherConfig
from overproof.errors import (
    ConfigError,
    SecretError,
    TeacherError,
    TeacherUnreachableError,
)
from overproof.records.exchange import Message, Outcome, Parameters, Request

KEY = "sk-0123456789abcdef-secret"


def config(url: str, **changes: Any) -> TeacherConfig:
    return TeacherConfig.model_validate(
        {"kind": "openai", "model": "m", "base_url": url, "max_attempts": 3} | changes
    )


def ask(text: str = "Hello", **parameters: Any) -> Request:
    return Request(
        model="m",
        messages=(Message(role="user", content=text),),
        parameters=Parameters.model_validate(parameters),
    )


def teacher(url: str, clock: Any, **changes: Any) -> OpenAICompatibleTeacher:
    return OpenAICompatibleTeacher(config(url, **changes), sleep=clock.sleep, now=clock.now)


async def test_an_answer(fake_server: Any, wire: Any, clock: Any) -> None:
    async with teacher(fake_server.url, clock) as client:
        answer = await client.complete(ask())
    assert (answer.outcome, answer.text, answer.status) == (Outcome.ANSWERED, "A", 200)
    assert (answer.attempts, answer.finish_reason) == (1, "stop")
    assert (answer.model, answer.system_fingerprint) == ("served-model", "fp_1")
    assert answer.usage is not None
    assert answer.usage.input_tokens == 10
    assert client.name == "m@127.0.0.1"


async def test_passing_troubles_are_retried(fake_server: Any, wire: Any, clock: Any) -> None:
    troubles = [
        *(wire.fails(status) for status in (408, 409, 425, 429, 500, 503)),
        wire.truncates,
        wire.disconnects,
        wire.says(200, '{"choices": ['),
        wire.says(200, "<html>Bad gateway</html>"),
        wire.says(200, {"error": {"message": "overloaded", "code": 503}}),
    ]
    async with teacher(fake_server.url, clock) as client:
        for trouble in troubles:
            fake_server.script = [trouble]
            answer = await client.complete(ask())
            assert (answer.outcome, answer.attempts) == (Outcome.ANSWERED, 2)


async def test_a_hang_is_a_timeout_and_retried(fake_server: Any, wire: Any, clock: Any) -> None:
    fake_server.script = [wire.hangs]
    async with teacher(fake_server.url, clock, timeout_s=0.2) as client:
        answer = await client.complete(ask())
        assert answer.attempts == 2
        fake_server.default = wire.hangs
        answer = await client.complete(ask())
    assert answer.outcome is Outcome.FAILED
    assert answer.error == "no answer within 0.2 s"


@pytest.mark.parametrize(
    ("message", "way_out"),
    [
        ("Unsupported value: 'temperature' does not support 0", "supports_temperature = false"),
        ("You are not allowed to request logprobs from this model", "top_logprobs = 0"),
        (
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            'max_tokens_field = "max_completion_tokens"',
        ),
        ("unknown field seed", "supports_seed = false"),
        ("This model's maximum context length is 8192 tokens", "shorten the input"),
        ("labels are wrong", "labels are wrong"),
    ],
)
async def test_a_rejection_fails_at_once_with_the_way_out(
    fake_server: Any, wire: Any, clock: Any, message: str, way_out: str
) -> None:
    fake_server.script = [wire.fails(400, message)]
    async with teacher(fake_server.url, clock) as client:
        answer = await client.complete(ask())
    assert (answer.outcome, answer.status, answer.attempts) == (Outcome.FAILED, 400, 1)
    assert message in str(answer.error)
    assert way_out in str(answer.error)
    assert not clock.slept


async def test_the_last_failure_is_told_with_the_servers_words(
    fake_server: Any, wire: Any, clock: Any
) -> None:
    fake_server.default = wire.fails(500, "the tubes are blocked")
    async with teacher(fake_server.url, clock) as client:
        answer = await client.complete(ask())
    assert (answer.outcome, answer.attempts, answer.status) == (Outcome.FAILED, 3, 500)
    assert answer.error == "HTTP 500: the tubes are blocked"


async def test_retry_after_holds_every_request(fake_server: Any, wire: Any, clock: Any) -> None:
    fake_server.script = [wire.fails(429, headers={"Retry-After": "7"})]
    async with teacher(fake_server.url, clock, concurrency=1) as client:
        answers = await asyncio.gather(*[client.complete(ask(str(n))) for n in range(3)])
    assert sorted(answer.attempts for answer in answers) == [1, 1, 2]
    # Seven seconds for all, and a little more for the one that tries again.
    assert all(seconds >= 7.0 for seconds in clock.slept[:1])
    assert 7.0 <= clock.seconds <= 7.0 + 0.5


async def test_a_retry_waits_without_a_slot(fake_server: Any, wire: Any) -> None:
    """With one slot: while the first request waits for its retry, the second is answered."""
    second_done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await second_done.wait()

    fake_server.script = [wire.fails(500)]
    client = OpenAICompatibleTeacher(config(fake_server.url, concurrency=1), sleep=sleep)
    async with client:
        first = asyncio.create_task(client.complete(ask("first")))
        while not fake_server.requests:
            await asyncio.sleep(0)
        answer = await asyncio.wait_for(client.complete(ask("second")), 5)
        second_done.set()
        assert answer.attempts == 1
        assert (await first).attempts == 2


async def test_concurrency_is_kept(fake_server: Any, clock: Any) -> None:
    async with teacher(fake_server.url, clock, concurrency=3) as client:
        await asyncio.gather(*[client.complete(ask(str(n))) for n in range(20)])
    assert len(fake_server.requests) == 20
    assert fake_server.most_in_flight <= 3


async def test_latency_is_of_the_last_call_alone(fake_server: Any, wire: Any, clock: Any) -> None:
    fake_server.script = [wire.fails(500), wire.fails(500)]
    async with teacher(fake_server.url, clock) as client:
        answer = await client.complete(ask())
    assert clock.seconds > 0
    assert answer.latency_s == 0.0  # the clock moves only by sleeping


async def test_the_pace_is_kept(fake_server: Any, clock: Any) -> None:
    async with teacher(fake_server.url, clock, requests_per_minute=30) as client:
        await asyncio.gather(*[client.complete(ask(str(n))) for n in range(4)])
    assert clock.slept == [2.0, 2.0, 2.0]


async def test_nobody_there(fake_server: Any, clock: Any) -> None:
    url = fake_server.url
    await fake_server.stop()
    async with teacher(url, clock, query={"x": "1"}) as client:
        with pytest.raises(TeacherUnreachableError, match="nobody answers") as caught:
            await client.complete(ask())
    assert caught.value.culprit == url


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_names_its_variable_and_not_its_value(
    fake_server: Any, wire: Any, clock: Any, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    fake_server.script = [wire.fails(status, f"Incorrect key {KEY} or {KEY[:8]}***cret.")]
    async with teacher(fake_server.url, clock, api_key_env="MY_KEY") as client:
        with pytest.raises(SecretError, match="MY_KEY") as caught:
            await client.complete(ask())
    assert KEY[:8] not in str(caught.value)
    assert len(fake_server.requests) == 1


async def test_a_missing_key_is_asked_for(fake_server: Any, wire: Any, clock: Any) -> None:
    fake_server.script = [wire.fails(401, "no key")]
    async with teacher(fake_server.url, clock) as client:
        with pytest.raises(SecretError, match="api_key_env"):
            await client.complete(ask())


async def test_errors_and_logs_never_hold_a_secret(
    fake_server: Any,
    wire: Any,
    clock: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that echoes what it got, in each of the ways to fail."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setenv("OTHER_KEY", "other-" + KEY)
    monkeypatch.setenv("BODY_KEY", "body-secret-5")
    filler = "x" * 190  # the secret lies across the cut of what is quoted
    echoes = [
        wire.fails(400, f"got {KEY} and other-{KEY}"),
        wire.says(400, f"{filler}{KEY}"),
        wire.says(200, {"not": "a completion", "echo": KEY}),
        wire.says(200, f"{filler} other-{KEY}"),
        wire.fails(500, f"crashed on {KEY} and body-secret-5"),
    ]
    changes = {
        "api_key_env": "MY_KEY",
        "headers": {"X-Token": "env:OTHER_KEY"},
        "query": {"key": "env:OTHER_KEY"},
        "body": {"session": {"tokens": ["plain", "env:BODY_KEY"]}},
        "max_attempts": 1,
    }
    async with teacher(fake_server.url, clock, **changes) as client:
        for echo in echoes:
            fake_server.script = [echo]
            answer = await client.complete(ask("env:MY_KEY stays as it is"))
            assert answer.outcome in (Outcome.FAILED, Outcome.MALFORMED)
            assert KEY[:8] not in str(answer.error)
            assert "body-secret" not in str(answer.error)
    await fake_server.stop()
    async with teacher(fake_server.url, clock, **changes) as client:
        with pytest.raises(TeacherUnreachableError) as caught:
            await client.complete(ask())
    assert KEY[:8] not in str(caught.value)
    assert KEY[:8] not in caplog.text
    assert KEY[:8] not in client.name
    received = fake_server.requests[0]
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.headers["x-token"] == received.query["key"] == f"other-{KEY}"
    assert received.body["session"] == {"tokens": ["plain", "body-secret-5"]}
    assert received.body["messages"][0]["content"] == "env:MY_KEY stays as it is"


def test_secrets_are_read_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = config(
        "http://127.0.0.1:1/v1",
        api_key_env="MY_KEY",
        headers={"X-Token": "env:OTHER_KEY", "X-Plain": "plain"},
    )
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(SecretError, match="MY_KEY: is not set"):
        connect(recipe)
    monkeypatch.setenv("MY_KEY", " ")
    with pytest.raises(SecretError, match="MY_KEY: is empty"):
        connect(recipe)
    monkeypatch.setenv("MY_KEY", "a-key\nand more")
    with pytest.raises(SecretError, match="more than one line"):
        connect(recipe)
    monkeypatch.setenv("MY_KEY", f"{KEY}\n")
    monkeypatch.setenv("OTHER_KEY", "another")
    assert redaction_of(recipe) == {"MY_KEY": KEY, "OTHER_KEY": "another"}


async def test_a_plain_server_offers_what_the_recipe_says(fake_server: Any, clock: Any) -> None:
    async with teacher(fake_server.url, clock) as client:
        assert client.capabilities.top_logprobs == 0
        assert not client.capabilities.assistant_prefill
        assert await client.tokenize("A") is None
    said = {"top_logprobs": 5, "supports_prefill": True, "context_length": 99}
    async with teacher(fake_server.url, clock, supports_seed=False, **said) as client:
        can = client.capabilities
    assert (can.top_logprobs, can.assistant_prefill, can.context_length) == (5, True, 99)
    assert not can.seed


async def test_llama_cpp_is_recognised(fake_server: Any, wire: Any, clock: Any) -> None:
    props = {"default_generation_settings": {"n_ctx": 2048}, "total_slots": 2}
    fake_server.get["/props"] = wire.says(200, props)
    pieces = {"tokens": [{"id": 1, "piece": " é"}, {"id": 2, "piece": [230, 151]}]}
    fake_server.post["/tokenize"] = wire.says(200, pieces)
    async with teacher(fake_server.url, clock) as client:
        can = client.capabilities
        assert (can.top_logprobs, can.assistant_prefill, can.tokenize) == (200, True, True)
        assert can.context_length == 2048
        assert await client.tokenize(" é日") == [" é".encode(), b"\xe6\x97"]
        # It repeats the prefill; the completion holds the continuation alone.
        fake_server.script = [wire.answers("The sky is blue")]
        prefilled = Request(
            model="m",
            messages=(
                Message(role="user", content="?"),
                Message(role="assistant", content="The sky is"),
            ),
        )
        assert (await client.complete(prefilled)).text == " blue"


@pytest.mark.parametrize("answer", ["<html></html>", {"props": 1}, {}, []])
async def test_other_answers_to_props_are_no_llama(
    fake_server: Any, wire: Any, clock: Any, answer: Any
) -> None:
    fake_server.get["/props"] = wire.says(200, answer)
    async with teacher(fake_server.url, clock) as client:
        assert not client.capabilities.tokenize


async def test_a_redirect_is_not_followed_with_the_key(
    fake_server: Any, wire: Any, clock: Any
) -> None:
    fake_server.script = [wire.says(307, "moved", {"Location": "http://127.0.0.1:9/v1"})]
    async with teacher(fake_server.url, clock) as client:
        answer = await client.complete(ask())
    assert answer.status == 307
    assert "redirects" in str(answer.error)


@pytest.mark.parametrize("changes", [{"base_url": "HOST/v1"}, {"body": {"stream": True}}])
def test_what_cannot_work_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        connect(config("http://127.0.0.1:1/v1", **changes))


async def test_the_ledger_has_nobody_to_ask() -> None:
    nobody = connect(TeacherConfig(kind="ledger", model="m"))
    async with nobody:
        with pytest.raises(TeacherError, match="no teacher to ask"):
            await nobody.complete(ask())
        assert await nobody.tokenize("A") is None
        assert nobody.capabilities.top_logprobs == 0


def test_the_jitter_is_seeded(clock: Any) -> None:
    policy = RetryPolicy()
    clients = [OpenAICompatibleTeacher(config("http://127.0.0.1:1/v1"), seed=3) for _ in range(2)]
    first, second = (policy.backoff_s(3, client.transport._rng) for client in clients)
    assert first == second
