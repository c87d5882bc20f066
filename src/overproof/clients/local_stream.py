"""The answer of local weights as it is written, piece by piece.

    async for piece in stream_of(teacher, request):
        ...

The last piece is the whole ``Completion``. A piece never holds half of a character, nor the
beginning of what may become a stop string.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass

from overproof.clients.local_rows import Row
from overproof.clients.local_weights import LocalTeacher
from overproof.records.exchange import Completion, Request, TokenLogprob

__all__ = ["TextPiece", "said_tokens", "stream_of"]

HALF = "\ufffd".encode()  # what a decoder writes for a character that is not whole yet


@dataclass(frozen=True)
class TextPiece:
    """More text of an answer, with the log-probs of its tokens where they were asked for."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


async def stream_of(
    teacher: LocalTeacher, request: Request
) -> AsyncGenerator[TextPiece | Completion, None]:
    """Pieces of the answer as they come, then the completion; joined they are its text.

    Where the request offers tools only the completion comes: what looks like text may turn out to
    be a call. Closing the generator ends the generation with its next token.

    Raises:
        TeacherError: the computation broke.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[TextPiece | None] = asyncio.Queue()
    listener = _Listener(
        request.parameters.stop, lambda piece: loop.call_soon_threadsafe(queue.put_nowait, piece)
    )
    hear = None if request.parameters.tools else listener.hear
    task = asyncio.ensure_future(teacher.complete(request, hear=hear))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        while (piece := await queue.get()) is not None:
            yield piece
        completion = task.result()
        if not request.parameters.tools:
            rest = listener.rest_of(completion)
            if rest.text or rest.logprobs:
                yield rest
        yield completion
    finally:
        task.cancel()


def said_tokens(completion: Completion) -> tuple[TokenLogprob, ...]:
    """The log-probs of the tokens that the text is made of.

    Those after it, of an end of turn or a stop string, are left out.
    """
    size = len(completion.text.encode())
    found, at = [], 0
    for token in completion.logprobs or ():
        if at >= size:
            break
        found.append(token)
        at += _size_of(token)
    return tuple(found)


class _Listener:
    """Hears a row grow, in the thread of the weights, and tells what may be shown of it."""

    def __init__(self, stops: Sequence[str], tell: Callable[[TextPiece], object]) -> None:
        self._stops = [stop.encode() for stop in stops]
        self._tell = tell
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._heard = 0  # tokens of the row
        self._shown = 0  # bytes of the text
        self._tokens = 0  # tokens whose log-probs were told
        self._at = 0  # where the next of these begins, in bytes
        self._text = ""

    def hear(self, row: Row) -> None:
        """Take the row after a token."""
        if len(row.tokens) <= self._heard:
            return  # begun anew, for want of memory: it says the same again
        self._heard = len(row.tokens)
        end = len(row.said) - self._held_back(row.said)
        if end <= self._shown:
            return
        text = self._decode(bytes(row.said[self._shown : end]))
        self._shown = end
        logprobs = tuple(self._up_to(end, row.logprobs))
        if text or logprobs:
            self._text += text
            self._tell(TextPiece(text, logprobs))

    def rest_of(self, completion: Completion) -> TextPiece:
        """What was not told yet, once the answer is whole."""
        text = completion.text.removeprefix(self._text)
        return TextPiece(text, said_tokens(completion)[self._tokens :])

    def _up_to(self, end: int, logprobs: list[TokenLogprob]) -> Iterator[TokenLogprob]:
        """Tokens that begin before ``end``."""
        while self._tokens < len(logprobs) and self._at < end:
            token = logprobs[self._tokens]
            self._tokens += 1
            self._at += _size_of(token)
            yield token

    def _held_back(self, said: bytearray) -> int:
        """How many bytes at the end may yet become something else."""
        longest = max((len(stop) for stop in self._stops), default=0)
        for size in range(min(longest, len(said)), 0, -1):
            if any(stop.startswith(said[-size:]) for stop in self._stops if len(stop) > size):
                return size
        size = 0
        while said.endswith(HALF, 0, len(said) - size):
            size += len(HALF)
        return size


def _size_of(token: TokenLogprob) -> int:
    return len(token.token.encode()) if token.data is None else len(token.data)
