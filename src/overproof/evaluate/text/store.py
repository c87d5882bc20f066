"""Answers of a contestant on disk: one a line as they come, so that nothing is asked for twice.

A line holds the request's content address and the hash of the weights that answered; answers of
other weights are dropped when the file is opened. A last line that a killed process left half
written is cut off.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pydantic import ValidationError

from overproof.errors import DataError, RunError
from overproof.records.exchange import Outcome, Record, ToolCall
from overproof.records.files import write_atomically

__all__ = ["AnswerFile", "Given"]


class Given(Record):
    """One answer of a contestant, or what it read of somebody's text.

    ``logprobs`` are natural logs of the probabilities of the tokens of the answer, in order.
    ``finished_s`` counts from the beginning of ``session``, a run of the asker.
    """

    key: str
    weights: str
    outcome: Outcome
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[float, ...] | None = None
    output_tokens: int | None = None
    latency_s: float = 0.0
    session: str = ""
    finished_s: float = 0.0
    error: str | None = None


class AnswerFile:
    """The answers of certain weights; used as a context manager.

    Args:
        path: the file; made with its directories.
        weights: the hash of the weights that answer.

    Raises:
        DataError: a line is no answer.
        RunError: the file cannot be read or written.
    """

    def __init__(self, path: Path, weights: str) -> None:
        self.path = path
        self._weights = weights
        self._stream: IO[bytes] | None = None
        self._known: dict[str, Given] = {}

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._read()
            self._stream = self.path.open("ab")
        except OSError as error:
            raise self._failed(error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stream, self._stream = self._stream, None
        if stream is None:
            return
        try:
            stream.flush()
            os.fsync(stream.fileno())
        except OSError as problem:
            if error is None:
                raise self._failed(problem) from problem
        finally:
            stream.close()

    def get(self, key: str) -> Given | None:
        """The answer to a request, ``None`` where there is none yet."""
        return self._known.get(key)

    def add(self, given: Given) -> None:
        """Keep an answer: it is handed to the system at once.

        Raises:
            RunError: the disk is full, or the file went away.
        """
        if self._stream is None:
            raise RuntimeError("use the file inside `with`")
        try:
            self._stream.write(given.model_dump_json(exclude_defaults=True).encode() + b"\n")
            self._stream.flush()
        except OSError as error:
            raise self._failed(error) from error
        self._known[given.key] = given

    def _read(self) -> None:
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.splitlines()
        given = [self._given(number, line) for number, line in enumerate(lines, start=1)]
        kept = [(one, line) for one, line in zip(given, lines, strict=True) if self._is_mine(one)]
        self._known = {one.key: one for one, _ in kept}
        if len(kept) < len(lines) or len(whole) < len(content):
            write_atomically(self.path, b"".join(line + b"\n" for _, line in kept))

    def _is_mine(self, given: Given) -> bool:
        return given.weights == self._weights

    def _given(self, number: int, line: bytes) -> Given:
        try:
            return Given.model_validate_json(line)
        except ValidationError as error:
            raise DataError(
                f"{self.path}:{number}",
                f"is no answer: {str(error).splitlines()[-1].strip()}",
                "remove the file: the weights are here, so the answers can be made again",
            ) from error

    def _failed(self, error: OSError) -> RunError:
        return RunError(
            str(self.path),
            f"cannot be written or read: {error.strerror or error}",
            "make room or mend the permissions, and run the same command again: answers so far "
            "are kept",
        )
