"""A vLLM server of our own: started on a directory of weights, ended with us."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from overproof.clients.chat_upstream import is_alive
from overproof.clients.http_session import HttpSession
from overproof.config.teacher import TeacherConfig
from overproof.errors import ConfigError, StudentError

__all__ = ["VllmProcess", "find_vllm"]

START_TIMEOUT_S = 900.0
STOP_TIMEOUT_S = 20.0
LOOK_EVERY_S = 0.5
LOG_TAIL_BYTES = 4000
LOG_TAIL_LINES = 15
# Runs vLLM in the place of a process that Linux ends when its parent dies (prctl(2)).
DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def find_vllm() -> str | None:
    """The ``vllm`` command beside this Python or on the path, ``None`` where there is none."""
    beside = Path(sys.executable).parent / "vllm"
    return str(beside) if beside.is_file() else shutil.which("vllm")


class VllmProcess:
    """``vllm serve DIRECTORY`` on a loopback port, with a key that nobody else knows.

    Args:
        directory: weights with tokenizer and chat template.
        model: the name to serve them under.
        context_length: the longest prompt with answer, in tokens; the model's own where unsaid.

    Raises:
        ConfigError: there is no vLLM here.
    """

    def __init__(self, directory: Path, model: str, *, context_length: int | None = None) -> None:
        found = find_vllm()
        if found is None:
            raise ConfigError(
                "--backend vllm",
                "vLLM is not installed here",
                "install it (`pip install vllm`, in an environment of its own on PATH), or name a "
                "running server with --upstream URL",
            )
        self._command = found
        self._directory = directory
        self._model = model
        self._context_length = context_length
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    async def start(self) -> tuple[TeacherConfig, dict[str, str]]:
        """Start it and wait until it answers: how it is asked, and the header with its key.

        Raises:
            StudentError: it ended, or does not answer in time; with the end of its log.
        """
        port, key = _free_port(), secrets.token_urlsafe(24)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        command = [
            self._command, "serve", str(self._directory), "--host", "127.0.0.1",
            "--port", str(port), "--served-model-name", self._model,
            # The model's own distribution, whatever its generation config recommends.
            "--generation-config", "vllm",
        ]  # fmt: skip
        if self._context_length is not None:
            command += ["--max-model-len", str(self._context_length)]
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", DIE_WITH_PARENT, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=os.environ | {"VLLM_API_KEY": key},  # not for all to see among the arguments
            start_new_session=True,
        )
        config = TeacherConfig(
            kind="openai", model=self._model, base_url=f"http://127.0.0.1:{port}/v1"
        )
        headers = {"Authorization": f"Bearer {key}"}
        http = HttpSession(config, headers=headers)
        await http.open()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await is_alive(http):
                    if self._process.poll() is not None:
                        raise self._failed("ended before it answered")
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            raise self._failed(f"did not answer within {START_TIMEOUT_S:g} s") from None
        finally:
            await http.close()
        return config, headers

    async def stop(self) -> None:
        """End it and the processes that it started."""
        process, self._process = self._process, None
        if process is not None:
            for sent in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, sent)
                if await asyncio.to_thread(_ended, process):
                    break
        if self._log is not None:
            self._log.close()
            self._log = None

    def _failed(self, what: str) -> StudentError:
        tail = ""
        if self._log is not None:
            size = os.fstat(self._log.fileno()).st_size
            end = os.pread(self._log.fileno(), LOG_TAIL_BYTES, max(0, size - LOG_TAIL_BYTES))
            tail = "\n    ".join(end.decode("utf-8", "replace").splitlines()[-LOG_TAIL_LINES:])
        return StudentError(
            f"vLLM on {self._directory}",
            f"{what}; the end of its log:\n    {tail or '(empty)'}",
            "try `vllm serve` by hand, or --backend transformers",
        )


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def _free_port() -> int:
    """A port that is free now; vLLM takes no socket and no port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
