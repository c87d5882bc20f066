"""Running code that nobody has read: a process behind walls, with limits and a deadline.

What the walls are is in ``jail.py``. The code and its tests share one interpreter, as HumanEval's
do (Chen et al., arXiv:2107.03374), and the verdict is a line with a random token that is written
once the tests are through. So leaving early, printing what a pass looks like, or dying in silence
is no pass. Code made to cheat can still do so from within, by finding the token in the memory of
its own process or by returning objects that equal everything: the sandbox keeps it from harm, not
from lying.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import secrets
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

__all__ = ["Limits", "Result", "Verdict", "isolation_problem", "run_tests"]

JAIL = Path(__file__).with_name("jail.py")
LONGEST_VERDICT = 4096  # bytes read at most
# Reads the host name file and its own environment, asks for a socket outside, and writes abroad.
PROBE = """
import os, socket
assert not os.environ, "sees the environment"
assert not os.path.exists("/etc/passwd"), "sees the system's files"
assert os.getpid() < 10, "sees other processes"
try:
    socket.create_connection(("192.0.2.1", 9), timeout=0.2)
except OSError as error:
    assert error.errno in (101, 100), f"has a network: {error}"
else:
    raise AssertionError("has a network")
"""


class Verdict(StrEnum):
    """How a run ended. Only ``PASSED`` is a pass."""

    PASSED = "passed"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    NO_VERDICT = "no verdict"
    NO_WALLS = "no walls"


@dataclass(frozen=True)
class Limits:
    """``memory_mb`` is each process's address space; ``processes`` counts threads as well."""

    timeout_s: float = 10.0
    memory_mb: int = 512
    processes: int = 8


@dataclass(frozen=True)
class Result:
    """A verdict, and for a failure what Python said."""

    verdict: Verdict
    detail: str = ""


async def run_tests(
    code: str, tests: str, entry_point: str = "", limits: Limits | None = None, *, isolate: bool
) -> Result:
    """Run ``code``, then ``tests``, in a process of their own.

    Args:
        code: Python source.
        tests: Python source: statements with ``assert``, ``test...`` functions, ``unittest``
            cases, or ``check(candidate)`` as HumanEval has it.
        entry_point: the name that ``check`` is called with.
        limits: of time, memory and processes.
        isolate: behind walls; ``NO_WALLS`` where they cannot be had. Without, only the limits
            hold, and the code can read and write whatever this user can.
    """
    limits = limits or Limits()
    token = secrets.token_hex(16)
    folder = tempfile.mkdtemp(prefix="overproof-")
    given = {
        "token": token, "code": code, "tests": tests, "entry_point": entry_point,
        "isolate": isolate, "folder": folder, "serial": secrets.randbelow(60_000),
        "limits": {
            "seconds": math.ceil(limits.timeout_s) + 1,
            "memory_mb": limits.memory_mb,
            "processes": limits.processes,
        },
    }  # fmt: skip
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-X", "utf8", str(JAIL),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, env={}, cwd=folder, start_new_session=True,
        )  # fmt: skip
        try:
            said = await asyncio.wait_for(
                _talk(process, json.dumps(given).encode()), limits.timeout_s
            )
        except TimeoutError:
            return Result(Verdict.TIMED_OUT, f"after {limits.timeout_s:g} s")
        finally:
            await _end(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _read(said, token)


async def _talk(process: asyncio.subprocess.Process, given: bytes) -> bytes:
    """Hand over what to run; what came back, up to the end of a line or more than a verdict has."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a process without pipes")
    try:
        process.stdin.write(given)
        await process.stdin.drain()
        process.stdin.close()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it died at once: no verdict will come
    said = b""
    while len(said) < LONGEST_VERDICT and not said.endswith(b"\n"):
        piece = await process.stdout.read(LONGEST_VERDICT)
        if not piece:
            break
        said += piece
    return said


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the whole group. The first process of a namespace takes everything in it along."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    # Whatever still writes is not listened to: the pipe must not keep the transport open.
    process._transport.close()  # type: ignore[attr-defined]


def _read(said: bytes, token: str) -> Result:
    line = said.decode("utf-8", "replace")
    signed, _, verdict = line.partition(" ")
    kind, _, detail = verdict.strip().partition(": ")
    if signed != token or not line.endswith("\n") or line.count("\n") != 1:
        return Result(Verdict.NO_VERDICT, "the process ended, or wrote, before its tests had ended")
    if kind == "walls":
        return Result(Verdict.NO_WALLS, detail)
    return Result(Verdict.PASSED if kind == "passed" else Verdict.FAILED, detail)


async def isolation_problem() -> str | None:
    """Why there can be no walls on this machine, ``None`` where they were seen to stand."""
    if not sys.platform.startswith("linux"):
        return "namespaces are Linux's"
    result = await run_tests("", PROBE, limits=Limits(timeout_s=20), isolate=True)
    if result.verdict is Verdict.PASSED:
        return None
    return result.detail or result.verdict.value
