"""A server that answers after 50 ± 20 ms, for bench/collect.py: python latency_server.py PORT_FILE.

It speaks just enough HTTP/1.1 to answer POSTs of chat completions, by hand on asyncio's transports:
that costs it less than any framework, so that the client is what is measured. Latencies are drawn
evenly from 30 to 70 ms with a seed. GET /stats tells how many calls came, when the first came and
when the last was answered; GET /reset forgets them.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
import time
from pathlib import Path

LATENCY_S = (0.030, 0.070)
ANSWER = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1767225600,
        "model": "served-model",
        "system_fingerprint": "fp_bench",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "A film that says what it means, and means it. " * 6,
                    "refusal": None,
                },
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 150, "completion_tokens": 70, "total_tokens": 220},
    }
).encode()


def response(body: bytes, status: str = "200 OK") -> bytes:
    """A whole response that keeps the connection open."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


ANSWERED = response(ANSWER)
NOT_FOUND = response(b"{}", "404 Not Found")


class Stats:
    """What is told at /stats."""

    def __init__(self) -> None:
        self.calls = 0
        self.first: float | None = None
        self.last = 0.0

    def told(self) -> bytes:
        cpu_s = resource.getrusage(resource.RUSAGE_SELF)
        return response(
            json.dumps(
                {
                    "calls": self.calls,
                    "seconds": self.last - (self.first or self.last),
                    "cpu_s": cpu_s.ru_utime + cpu_s.ru_stime,
                }
            ).encode()
        )


stats = Stats()
rng = random.Random(0)


class Connection(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    def __init__(self) -> None:
        self.data = b""
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return
        if self.data.startswith(b"GET"):
            path, self.data = self.data.split(b" ", 2)[1], b""
            self.get(path)
            return
        start = self.data.lower().find(b"content-length:", 0, end) + 15
        length = int(self.data[start : self.data.find(b"\r", start)])
        if len(self.data) < end + 4 + length:
            return
        self.data = self.data[end + 4 + length :]
        stats.calls += 1
        if stats.first is None:
            stats.first = time.monotonic()
        self.loop.call_later(rng.uniform(*LATENCY_S), self.answer)

    def get(self, path: bytes) -> None:
        global stats  # noqa: PLW0603
        if path == b"/reset":
            stats = Stats()
        known = path in (b"/stats", b"/reset")
        self.transport.write(stats.told() if known else NOT_FOUND)

    def answer(self) -> None:
        stats.last = time.monotonic()
        if not self.transport.is_closing():
            self.transport.write(ANSWERED)


async def main() -> None:
    """Serve on loopback until ended; PORT_FILE appears once it is ready."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    file = Path(sys.argv[1])
    file.with_suffix(".new").write_text(str(port))
    file.with_suffix(".new").rename(file)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
