"""An OpenAI-compatible server with faults, for bench/faults.py: python faulty_server.py PORT_FILE.

What goes wrong is decided by the SHA-256 of the last user message alone, so every client meets the
same faults. GET /stats tells what was asked how often, and whether Retry-After was kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections import Counter
from pathlib import Path

from aiohttp import web

# Shares, in tenths of a per cent of the distinct prompts, of what goes wrong the first time.
FAULTS = (
    (10, "rejected"),  # 400, every time
    (10, "truncated body"),
    (10, "rate limited"),  # 429 with Retry-After: 1
    (10, "server error"),
    (10, "reset"),
    (10, "garbled body"),
    (20, "malformed answer"),  # text that is not the JSON that was asked for
)
RETRY_AFTER_S = 1.0
LATENCY_S = 0.05


def fault_of(text: str) -> str:
    """What goes wrong with this prompt; empty for nothing."""
    place = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 1000
    for share, name in FAULTS:
        if place < share:
            return name
        place -= share
    return ""


def answer_to(text: str) -> str:
    """The one right answer: JSON with the length of the prompt."""
    return json.dumps({"length": len(text)})


class FaultyServer:
    """Counts what it is asked and misbehaves as ``fault_of`` says."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.told_to_wait: dict[str, float] = {}
        self.too_early = 0

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = body["messages"][-1]["content"]
        self.asked[text] += 1
        if (until := self.told_to_wait.pop(text, None)) is not None:
            self.too_early += time.monotonic() < until
        await asyncio.sleep(LATENCY_S)
        fault = fault_of(text)
        if fault == "rejected" or (fault and self.asked[text] == 1):
            self.faults[fault] += 1
            if (failure := self._fail(request, fault, text)) is not None:
                return failure
            if fault == "truncated body":
                return await self._truncated(request)
        malformed = fault == "malformed answer" and self.asked[text] == 1
        self.answered[text] += 1
        return web.json_response(completion("I would rather not" if malformed else answer_to(text)))

    def _fail(self, request: web.Request, fault: str, text: str) -> web.Response | None:
        error = {"error": {"message": fault, "type": "x", "code": None}}
        if fault == "rejected":
            return web.json_response(error, status=400)
        if fault == "server error":
            return web.json_response(error, status=500)
        if fault == "rate limited":
            self.told_to_wait[text] = time.monotonic() + RETRY_AFTER_S - 0.05
            headers = {"Retry-After": f"{RETRY_AFTER_S:.0f}"}
            return web.json_response(error, status=429, headers=headers)
        if fault == "garbled body":
            return web.Response(text='{"choices": [{"mess', content_type="application/json")
        if fault == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return None

    async def _truncated(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        assert request.transport is not None
        request.transport.abort()
        return response

    async def stats(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "requests": self.asked.total(),
                "distinct": len(self.asked),
                "answered": dict(self.answered),
                "faults": dict(self.faults),
                "too_early": self.too_early,
            }
        )

    async def reset(self, _request: web.Request) -> web.Response:
        self.__init__()  # type: ignore[misc]
        return web.json_response({})


def completion(text: str) -> dict[str, object]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1767225600,
        "model": "served-model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


async def main(port_file: Path) -> None:
    server = FaultyServer()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.complete)
    app.router.add_get("/stats", server.stats)
    app.router.add_post("/reset", server.reset)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    port_file.write_text(str(runner.addresses[0][1]))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
