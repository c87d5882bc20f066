"""A server of chat completions behind ours: bodies handed on, answers handed back as they come.

Unlike ``openai_compatible`` this repeats nothing and records nothing: whoever asked decides what to
do about a failure. Every request has a connection of its own, which ends the generation when it is
closed: llama.cpp's and vLLM's servers both watch it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from overproof.clients.http_session import HttpSession
from overproof.clients.llama_server import root_of
from overproof.clients.openai_wire import server_error
from overproof.clients.sse import Event, EventParser

__all__ = [
    "UNREACHABLE",
    "UpstreamError",
    "is_alive",
    "models_of",
    "streamed_chunks",
    "whole_answer",
]

PATH = "/chat/completions"
SILENCE_S = 600.0  # between two reads: a long prompt on a slow machine says nothing for minutes
LOOK_S = 3.0
UNREACHABLE = "unreachable"
ALONE = {"Connection": "close"}
BROKEN = (aiohttp.ClientError, OSError)  # ``OSError`` holds ``TimeoutError``


class UpstreamError(Exception):
    """The server answered with an error, broke off, or is not there.

    ``status`` is its HTTP status, 502 for an answer that broke off, 503 where nobody answers;
    ``kind`` is the error's ``type`` where it named one, ``UNREACHABLE`` where nobody answers.
    """

    def __init__(self, status: int, message: str, kind: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind


async def whole_answer(http: HttpSession, body: Mapping[str, Any]) -> dict[str, Any]:
    """The ``chat.completion`` object.

    Raises:
        UpstreamError: there is none.
    """
    async with _posted(http, body) as response:
        raw = await response.text("utf-8", "replace")
    return _object(http, raw)


async def streamed_chunks(
    http: HttpSession, body: Mapping[str, Any]
) -> AsyncGenerator[dict[str, Any], None]:
    """The ``chat.completion.chunk`` objects as they come.

    Raises:
        UpstreamError: the server refused, or the stream ended without its end marker.
    """
    usage = {"include_usage": True}
    asked = {**body, "stream": True, "stream_options": usage}
    parser = EventParser()
    async with _posted(http, asked) as response:
        async for data in response.content.iter_any():
            for event in parser.feed(data):
                if event.data.strip() == "[DONE]":
                    return
                yield _chunk(http, event)
    for event in parser.end():
        if event.data.strip() == "[DONE]":
            return
        yield _chunk(http, event)
    raise UpstreamError(502, f"{http.shown} broke the answer off")


async def models_of(http: HttpSession) -> list[dict[str, Any]]:
    """What ``GET /models`` lists.

    Raises:
        UpstreamError: nobody answers, or not with models.
    """
    try:
        async with http.session.get(
            f"{http.base_url}/models",
            params=http.query,
            headers=ALONE,
            timeout=aiohttp.ClientTimeout(total=LOOK_S),
            allow_redirects=False,
        ) as response:
            raw = await response.text("utf-8", "replace")
            if response.status != 200:
                raise _refused(http, response.status, raw)
    except BROKEN as error:
        raise _gone(http, error) from error
    listed = _object(http, raw).get("data")
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


async def is_alive(http: HttpSession) -> bool:
    """Whether the server answers ``GET /health``, beside ``/v1``, as one that can be asked."""
    try:
        async with http.session.get(
            root_of(http.base_url) + "/health",
            params=http.query,
            headers=ALONE,
            timeout=aiohttp.ClientTimeout(total=LOOK_S),
            allow_redirects=False,
        ) as response:
            # 404: a gateway that has no such page is there all the same.
            return response.status in (200, 404)
    except BROKEN:
        return False


@asynccontextmanager
async def _posted(
    http: HttpSession, body: Mapping[str, Any]
) -> AsyncGenerator[aiohttp.ClientResponse, None]:
    try:
        async with http.session.post(
            http.url_of(PATH),
            json=dict(body),
            params=http.query,
            headers=ALONE,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=LOOK_S, sock_read=SILENCE_S),
            allow_redirects=False,
        ) as response:
            if response.status != 200:
                raise _refused(http, response.status, await response.text("utf-8", "replace"))
            yield response
    except BROKEN as error:
        raise _gone(http, error) from error


def _object(http: HttpSession, raw: str) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UpstreamError(502, f"{http.shown} answers with something else than a JSON object")
    return value


def _chunk(http: HttpSession, event: Event) -> dict[str, Any]:
    chunk = _object(http, event.data)
    if event.name == "error" or (chunk.get("error") and not chunk.get("choices")):
        message, status = server_error(event.data)
        raise UpstreamError(status or 502, http.mask(message), _kind(event.data))
    return chunk


def _refused(http: HttpSession, status: int, raw: str) -> UpstreamError:
    return UpstreamError(status, server_error(http.mask(raw))[0], _kind(raw))


def _kind(raw: str) -> str | None:
    try:
        kind = json.loads(raw)["error"]["type"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return kind if isinstance(kind, str) else None


def _gone(http: HttpSession, error: BaseException) -> UpstreamError:
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamError(503, f"nobody answers at {http.shown}", UNREACHABLE)
    said = http.mask(str(error)) or type(error).__name__
    return UpstreamError(502, f"{http.shown} broke the answer off ({said})")
