"""An OpenAI-compatible server in this process, on loopback, that behaves as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Received:
    """A request as it came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


def chat_completion(text: str | None = "A", **changes: Any) -> dict[str, Any]:
    """The JSON of a chat completion; ``changes`` go to its choice."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": None},
        "finish_reason": "stop",
        "logprobs": None,
    }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1767225600,
        "model": "served-model",
        "system_fingerprint": "fp_1",
        "choices": [choice | changes],
        "usage": {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11},
    }


def answers(text: str | None = "A", **changes: Any) -> Behaviour:
    """Answer with a chat completion."""
    return says(200, chat_completion(text, **changes))


def says(status: int, body: Any, headers: dict[str, str] | None = None) -> Behaviour:
    """Answer with a status and a body: JSON, or text as it is."""

    async def behave(request: web.Request) -> web.StreamResponse:
        text = body if isinstance(body, str) else json.dumps(body)
        kind = "text/html" if isinstance(body, str) else "application/json"
        return web.Response(status=status, text=text, content_type=kind, headers=headers)

    return behave


def fails(status: int, message: str = "no", headers: dict[str, str] | None = None) -> Behaviour:
    """Answer with an error in OpenAI's form."""
    return says(status, {"error": {"message": message, "type": "x", "code": None}}, headers)


async def truncates(request: web.Request) -> web.StreamResponse:
    """Promise more bytes than are sent."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    _drop(request)
    return response


async def disconnects(request: web.Request) -> web.StreamResponse:
    """Close the connection without a word."""
    _drop(request)
    return web.Response()


async def hangs(request: web.Request) -> web.StreamResponse:
    """Never answer."""
    await asyncio.sleep(3600)
    return web.Response()


def _drop(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


class FakeServer:
    """Answers POSTs with the behaviours of ``script`` in order, then with ``default``.

    ``get`` maps paths to what a GET answers; other paths are 404. ``post`` does so for POSTs
    outside the script.
    """

    def __init__(self) -> None:
        self.script: list[Behaviour] = []
        self.default: Behaviour = answers()
        self.get: dict[str, Behaviour] = {}
        self.post: dict[str, Behaviour] = {}
        self.requests: list[Received] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            behave = self.get.get(request.path)
            return await behave(request) if behave else web.Response(status=404)
        raw = await request.text()
        self.requests.append(
            Received(
                request.method,
                request.path,
                dict(request.query),
                {name.lower(): value for name, value in request.headers.items()},
                json.loads(raw) if raw else None,
            )
        )
        if request.path in self.post:
            return await self.post[request.path](request)
        behave = self.script.pop(0) if self.script else self.default
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await behave(request)
        finally:
            self.in_flight -= 1
