"""The lock of a ledger: one writing process at a time. The lock ends with its process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import IO

from overproof.errors import LedgerError, LedgerLockedError

__all__ = ["FileLock", "wait_until_free"]

LOOK_AGAIN_S = 0.05


class FileLock:
    """The place of the one writer.

    Args:
        ledger: the ledger's file.
        wait_s: how long to wait for another writer to end.

    Raises:
        LedgerLockedError: another process still holds it; names that process.
        LedgerError: the lock file cannot be made, or not locked.
    """

    def __init__(self, ledger: Path, wait_s: float = 0.0) -> None:
        path = lock_path(ledger)
        try:
            self._stream: IO[str] = path.open("a+")
        except OSError as error:
            raise LedgerError(
                str(path),
                f"the lock file cannot be made: {error.strerror}",
                "check the directory's permissions and free space",
            ) from error
        try:
            _lock(self._stream, fcntl.LOCK_EX, ledger, wait_s)
        except BaseException:
            self._stream.close()
            raise
        with contextlib.suppress(OSError):  # the pid is for people: a full disk stops it no run
            self._stream.truncate(0)
            self._stream.write(f"{os.getpid()}\n")
            self._stream.flush()

    def release(self) -> None:
        """Let the next writer in. The file stays: removing it would race with them."""
        self._stream.close()


def wait_until_free(ledger: Path, wait_s: float = 0.0) -> None:
    """Return when nobody is writing to a ledger; nothing is made or held.

    Raises:
        LedgerLockedError: somebody still is after ``wait_s``.
        LedgerError: its lock file cannot be read.
    """
    try:
        with lock_path(ledger).open() as stream:
            _lock(stream, fcntl.LOCK_SH, ledger, wait_s)
    except FileNotFoundError:
        return  # nobody ever wrote to it where it lies
    except OSError as error:
        raise LedgerError(
            str(lock_path(ledger)), f"cannot be read: {error.strerror}", "check its permissions"
        ) from error


def lock_path(ledger: Path) -> Path:
    """The file beside a ledger that its writer holds locked."""
    return ledger.with_name(ledger.name + ".lock")


def _lock(stream: IO[str], kind: int, ledger: Path, wait_s: float) -> None:
    give_up = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(stream, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            left = give_up - time.monotonic()
            if left > 0:
                time.sleep(min(LOOK_AGAIN_S, left))
                continue
            stream.seek(0)
            holder = stream.read(20).strip() or "unknown"
            waited = f" and did not end within {wait_s:g} s" if wait_s else ""
            raise LedgerLockedError(
                str(ledger),
                f"process {holder} is writing to it{waited}",
                "wait for that run to end, or end it; reading works meanwhile",
            ) from None
        except OSError as error:
            raise LedgerError(
                str(lock_path(ledger)),
                f"this file system cannot lock: {error.strerror}",
                "put the run directory on a local disk",
            ) from error
        return
