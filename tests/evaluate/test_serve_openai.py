"""The official client against a real server on this machine: only the base URL is swapped."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from overproof.evaluate.serve import bind, build_app
from overproof.evaluate.student import Student

openai = pytest.importorskip("openai")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(student: Student) -> Iterator[str]:
    with bind("127.0.0.1", 0) as listener:
        app = build_app(student, model_name="tiny", api_key="right")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server.should_exit = True
        thread.join()


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=address, api_key="right", max_retries=0) as client:
        yield client


MESSAGES = [{"role": "system", "content": "Sort films."}, {"role": "user", "content": "awful"}]


def test_completion(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="gpt-x", messages=MESSAGES, temperature=0, max_tokens=1, seed=7
    )
    assert answer.choices[0].message.content == "negative"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == 2


def test_logprobs_parse(client: openai.OpenAI, student: Student) -> None:
    answer = client.chat.completions.create(
        model="gpt-x", messages=MESSAGES, logprobs=True, top_logprobs=3
    )
    (token,) = answer.choices[0].logprobs.content
    found = {top.token: math.exp(top.logprob) for top in token.top_logprobs}
    expected = dict(zip(student.labels, student.predict_proba(["awful"])[0], strict=True))
    assert found == pytest.approx(expected)


def test_stream(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="gpt-x",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "negative"
    assert chunks[-1].usage.completion_tokens == 1


def test_errors_are_the_clients_own(client: openai.OpenAI, address: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="x", messages=[{"role": "user", "content": ""}])
    assert caught.value.code == "empty_input"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="x", input="y")
    assert [model.id for model in client.models.list()] == ["tiny"]
    with (
        openai.OpenAI(base_url=address, api_key="wrong") as other,
        pytest.raises(openai.AuthenticationError),
    ):
        other.models.list()


SERVE = """
import typer
from overproof.cli.serve import serve_command
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(serve_command)
app()
"""


def test_command_ends_at_an_interrupt(student_dir: Path) -> None:
    command = [sys.executable, "-u", "-c", SERVE, str(student_dir), "--port", "0"]
    with subprocess.Popen(
        [*command, "--api-key-env", "STUDENT_KEY"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "STUDENT_KEY": "right"},
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("tiny answers at http://127.0.0.1:")
        base = line.split()[3]
        with openai.OpenAI(base_url=base, api_key="right") as client:
            answer = client.chat.completions.create(model="x", messages=MESSAGES)
        assert answer.choices[0].message.content == "negative"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == "stopped\n"


def test_command_without_the_key_it_names(student_dir: Path) -> None:
    command = [sys.executable, "-c", SERVE, str(student_dir), "--api-key-env", "NO_SUCH_KEY"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "NO_SUCH_KEY: is not set in the environment" in ended.stderr
