"""The files that a replay writes: complete under their names, or growing beside them.

What is not finished stands in ``NAME.partial``. A snapshot notes how long each was and a hash of
it, so that a resumed replay cuts off what was written after the snapshot and writes it again. Where
a replay fails and there is no snapshot, nothing could be resumed, and ``NAME.partial`` is removed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import msgspec

from overproof.errors import RunError

__all__ = ["GrowingFile", "naming"]

_encode = msgspec.json.Encoder().encode
BLOCK = 1 << 20


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within it an OSError that names no file, as of a full disk, names ``path``."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


class GrowingFile:
    """JSON Lines under a temporary name until `finish`.

    Args:
        path: the final name.
        resume: ``state()`` of the time to go on from; ``None`` begins anew.
        snapshot: what it can be resumed from: where an error ends the block and this file is not
            there, what was written is removed. ``None`` keeps it.

    Raises:
        RunError: another process is writing it, or what was written until ``resume`` is not there
            any more.
    """

    def __init__(self, path: Path, resume: Any = None, snapshot: Path | None = None) -> None:
        self.path = path
        self._snapshot = snapshot
        self.partial = path.with_name(path.name + ".partial")
        self._digest = blake2b(digest_size=16)
        self.size = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        size, digest = resume or (0, "")
        if resume is not None and not self.partial.exists() and path.exists():
            path.replace(self.partial)  # stopped between the last two renames
        self._stream: BinaryIO = os.fdopen(
            os.open(self.partial, os.O_RDWR | os.O_CREAT, 0o666), "r+b"
        )
        try:
            self._lock()
            if resume is not None:
                self._adopt(size, digest)
            self._stream.truncate(size)
            self._stream.seek(size)
        except BaseException:
            self._stream.close()
            raise
        self.size = size

    def _lock(self) -> None:
        """One replay at a time; the lock ends with its process."""
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                str(self.partial),
                "is being written by another process",
                "wait until it has ended, or name another output",
            ) from None

    def _adopt(self, size: int, digest: str) -> None:
        left = size
        while left and (block := self._stream.read(min(BLOCK, left))):
            self._digest.update(block)
            left -= len(block)
        if left or self._digest.hexdigest() != digest:
            raise RunError(
                str(self.partial),
                "is not what it was when the snapshot was taken",
                "replay from the start, without --resume",
            )

    def write(self, rows: Iterable[Any]) -> None:
        """Append rows; anything that msgspec writes as JSON.

        Raises:
            OSError: a full disk; the file is named.
        """
        data = b"".join(_encode(row) + b"\n" for row in rows)
        with naming(self.partial):
            self._stream.write(data)
        self._digest.update(data)
        self.size += len(data)

    def state(self) -> list[Any]:
        """Make what was written last, and say where it ends.

        Raises:
            OSError: a full disk; the file is named.
        """
        with naming(self.partial):
            self._stream.flush()
            os.fsync(self._stream.fileno())
        return [self.size, self._digest.hexdigest()]

    def finish(self) -> None:
        """Give it its name."""
        self.state()
        self._stream.close()
        self.partial.replace(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._stream.close()
            return
        with suppress(OSError):  # the error that brought us here is the one to tell
            if not (self._stream.closed or self._snapshot is None or self._snapshot.exists()):
                self.partial.unlink(missing_ok=True)  # ours: it is locked until it is closed
        with suppress(OSError):
            self._stream.close()
