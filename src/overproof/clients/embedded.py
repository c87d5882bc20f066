"""The embedded teacher: llama.cpp in a process of its own, started and ended by overproof."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from overproof.clients import registry
from overproof.clients.http_session import HttpSession
from overproof.clients.openai_compatible import OpenAICompatibleTeacher
from overproof.clients.protocol import Capabilities, Meter
from overproof.config.recipe import TeacherConfig
from overproof.errors import MissingExtraError, TeacherError, TeacherUnreachableError
from overproof.records.exchange import Completion, Outcome, Request

__all__ = ["EmbeddedTeacher", "default_threads"]

START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 5.0
CONTEXT_LENGTH = 2048
MOST_SLOTS = 4
LOG_TAIL_BYTES = 4000
LOG_TAIL_LINES = 15
# llama.cpp's threads wait for each other several times a layer, and libgomp has them spin for
# milliseconds: where another process holds a core, they spin its time slice away. With a short
# spin two threads on two cores answer nearly as fast when the machine is idle, and several times
# as fast when it is not.
SHORT_WAIT = {"GOMP_SPINCOUNT": "1000"}


class EmbeddedTeacher:
    """A GGUF model served by llama.cpp on a loopback port.

    Args:
        config: a teacher of kind ``embedded``.
        log_dir: where ``teacher.log`` is written; a temporary file without it.
        start_timeout_s: how long loading the model may take.

    Raises:
        MissingExtraError: xllamacpp is not installed.
        ModelError: the model was not pulled, or is not what was pinned.
    """

    def __init__(
        self,
        config: TeacherConfig,
        *,
        log_dir: Path | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtraError("xllamacpp", "embedded")
        self._path = registry.resolve(config.model)
        pinned = registry.find(config.model)
        self.model = pinned.name if pinned else self._path.stem
        self.name = f"{self.model}@embedded"
        self._config = config
        self._log_dir = log_dir
        self._start_timeout_s = start_timeout_s
        self._threads = config.threads or default_threads()
        # Slots share the threads: more of them than threads only wait for each other.
        self._slots = min(config.concurrency, self._threads, MOST_SLOTS)
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._client: OpenAICompatibleTeacher | None = None

    async def __aenter__(self) -> Self:
        key = secrets.token_urlsafe(24)
        try:
            address = await self._start(key)
            inner = self._config.model_copy(
                update={
                    "kind": "openai",
                    "model": self.model,
                    "base_url": f"{address}/v1",
                    "concurrency": self._slots,
                    "context_length": None,
                }
            )
            client = OpenAICompatibleTeacher(inner, headers={"Authorization": f"Bearer {key}"})
            self._client = await client.__aenter__()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._client is not None:
                await self._client.__aexit__(kind, error, trace)
        finally:
            self._client = None
            self._stop()

    @property
    def capabilities(self) -> Capabilities:
        """What llama.cpp offers; the context length is known once it runs."""
        if self._client is not None:
            return self._client.capabilities
        return Capabilities(
            top_logprobs=self._config.top_logprobs or 200,
            assistant_prefill=True,
            tokenize=True,
            seed=True,
            context_length=self._config.context_length or CONTEXT_LENGTH,
            choices=min(self._config.choices, self._slots),
            structured=self._config.structured != "none",
            tools=self._config.supports_tools,
        )

    async def check(self) -> None:
        """Inside the context it runs: a server that did not start has raised already."""
        return

    async def complete(self, request: Request, meter: Meter | None = None) -> Completion:
        """Answer one request.

        Raises:
            TeacherError: the server is gone.
        """
        [completion] = await self._watched(lambda running: _alone(running, request, meter))
        return completion

    async def complete_many(
        self, requests: Sequence[Request], meter: Meter | None = None
    ) -> list[Completion]:
        """Answer requests that differ in ``sample`` alone, in one call of ``n`` choices.

        Raises:
            ValueError: more requests than ``capabilities.choices``.
            TeacherError: the server is gone.
        """
        return await self._watched(lambda running: running.complete_many(requests, meter))

    async def _watched(
        self, ask: Callable[[OpenAICompatibleTeacher], Awaitable[list[Completion]]]
    ) -> list[Completion]:
        """Ask, and tell a server that ended from a request that failed."""
        try:
            completions = await ask(self._running)
        except TeacherUnreachableError:
            raise self._gone("ended while it was needed") from None
        # A broken connection is a failed request; a server that ended is a failed teacher.
        process = self._process
        failed = any(one.outcome is Outcome.FAILED for one in completions)
        if failed and process and process.poll() is not None:
            raise self._gone("ended while it was needed")
        return completions

    async def tokenize(self, text: str) -> list[bytes] | None:
        """Byte pieces of ``text`` in the model's tokenizer."""
        try:
            return await self._running.tokenize(text)
        except TeacherUnreachableError:
            raise self._gone("ended while it was needed") from None

    @property
    def http(self) -> HttpSession:
        """The server's address with its key, for whoever hands requests on to it as they are."""
        return self._running.transport

    @property
    def slots(self) -> int:
        """How many requests it answers at a time."""
        return self._slots

    @property
    def _running(self) -> OpenAICompatibleTeacher:
        if self._client is None:
            raise RuntimeError("use the teacher inside `async with`")
        return self._client

    async def _start(self, key: str) -> str:
        """Start the child and wait for its address."""
        if self._log_dir is None:
            self._log = tempfile.TemporaryFile()  # noqa: SIM115
        else:
            self._log_dir.mkdir(parents=True, exist_ok=True)
            self._log = (self._log_dir / "teacher.log").open("w+b")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "overproof.clients.embedded_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=SHORT_WAIT | os.environ,
            # Ctrl-C goes to the whole session of a terminal; the parent ends the child in order.
            start_new_session=True,
        )
        settings = {
            "path": str(self._path.resolve()),
            "model": self.model,
            "parent": os.getpid(),
            "key": key,
            "slots": self._slots,
            "threads": self._threads,
            "context_length": self._config.context_length or CONTEXT_LENGTH,
        }
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the child has no pipes")
        with suppress(BrokenPipeError):
            stdin.write(json.dumps(settings).encode() + b"\n")
            stdin.flush()
        reading = asyncio.get_running_loop().run_in_executor(None, stdout.readline)
        try:
            line = await asyncio.wait_for(asyncio.shield(reading), self._start_timeout_s)
        except TimeoutError:
            raise self._gone(f"did not start within {self._start_timeout_s:g} s") from None
        finally:
            if not reading.done():
                self._process.kill()  # ends the blocked read
                await reading
        if not line:
            raise self._gone("could not be started")
        return str(json.loads(line)["address"])

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _gone(self, what: str) -> TeacherError:
        """The error for a server that ended, with the last lines of its log."""
        tail = ""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
        if self._log is not None:
            size = os.fstat(self._log.fileno()).st_size
            end = os.pread(self._log.fileno(), LOG_TAIL_BYTES, max(0, size - LOG_TAIL_BYTES))
            lines = end.decode("utf-8", "replace").strip().splitlines()
            tail = "\n    ".join(lines[-LOG_TAIL_LINES:])
        return TeacherError(
            f"embedded teacher {self.model}",
            f"{what}; the end of its log:\n    {tail or '(empty)'}",
            "check that the file is a GGUF model and that there is memory for it",
        )


async def _alone(
    running: OpenAICompatibleTeacher, request: Request, meter: Meter | None
) -> list[Completion]:
    return [await running.complete(request, meter)]


def default_threads() -> int:
    """One thread a usable core."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
