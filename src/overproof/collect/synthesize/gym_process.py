"""The process that generates tasks of reasoning-gym, seen from its parent. See ``gym_worker``."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from overproof.errors import DataError

__all__ = ["GymProcess", "GymStuckError"]

START_S = 120.0
LONGEST_LINE = 64 * 1024 * 1024
WORKER = Path(__file__).with_name("gym_worker.py")


class GymStuckError(Exception):
    """An entry took too long; the process was ended and has to be started again."""


class GymProcess:
    """Asks for one entry after another.

    Args:
        timeout_s: how long one entry may take.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._process: asyncio.subprocess.Process | None = None
        self._log: IO[bytes] | None = None

    async def start(self) -> list[str]:
        """Start the process; the names of the tasks that it knows.

        Raises:
            DataError: it ends at once; its own words are the reason.
        """
        await self.stop()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  closed by stop
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(WORKER),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
            limit=LONGEST_LINE,
            env=os.environ | {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"},
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        names: list[str] = (await self._reply(START_S))["names"]
        return names

    async def ask(self, **wanted: Any) -> dict[str, Any]:
        """One entry; see ``gym_worker`` for what goes in and comes out.

        Raises:
            GymStuckError: it took longer than ``timeout_s``.
            DataError: the process ended.
        """
        process = self._process
        if process is None or process.stdin is None:
            raise RuntimeError("the process was not started")
        try:
            process.stdin.write(json.dumps(wanted).encode() + b"\n")
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise await self._ended() from None
        return await self._reply(self._timeout_s)

    async def stop(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            if process.returncode is None:
                process.kill()
            await process.wait()
        if self._log is not None:
            self._log.close()
            self._log = None

    async def _reply(self, seconds: float) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdout is None:
            raise RuntimeError("the process was not started")
        try:
            line = await asyncio.wait_for(process.stdout.readline(), seconds)
        except TimeoutError:
            await self.stop()
            raise GymStuckError(f"an entry took longer than {seconds:g} s") from None
        if not line.endswith(b"\n"):
            raise await self._ended()
        reply: dict[str, Any] = json.loads(line)
        return reply

    async def _ended(self) -> DataError:
        log = self._log
        said = ""
        if self._process is not None:
            await self._process.wait()
        if log is not None:
            log.seek(0)
            said = log.read().decode(errors="replace").strip()
        last = said.splitlines()[-1] if said else "without a word"
        return DataError("reasoning-gym", f"its process ended: {last}", "take the task out")
