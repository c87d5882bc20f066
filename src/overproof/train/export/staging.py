"""Writing a directory so that a crash leaves the old one or the new one, never half of either."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from overproof.errors import StudentError

__all__ = ["staged_directory", "usual_modes"]

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # fcntl.h, renameat2(2)


@contextmanager
def staged_directory(target: Path) -> Iterator[Path]:
    """A directory beside ``target`` that takes its place when the block ends well.

    What was at ``target`` is removed afterwards, all of it. An exception leaves it as it was. So
    does a killed process, whose half-written neighbour the next one removes.

    Raises:
        StudentError: the disk is full, or ``target`` cannot be written.
    """
    stage = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        stage.mkdir()
        yield stage
        usual_modes(stage)
        for path in sorted(stage.rglob("*")):
            _sync(path)
        _sync(stage)
        _put(stage, target)
        _sync(target.parent)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        way_out = "make room, or name another place; what was there before is untouched"
        raise StudentError(str(target), f"cannot be written: {error.strerror}", way_out) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def usual_modes(directory: Path) -> None:
    """Let whoever may read ``directory`` read the files in it: safetensors lets the owner alone."""
    mode = directory.stat().st_mode & 0o666
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with suppress(PermissionError):
                path.chmod(mode)


def _put(stage: Path, target: Path) -> None:
    """Move ``stage`` to ``target``; what was at ``target`` is at ``stage`` then."""
    if not target.exists():
        stage.rename(target)
        return
    if sys.platform == "linux":
        exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        names = os.fsencode(stage), os.fsencode(target)
        if exchange is not None:
            if exchange(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0:
                return
            code = ctypes.get_errno()
            if code not in (errno.EINVAL, errno.ENOSYS):  # a file system that cannot exchange
                raise OSError(code, os.strerror(code), str(target))
    # Two steps: for a moment there is nothing at the target.
    old = stage.with_suffix(".old.partial")
    target.rename(old)
    try:
        stage.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    with suppress(PermissionError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sweep(target: Path) -> None:
    """Remove what processes that are gone left half-written."""
    for left in target.parent.glob(f".{target.name}.*.partial"):
        pid = left.name.removeprefix(f".{target.name}.").partition(".")[0]
        if pid.isdigit() and not _is_running(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _is_running(pid: int) -> bool:
    if pid == os.getpid():
        return False  # our own earlier try: there is one at a time
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
