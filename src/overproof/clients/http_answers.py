"""Answers over HTTP: how a client reads one, whole or as a stream, and how reading breaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from overproof.clients.openai_wire import WireError
from overproof.records.exchange import Completion

__all__ = [
    "Broken",
    "Read",
    "ReadMany",
    "Reply",
    "StreamError",
    "StreamReader",
    "broken",
    "read_streamed",
]

LINGER_S = 0.2
"""How long the end of a stream is waited for once its answer is complete: a connection that was
read to its end is used again."""

Read = Callable[[str], Completion]
"""Reads the body of a 200 response; raises ``WireError`` where it is no answer."""

ReadMany = Callable[[str], Sequence[Completion]]
"""As ``Read``, for a call that draws several choices; the usage stands with the first."""


class StreamError(Exception):
    """A server reported an error inside a stream. ``raw`` is its JSON, ``status`` what it means."""

    def __init__(self, raw: str, status: int = 500) -> None:
        self.raw = raw
        self.status = status
        super().__init__(raw)


class StreamReader(Protocol):
    """Assembles the events of one streamed answer. Made anew for every attempt."""

    @property
    def done(self) -> bool:
        """Whether the answer is complete, so that nothing more need be read."""

    def feed(self, data: bytes) -> bool:
        """Take bytes as they came, cut anywhere.

        Returns:
            Whether a part of the answer came; comments and pings are none.

        Raises:
            WireError: what came is no stream of this wire.
            StreamError: the server reported an error.
        """

    def finish(self) -> Sequence[Completion]:
        """The answer, the first choice first, once ``done`` or at the end of the stream.

        Raises:
            WireError: the stream ended before the answer was complete (``is_json=False``), or
                the answer is of another shape.
        """


@dataclass(frozen=True)
class Reply:
    """A response of ``request``. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            WireError: it is none.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise WireError("a JSON body", is_json=False) from None


class StallError(TimeoutError):
    """A stream without a part of the answer for too long."""


@dataclass(frozen=True)
class Broken:
    """Why no response came, or not a whole one."""

    error: str
    unreachable: bool = False
    timed_out: bool = False


def broken(error: Exception, timeout_s: float) -> Broken:
    """What an exception of the connection says of an attempt."""
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        # What the system says, without the address as aiohttp words it: a query may hold a key.
        return Broken(str(getattr(error, "os_error", None) or error), unreachable=True)
    if isinstance(error, StallError):
        return Broken(str(error), timed_out=True)
    if isinstance(error, TimeoutError):
        return Broken(f"no answer within {timeout_s:g} s", timed_out=True)
    return Broken(f"the connection broke: {error!r}")


async def read_streamed(
    content: aiohttp.StreamReader, reader: StreamReader, stall_s: float
) -> Sequence[Completion]:
    """Read a stream to its end.

    Raises:
        StallError: for ``stall_s`` seconds no part of the answer came.
        StreamError: the server reported an error.
        WireError: the stream is not of the reader's wire, or ends too early.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(stall_s) as clock:
            async for data in content.iter_any():
                if reader.feed(data):
                    clock.reschedule(loop.time() + stall_s)
                if reader.done:
                    clock.reschedule(loop.time() + LINGER_S)
    except TimeoutError:
        if not clock.expired():
            raise
        if not reader.done:
            raise StallError(f"the stream stalled: nothing for {stall_s:g} s") from None
    return reader.finish()
