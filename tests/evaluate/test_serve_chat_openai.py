"""The official client against served students: only the base URL is swapped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from talking import listening
from tiny_lm import write_tiny_lm

from overproof.clients.registry import resolve
from overproof.errors import ModelError
from overproof.evaluate.serve_chat_start import ServeOptions, find_talker, serve_talker
from overproof.evaluate.text.deferral_rule import DeferralRule, record_rule, student_sha256
from overproof.records.lm_student import LmStudentCard

openai = pytest.importorskip("openai")

pytestmark = pytest.mark.slow

HELLO: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Say hello."},
]


def card(name: str = "tiny") -> LmStudentCard:
    return LmStudentCard(
        name=name, method="sft", base="tiny-lm", base_dir="../../bases/tiny", teacher="fake",
        parameters=1, trainable=1, vocabulary=266, context_length=512, precision="float32",
        steps=1, tokens=1, answer_tokens=1, n_train=1, train_seconds=1.0, seed=0,
        dataset_sha256="sha256:0", config_sha256="sha256:0",
    )  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RUN/students/tiny, with a threshold that passes everything on."""
    run = tmp_path_factory.mktemp("run")
    directory = write_tiny_lm(run / "students" / "tiny")
    card().save(directory)
    rule = DeferralRule(
        student="tiny", student_sha256=student_sha256(directory), teacher="fake-teacher",
        threshold=1.0, stated=0.9, n_tune=5,
    )  # fmt: skip
    record_rule(run, rule)
    return directory


@contextlib.contextmanager
def client_of(path: Path, **options: Any) -> Iterator[openai.OpenAI]:
    home = find_talker(path)
    assert home is not None
    served = serve_talker(home, ServeOptions(api_key="right", **options))
    with (
        listening(served.app, served.started) as base,
        openai.OpenAI(base_url=f"{base}/v1", api_key="right", max_retries=0) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def transformers(tiny: Path) -> Iterator[openai.OpenAI]:
    with client_of(tiny.parent.parent, model_name="student") as client:
        yield client


@pytest.fixture(scope="module")
def llama() -> Iterator[openai.OpenAI]:
    pytest.importorskip("xllamacpp")
    try:
        file = resolve("SmolLM2-135M-Instruct")
    except ModelError as error:
        pytest.skip(str(error))
    with client_of(file, model_name="student", context_length=256) as client:
        yield client


@pytest.fixture(params=["transformers", "llama"])
def client(request: pytest.FixtureRequest) -> openai.OpenAI:
    served: openai.OpenAI = request.getfixturevalue(request.param)
    return served


def test_a_completion(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="any", messages=HELLO, temperature=0, max_completion_tokens=6
    )
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.model == "student"
    assert answer.usage.prompt_tokens > 5
    assert 1 <= answer.usage.completion_tokens <= 6


def test_a_stream_says_the_same_token_by_token(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "any", "messages": HELLO, "temperature": 0, "max_tokens": 6,
        "logprobs": True, "top_logprobs": 2,
    }  # fmt: skip
    whole = client.chat.completions.create(**asked)
    stream = client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    spoken = [choice.delta.content for choice in choices if choice.delta.content]
    assert "".join(spoken) == whole.choices[0].message.content
    assert len(spoken) > 1
    told = [token for choice in choices if choice.logprobs for token in choice.logprobs.content]
    expected = whole.choices[0].logprobs.content
    assert [token.token for token in told] == [token.token for token in expected]
    assert [t.logprob for t in told] == pytest.approx([t.logprob for t in expected], abs=1e-3)
    for token in expected:
        assert len(token.top_logprobs) == 2
        assert token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob
        assert token.logprob == pytest.approx(token.top_logprobs[0].logprob)  # greedy
    assert choices[-1].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


def test_seeds_choices_and_stops(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "x", "messages": HELLO, "max_tokens": 8, "seed": 3, "n": 2}
    one = client.chat.completions.create(**asked)
    two = client.chat.completions.create(**asked)
    texts = [choice.message.content for choice in one.choices]
    assert [choice.message.content for choice in two.choices] == texts
    assert len(set(texts)) == 2
    greedy: dict[str, Any] = {"model": "x", "messages": HELLO, "max_tokens": 8, "temperature": 0}
    text = client.chat.completions.create(**greedy).choices[0].message.content
    stop = next(c for c in text[2:] if c.isascii() and c.isprintable())
    for stream in (False, True):
        answer = client.chat.completions.create(**greedy, stop=[stop], stream=stream)
        said = (
            "".join(chunk.choices[0].delta.content or "" for chunk in answer)
            if stream
            else answer.choices[0].message.content
        )
        assert said == text[: text.index(stop)]


def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    long: list[Any] = [{"role": "user", "content": "word " * 600}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="x", messages=long, stream=stream)
        assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="cannot honour") as caught:
        client.chat.completions.create(model="x", messages=HELLO, extra_body={"nonsense": 1})
    assert caught.value.param == "nonsense"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="x", input="y")
    assert [model.id for model in client.models.list()] == ["student"]
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()


def test_a_client_that_leaves_frees_the_engine(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "x", "messages": HELLO, "temperature": 0}
    stream = client.chat.completions.create(
        **asked, max_tokens=200, stream=True, extra_body={"stop": None}
    )
    next(iter(stream))
    stream.close()
    answer = client.chat.completions.create(**asked, max_tokens=1, timeout=20)
    assert answer.usage.completion_tokens == 1


def test_llama_holds_an_answer_to_a_schema(llama: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "maximum": 9, "minimum": 0}},
        "required": ["n"],
        "additionalProperties": False,
    }
    answer = llama.chat.completions.create(
        model="x",
        messages=[{"role": "user", "content": "A number below ten, as JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
        max_tokens=40,
        temperature=0,
    )
    assert isinstance(json.loads(answer.choices[0].message.content)["n"], int)


def test_what_is_unsure_goes_to_the_teacher(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "teacher.toml").write_text('[teacher]\nkind = "fake"\nmodel = "fake-teacher"\n')
    with client_of(tiny, defer_to=tmp_path / "teacher.toml") as client:
        raw = client.chat.completions.with_raw_response.create(
            model="x", messages=HELLO, max_tokens=16
        )
        answer = raw.parse()
        assert raw.headers["x-overproof-answered-by"] == "teacher"
        assert answer.model == "fake-teacher"
        assert answer.overproof["usage"]["student"]["completion_tokens"] > 0
        stream = client.chat.completions.create(
            model="x", messages=HELLO, max_tokens=16, stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert text == answer.choices[0].message.content


def test_the_command_serves_and_ends_at_an_interrupt(tiny: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "overproof", "serve", str(tiny), "--port", "0"]
    with subprocess.Popen(
        [*command, "--api-key-env", "STUDENT_KEY", "--backend", "transformers"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "STUDENT_KEY": "right"},
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("tiny answers at http://127.0.0.1:"), process.communicate()
        with openai.OpenAI(base_url=line.split()[3], api_key="right") as client:
            answer = client.chat.completions.create(model="x", messages=HELLO, max_tokens=2)
        assert answer.model == "tiny"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == "stopped\n"
