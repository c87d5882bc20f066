"""llama.cpp on a loopback port, for as long as a proof takes."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import selectors
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from overproof.clients.embedded import SHORT_WAIT, default_threads
from overproof.errors import MissingExtraError, StudentError

__all__ = ["LlamaServer"]

START_S, ANSWER_S, STOP_S = 300.0, 600.0, 5.0
LOG_BYTES = 3000


class LlamaServer:
    """A GGUF file served by the child process that embedded teachers use.

    Args:
        path: the file.
        context: tokens of the longest chat with its answer.
        threads: one a usable core where unsaid.

    Raises:
        MissingExtraError: xllamacpp is not installed.
    """

    def __init__(self, path: Path, *, context: int, threads: int | None = None) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtraError("xllamacpp", "embedded")
        self._path = path
        self._context = context
        self._threads = threads or default_threads()
        self._key = secrets.token_urlsafe(24)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "overproof.clients.embedded_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=SHORT_WAIT | os.environ,
            start_new_session=True,  # Ctrl-C reaches the parent, which ends the child in order
        )
        settings = {
            "path": str(self._path.resolve()),
            "model": "student",
            "parent": os.getpid(),
            "key": self._key,
            "slots": 1,
            "threads": self._threads,
            "context_length": self._context,
        }
        try:
            self._address = self._start(json.dumps(settings).encode() + b"\n")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._log.close()

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Ask one of the server's endpoints.

        Raises:
            StudentError: it refuses, or is gone.
        """
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            self._address + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"},
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request, timeout=ANSWER_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode("utf-8", "replace").strip()[:500]
            raise self._failed(f"refused {path}: {said}") from error
        except (OSError, ValueError) as error:
            raise self._failed(f"ended while it was asked ({error})") from error

    def _start(self, settings: bytes) -> str:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeError("the child has no pipes")
        with suppress(BrokenPipeError):
            process.stdin.write(settings)
            process.stdin.flush()
        deadline = time.monotonic() + START_S
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise self._failed(f"did not load it within {START_S:g} s")
        line = process.stdout.readline()
        if not line:
            raise self._failed("could not load it")
        return str(json.loads(line)["address"])

    def _failed(self, what: str) -> StudentError:
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), LOG_BYTES, max(0, size - LOG_BYTES))
        lines = "\n    ".join(tail.decode("utf-8", "replace").strip().splitlines()[-8:])
        return StudentError(
            str(self._path.name),
            f"llama.cpp {what}; the end of its log:\n    {lines or '(empty)'}",
            "nothing was exported; --to safetensors needs no llama.cpp",
        )
