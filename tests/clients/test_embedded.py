from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from overproof.clients.connect import connect
from overproof.clients.embedded import EmbeddedTeacher, default_threads
from overproof.config.recipe import TeacherConfig
from overproof.errors import MissingExtraError, ModelError, TeacherError
from overproof.records.exchange import Completion, Message, Outcome, Parameters, Request

QUESTION = Message(role="user", content="Name the colour of the sky in one word.")


def config(model: str, **changes: object) -> TeacherConfig:
    return TeacherConfig.model_validate({"kind": "embedded", "model": model, **changes})


def ask(*messages: Message, **parameters: object) -> Request:
    wanted = {"max_tokens": 4, "temperature": 0.0} | parameters
    return Request(
        model="m", messages=messages or (QUESTION,), parameters=Parameters.model_validate(wanted)
    )


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def ends(pid: int) -> bool:
    for _ in range(200):
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    return False


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="embedded"):
        EmbeddedTeacher(config(str(tmp_path)))


def test_a_model_that_was_not_pulled_names_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OVERPROOF_MODELS_DIR", str(tmp_path))
    with pytest.raises(ModelError, match="overproof models pull SmolLM2-135M-Instruct"):
        connect(config("smollm2-135m-instruct"))


def test_every_usable_core_has_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores in (1, 2, 8):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, n=cores: set(range(n)))
        assert default_threads() == cores


@pytest.mark.parametrize("said", [None, "5"])
async def test_threads_wait_briefly_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str | None
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    if said is not None:
        monkeypatch.setenv("GOMP_SPINCOUNT", said)
    seen: list[dict[str, str]] = []

    def start(*args: object, env: dict[str, str], **options: object) -> None:
        seen.append(env)
        raise OSError("enough seen")

    monkeypatch.setattr(subprocess, "Popen", start)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(OSError, match="enough seen"):
        async with EmbeddedTeacher(config(str(tmp_path / "model.gguf"))):
            pass
    assert seen[0]["GOMP_SPINCOUNT"] == (said or "1000")
    assert seen[0]["PATH"] == os.environ["PATH"]


@pytest.mark.slow
async def test_a_file_that_is_no_model_fails_with_the_log(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"this is no model")
    teacher = EmbeddedTeacher(config(str(tmp_path / "broken.gguf")), log_dir=tmp_path / "logs")
    with pytest.raises(TeacherError, match="end of its log") as caught:
        async with teacher:
            pass
    assert "model" in str(caught.value).split("end of its log")[1]
    assert (tmp_path / "logs" / "teacher.log").stat().st_size > 0


@pytest.mark.slow
async def test_the_real_server(pulled_model: str, tmp_path: Path) -> None:
    teacher = EmbeddedTeacher(config(pulled_model, concurrency=2), log_dir=tmp_path)
    async with teacher:
        can = teacher.capabilities
        assert can.top_logprobs == 200
        assert can.tokenize
        assert can.assistant_prefill
        assert can.context_length == 2048
        await _logprobs_are_the_models_own(teacher)
        await _prefill_is_continued(teacher)
        await _tokens_are_bytes(teacher)
        await _too_long_is_said(teacher)
        process = teacher._process
    assert process is not None
    assert process.poll() is not None


async def _logprobs_are_the_models_own(teacher: EmbeddedTeacher) -> None:
    """Whatever the sampling temperature: the log-probs come from before it."""
    cold, hot = [
        await teacher.complete(ask(top_logprobs=100, temperature=t, max_tokens=1, seed=1))
        for t in (0.0, 1.0)
    ]
    assert cold.model == hot.model == teacher.model
    assert "/" not in str(cold.model)
    assert cold.usage is not None
    first: list[dict[str, float]] = []
    for answer in (cold, hot):
        assert answer.outcome is Outcome.TRUNCATED
        assert answer.logprobs is not None
        assert len(answer.logprobs[0].top) == 100
        first.append({t.token: t.logprob for t in answer.logprobs[0].top})
        assert 0.5 < sum(math.exp(t.logprob) for t in answer.logprobs[0].top) < 1.0
    shared = first[0].keys() & first[1].keys()
    assert len(shared) > 90
    # The second prompt came from the slot's cache, so the sums are taken in another order.
    assert max(abs(first[0][t] - first[1][t]) for t in shared) < 0.2


async def _prefill_is_continued(teacher: EmbeddedTeacher) -> None:
    prefill = Message(role="assistant", content="The sky is")
    for parameters in ({}, {"top_logprobs": 1}):
        answer = await teacher.complete(ask(QUESTION, prefill, **parameters))
        assert answer.text
        assert not answer.text.startswith("The sky is")


async def _tokens_are_bytes(teacher: EmbeddedTeacher) -> None:
    for text in ("A", " description or definition", "日本 é"):
        pieces = await teacher.tokenize(text)
        assert pieces is not None
        assert b"".join(pieces) == text.encode()
    assert await teacher.tokenize("A") == [b"A"]


async def _too_long_is_said(teacher: EmbeddedTeacher) -> None:
    answer = await teacher.complete(ask(Message(role="user", content="word " * 4000)))
    assert answer.outcome is Outcome.FAILED
    assert answer.attempts == 1
    assert "2048" in str(answer.error)
    assert "shorten the input" in str(answer.error)


@pytest.mark.slow
async def test_a_server_that_dies_is_an_error_with_its_log(pulled_model: str) -> None:
    async with EmbeddedTeacher(config(pulled_model, max_attempts=2)) as teacher:
        assert teacher._process is not None
        teacher._process.kill()
        teacher._process.wait()
        with pytest.raises(TeacherError, match="ended while it was needed"):
            await teacher.complete(ask())


PARENT = """
import asyncio, sys
from overproof.clients.embedded import EmbeddedTeacher
from overproof.config.recipe import TeacherConfig

async def main():
    async with EmbeddedTeacher(TeacherConfig(kind="embedded", model=sys.argv[1])) as teacher:
        print(teacher._process.pid, flush=True)
        if sys.argv[2] == "raise":
            raise RuntimeError("something went wrong")
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill -9", "Ctrl-C", "raise"])
def test_the_server_ends_with_its_parent(pulled_model: str, how: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), pulled_model, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if how == "kill -9":
            assert is_alive(pid)
            parent.send_signal(signal.SIGKILL)
        elif how == "Ctrl-C":
            parent.send_signal(signal.SIGINT)
        parent.wait(20)
    assert ends(pid)


@pytest.mark.slow
def test_without_its_parent_the_server_sees_its_input_end(
    pulled_model: str, tmp_path: Path
) -> None:
    """The way that works on every system: no signal, only the closed pipe."""

    async def close_input() -> int:
        async with EmbeddedTeacher(config(pulled_model)) as teacher:
            process = teacher._process
            assert process is not None
            assert process.stdin is not None
            process.stdin.close()
            return await asyncio.to_thread(process.wait, 10)

    assert asyncio.run(close_input()) == 0


@pytest.mark.slow
async def test_answers_are_the_same_twice(pulled_model: str) -> None:
    async with EmbeddedTeacher(config(pulled_model, concurrency=1)) as teacher:
        texts: list[Completion] = [await teacher.complete(ask(max_tokens=8)) for _ in range(2)]
    assert texts[0].text == texts[1].text
