"""Writing files so that a crash leaves the old one or the new one, never half of either."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["atomically", "create_new", "write_atomically"]


@contextmanager
def atomically(path: Path, *, private: bool = False) -> Iterator[Path]:
    """A hidden neighbour to write, which takes the name ``path`` when the block ends well.

    The folder is made. The neighbour, ``.NAME.PID.partial``, must be written and closed within the
    block; it is synced before it is renamed, and removed when the block raises. A ``private`` one
    stands there before the block, empty, and is its owner's alone from the first byte on.

    Raises:
        OSError: a full disk, a missing permission; what stood at ``path`` still does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if private:
            partial.unlink(missing_ok=True)  # another's of that number, killed, may be open to all
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        with suppress(OSError):  # the error that brought us here is the one to tell
            partial.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes, *, private: bool = False) -> None:
    """Write ``content`` to ``path`` through a synced neighbour and a rename; see `atomically`."""
    with atomically(path, private=private) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def create_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file that must not exist yet, whole or not at all; its folder must.

    Raises:
        FileExistsError: something stands at ``path``; it is left alone.
        OSError: a full disk, a missing permission.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:  # Ctrl-C too: half a file would stand in the way of the next try
        with suppress(OSError):  # the error that brought us here is the one to tell
            path.unlink(missing_ok=True)
        raise
