"""What is sent and read, held against the official ``openai`` client."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI
from openai.types.chat import ChatCompletion

from overproof.clients.openai_compatible import OpenAICompatibleTeacher
from overproof.clients.openai_wire import WireError, body_of, completion_of, without_prefill
from overproof.config.recipe import TeacherConfig
from overproof.records.exchange import (
    Completion,
    Message,
    Outcome,
    Parameters,
    Request,
    TokenLogprob,
)

KEY = "sk-0123456789abcdef-secret"
MESSAGES = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="Grüße, 日本 \U0001f600?"),
)
PLAIN: Any = [{"role": m.role, "content": m.content} for m in MESSAGES]

LOGPROBS = {
    "content": [
        {
            "token": "日",
            "bytes": [230, 151, 165],
            "logprob": -0.1,
            "top_logprobs": [
                {"token": "日", "bytes": [230, 151, 165], "logprob": -0.1},
                {"token": "\\xe6", "bytes": [230], "logprob": -3.5},
            ],
        },
        {"token": "<eos>", "bytes": None, "logprob": -0.5, "top_logprobs": []},
    ],
    "refusal": None,
}


def config(url: str = "http://127.0.0.1:1/v1", **changes: Any) -> TeacherConfig:
    return TeacherConfig.model_validate(
        {"kind": "openai", "model": "gpt", "base_url": url} | changes
    )


def ask(**parameters: Any) -> Request:
    return Request(model="gpt", messages=MESSAGES, parameters=Parameters.model_validate(parameters))


CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({}, {"max_tokens": 9}, {"max_tokens": 9}),
    (
        {"max_tokens_field": "max_completion_tokens", "supports_temperature": False},
        {"max_tokens": 9, "temperature": 0.5},
        {"max_completion_tokens": 9},
    ),
    (
        {},
        {"max_tokens": 1, "temperature": 0.0, "top_p": 0.9, "seed": 7, "stop": ("\n", "END")},
        {"max_tokens": 1, "temperature": 0.0, "top_p": 0.9, "seed": 7, "stop": ["\n", "END"]},
    ),
    (
        {"supports_seed": False},
        {"max_tokens": 1, "top_logprobs": 20, "seed": 3},
        {"max_tokens": 1, "logprobs": True, "top_logprobs": 20},
    ),
    (
        {"body": {"reasoning_effort": "low", "x_vendor": {"a": [1]}}},
        {"max_tokens": 1, "extra": {"x_vendor": {"b": 2}}},
        {"max_tokens": 1, "reasoning_effort": "low", "extra_body": {"x_vendor": {"b": 2}}},
    ),
]


@pytest.mark.parametrize(("changes", "parameters", "official"), CASES)
async def test_the_body_is_what_the_official_client_sends(
    fake_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    parameters: dict[str, Any],
    official: dict[str, Any],
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    client = AsyncOpenAI(api_key=KEY, base_url=fake_server.url)
    async with client:
        await client.chat.completions.create(model="gpt", messages=PLAIN, **official)
    ours = OpenAICompatibleTeacher(config(fake_server.url, api_key_env="MY_KEY", **changes))
    async with ours:
        await ours.complete(ask(**parameters))
    theirs_sent, ours_sent = fake_server.requests
    assert ours_sent.body == theirs_sent.body
    assert ours_sent.path == theirs_sent.path == "/v1/chat/completions"
    for header in ("authorization", "content-type"):
        assert ours_sent.headers[header] == theirs_sent.headers[header]


async def test_azure_is_addressed_as_its_official_client_does(
    fake_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_KEY", KEY)
    root = fake_server.url.removesuffix("/v1")
    client = AsyncAzureOpenAI(
        api_key=KEY, azure_endpoint=root, api_version="2024-10-21", azure_deployment="dep"
    )
    async with client:
        await client.chat.completions.create(model="gpt", messages=PLAIN, max_tokens=2)
    azure = config(
        f"{root}/openai/deployments/dep",
        api_key_env="AZURE_KEY",
        api_key_header="api-key",
        query={"api-version": "2024-10-21"},
    )
    async with OpenAICompatibleTeacher(azure) as ours:
        await ours.complete(ask(max_tokens=2))
    theirs_sent, ours_sent = fake_server.requests
    assert ours_sent.path == theirs_sent.path == "/openai/deployments/dep/chat/completions"
    assert ours_sent.query == theirs_sent.query == {"api-version": "2024-10-21"}
    assert ours_sent.headers["api-key"] == theirs_sent.headers["api-key"] == KEY
    assert "authorization" not in ours_sent.headers
    assert ours_sent.body == theirs_sent.body


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"finish_reason": "length"},
        {"logprobs": LOGPROBS},
        {"logprobs": {"content": None, "refusal": None}},
    ],
)
def test_what_is_read_is_what_the_official_types_read(wire: Any, changes: dict[str, Any]) -> None:
    raw = wire.chat_completion("日本 \U0001f600", **changes)
    raw["usage"] |= {
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    theirs = ChatCompletion.model_validate(raw)
    ours = completion_of(json.dumps(raw))
    choice = theirs.choices[0]
    assert ours.text == choice.message.content
    assert ours.finish_reason == choice.finish_reason
    assert (ours.model, ours.system_fingerprint) == (theirs.model, theirs.system_fingerprint)
    assert theirs.usage is not None
    assert theirs.usage.prompt_tokens_details is not None
    assert theirs.usage.completion_tokens_details is not None
    assert ours.usage is not None
    assert ours.usage.input_tokens == theirs.usage.prompt_tokens
    assert ours.usage.output_tokens == theirs.usage.completion_tokens
    assert ours.usage.cached_tokens == theirs.usage.prompt_tokens_details.cached_tokens == 4
    details = theirs.usage.completion_tokens_details
    assert ours.usage.reasoning_tokens == details.reasoning_tokens == 1
    content = choice.logprobs.content if choice.logprobs else None
    if content is None:
        assert ours.logprobs is None
        return
    assert ours.logprobs is not None
    assert [_plain(t) for t in ours.logprobs] == [_plain_official(t) for t in content]


def _plain(token: TokenLogprob) -> Any:
    top = [(t.token, t.logprob, t.data and list(t.data)) for t in token.top]
    return token.token, token.logprob, token.data and list(token.data), top


def _plain_official(token: Any) -> Any:
    top = [(t.token, t.logprob, t.bytes) for t in token.top_logprobs]
    return token.token, token.logprob, token.bytes, top


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, Outcome.ANSWERED),
        ({"finish_reason": None}, Outcome.ANSWERED),
        ({"finish_reason": "length"}, Outcome.TRUNCATED),
        ({"finish_reason": "length", "message": {"content": None}}, Outcome.TRUNCATED),
        ({"finish_reason": "content_filter", "message": {"content": None}}, Outcome.FILTERED),
        ({"message": {"content": None, "refusal": "I will not."}}, Outcome.REFUSED),
        ({"message": {"content": ""}}, Outcome.ANSWERED),
        ({"message": {"content": None}}, Outcome.MALFORMED),
        ({"message": {}}, Outcome.MALFORMED),
        ({"finish_reason": "tool_calls", "message": {"content": None}}, Outcome.MALFORMED),
        ({"finish_reason": "error"}, Outcome.MALFORMED),
    ],
)
def test_every_ending_has_its_outcome(wire: Any, changes: dict[str, Any], outcome: Outcome) -> None:
    completion = completion_of(json.dumps(wire.chat_completion(**changes)))
    assert completion.outcome is outcome
    assert (completion.error is not None) == (outcome is Outcome.MALFORMED)
    if outcome is Outcome.REFUSED:
        assert completion.text == "I will not."


@pytest.mark.parametrize(
    ("raw", "is_json"),
    [
        ("", False),
        ("<html>", False),
        ('{"choices": [', False),
        ("null", True),
        ("[]", True),
        ("{}", True),
        ('{"choices": []}', True),
        ('{"choices": {}}', True),
        ('{"choices": [1]}', True),
        ('{"choices": [{"message": "A"}]}', True),
        ('{"choices": [{"message": {"content": 5}}]}', True),
        ('{"choices": [{"message": {"content": [5]}}]}', True),
        ('{"choices": [{"message": {"content": "A"}, "logprobs": {"content": [{}]}}]}', True),
        ('{"choices": [{"message": {"content": "A"}, "logprobs": {"content": 3}}]}', True),
        ("[" * 100_000, False),
    ],
)
def test_what_is_no_completion_is_said_to_be_none(raw: str, is_json: bool) -> None:
    with pytest.raises(WireError, match="expected") as caught:
        completion_of(raw)
    assert caught.value.is_json is is_json


async def test_a_malformed_answer_is_quoted(fake_server: Any, wire: Any) -> None:
    fake_server.script = [wire.says(200, {"detail": "x" * 500})]
    async with OpenAICompatibleTeacher(config(fake_server.url)) as client:
        answer = await client.complete(ask())
    assert (answer.outcome, answer.attempts, answer.status) == (Outcome.MALFORMED, 1, 200)
    assert str(answer.error).startswith("expected a chat completion")
    assert 200 < len(str(answer.error)) < 300


def test_parts_surrogates_and_infinities(wire: Any) -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    raw = wire.chat_completion(message={"content": parts})
    assert completion_of(json.dumps(raw)).text == "one two"
    raw = json.dumps(wire.chat_completion("?")).replace('"?"', '"a\\ud83d b\\ud83d\\ude00"')
    assert completion_of(raw).text == "a\ufffd b\U0001f600"
    item = {"token": "a", "logprob": None, "top_logprobs": [{"token": "b", "logprob": -math.inf}]}
    raw = json.dumps(wire.chat_completion(logprobs={"content": [item]}))
    tokens = completion_of(raw).logprobs
    assert tokens is not None
    assert (tokens[0].logprob, tokens[0].top[0].logprob, tokens[0].data) == (-9999.0, -9999.0, None)
    with pytest.raises(WireError):
        completion_of(raw.replace("null", "NaN"))


def test_alternatives_are_most_likely_first(wire: Any) -> None:
    top = [{"token": t, "logprob": p} for t, p in (("a", -3.0), ("b", -1.0), ("c", -2.0))]
    item = {"token": "a", "logprob": -3.0, "top_logprobs": top}
    tokens = completion_of(json.dumps(wire.chat_completion(logprobs={"content": [item]}))).logprobs
    assert tokens is not None
    assert [t.token for t in tokens[0].top] == ["b", "c", "a"]


def test_a_repeated_prefill_is_taken_off_once() -> None:
    prefill = (Message(role="user", content="?"), Message(role="assistant", content="ha"))

    def continued(text: str, *tokens: str) -> str:
        spoken = tuple(TokenLogprob(token=token, logprob=-1.0) for token in tokens) or None
        answer = Completion(outcome=Outcome.ANSWERED, text=text, logprobs=spoken)
        return without_prefill(answer, prefill).text

    assert continued("haha") == "ha"
    assert continued("haha", "ha") == "ha"
    assert continued("haha", "ha", "<|im_end|>") == "ha"
    assert continued("haha", "ha", "ha") == "haha"  # the log-probs say that all was generated
    assert continued("no") == "no"


def test_a_body_without_extras_holds_nothing_else() -> None:
    assert body_of(ask(max_tokens=3), config()) == {
        "model": "gpt",
        "messages": PLAIN,
        "max_tokens": 3,
    }
