"""Verifiers of reasoning-gym, run in a process of their own. See ``gym_verifier_worker``.

One process serves all answers, whoever asks from whichever thread, one at a time. An answer that
takes too long, or ends the process, costs that process alone: the next one gets a new one.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import math
import os
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from overproof.errors import DataError, MissingExtraError

__all__ = ["PATIENCE_S", "GymVerifier", "Verified", "verify_answer"]

PATIENCE_S = 10.0
START_S = 120.0
WORKER = Path(__file__).with_name("gym_verifier_worker.py")
# Nothing of the parent's environment reaches the process but what starting a program takes.
PASSED_ON = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True)
class Verified:
    """The score in [0, 1]; 0 with a ``problem`` in words where the verifier gave none."""

    score: float
    problem: str = ""


class _DiedError(Exception):
    """The process ended, or did not answer in time."""


class GymVerifier:
    """Asks the process for one score after another; started when it is first needed.

    Args:
        patience_s: how long one answer may take.
        worker: the script that is run.
    """

    def __init__(self, patience_s: float = PATIENCE_S, worker: Path = WORKER) -> None:
        self._patience_s = patience_s
        self._worker = worker
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._log: IO[bytes] | None = None

    def verify(self, answer: str, name: str, entry: Mapping[str, Any]) -> Verified:
        """The score that a task's own verifier gives an answer.

        A verifier that cannot read it, does not come to an end, or ends its process has not found
        it right. So have answers with a double underscore, or over 20,000 characters, which no
        verifier is shown.

        Raises:
            MissingExtraError: reasoning-gym is not installed.
            DataError: it knows no such task, or it cannot be loaded.
        """
        token = secrets.token_hex(8)
        plain = dict(entry) if isinstance(entry, Mapping) else entry
        asked = {"token": token, "name": name, "entry": plain, "answer": answer}
        line = json.dumps(asked, default=str).encode() + b"\n"
        with self._lock:
            self._start()
            try:
                reply = self._ask(line)
            except _DiedError as error:
                self._stop()
                return Verified(0.0, str(error))
            except BaseException:  # interrupted: a late reply must not be the next answer's
                self._stop()
                raise
        return _read(reply, token, name)

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            self._stop()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._stop()
        if "reasoning_gym" in sys.modules and sys.modules["reasoning_gym"] is None:
            raise MissingExtraError("reasoning_gym", "tasks")
        if importlib.util.find_spec("reasoning_gym") is None:
            raise MissingExtraError("reasoning_gym", "tasks")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed by _stop
        self._lines = queue.SimpleQueue()
        self._process = subprocess.Popen(  # noqa: S603  this Python, and a script of ours
            [sys.executable, "-P", "-B", str(self._worker), str(os.getpid()),
             str(self._patience_s)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            env=_environment(), cwd=tempfile.gettempdir(),
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )  # fmt: skip
        threading.Thread(
            target=_listen, args=(self._process.stdout, self._lines), daemon=True
        ).start()
        try:
            self._reply(START_S)
        except _DiedError as error:
            said = self._last_words()
            self._stop()
            raise DataError(
                "reasoning-gym", f"cannot be loaded: {said or error}",
                "install overproof[tasks] again",
            ) from error  # fmt: skip

    def _ask(self, line: bytes) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None:
            raise _DiedError("the verifier's process ended")
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except OSError as error:
            raise _DiedError("the verifier's process ended") from error
        return self._reply(self._patience_s)

    def _reply(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=seconds)
            reply = json.loads(line)
        except queue.Empty:
            raise _DiedError(f"the verifier took longer than {seconds:g} s") from None
        except ValueError:
            raise _DiedError("the verifier's process ended") from None
        if not isinstance(reply, dict):
            raise _DiedError("the verifier's process wrote what is no reply")
        return reply

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):  # what was not written yet has no reader
                        stream.close()
        if self._log is not None:
            self._log.close()
            self._log = None

    def _last_words(self) -> str:
        if self._log is None:
            return ""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def _listen(stream: IO[bytes] | None, lines: queue.SimpleQueue[bytes]) -> None:
    """Hand on lines as they come, and an empty one at the end."""
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):  # closed by _stop meanwhile
            for line in stream:
                lines.put(line)
    lines.put(b"")


def _environment() -> dict[str, str]:
    """Without keys, tokens and homes; the parent's modules are found again by their places."""
    places = [place for place in sys.path if place and Path(place).is_dir()]
    fixed = {
        "PYTHONPATH": os.pathsep.join(places),
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | fixed


def _read(reply: dict[str, Any], token: str, name: str) -> Verified:
    if reply.get("token") != token:
        return Verified(0.0, "the answer interfered with its verifier")
    if "score" not in reply:
        problem = str(reply.get("problem", "no score"))
        if reply.get("stage") == "name":
            raise DataError(
                f"task {name!r}", f"is unknown to reasoning-gym: {problem}", "install its release"
            )
        return Verified(0.0, problem)
    score = float(reply["score"])
    if math.isnan(score):
        return Verified(0.0, "the verifier gave no number")
    return Verified(min(max(score, 0.0), 1.0))


_shared = GymVerifier()
atexit.register(_shared.close)


def verify_answer(answer: str, name: str, entry: Mapping[str, Any]) -> Verified:
    """``GymVerifier.verify`` by the one process that all of a program shares.

    Raises:
        MissingExtraError: reasoning-gym is not installed.
        DataError: it knows no such task, or it cannot be loaded.
    """
    return _shared.verify(answer, name, entry)
