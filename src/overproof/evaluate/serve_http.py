"""What every server of a student shares: bodies, keys, error objects, sockets."""

from __future__ import annotations

import asyncio
import hmac
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from overproof.errors import ConfigError
from overproof.evaluate.chat import ProtocolError

__all__ = ["MAX_BODY", "Endpoint", "bind", "error_handlers", "guarded", "json_of", "run_server"]

MAX_BODY = 4 * 1024 * 1024
Endpoint = Callable[[Request], Awaitable[Response]]


def guarded(endpoint: Endpoint, api_key: str | None) -> Endpoint:
    """``endpoint`` for those who carry the key; for everybody where there is none."""

    async def checked(request: Request) -> Response:
        if api_key is not None:
            _check_key(request, api_key)
        return await endpoint(request)

    return checked


def error_handlers() -> dict[Any, Any]:
    """Every failure as OpenAI's error object, by the exception that tells of it."""
    return {
        ProtocolError: _answer_protocol_error,
        HTTPException: _answer_http_error,
        ClientDisconnect: _answer_nobody,
        Exception: _answer_failure,
    }


async def json_of(request: Request, max_body: int) -> Any:
    """The body as JSON, without ever holding more than ``max_body`` bytes of it."""
    too_large = ProtocolError(
        f"the body is larger than {max_body} bytes", status=413, code="body_too_large"
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_body:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_body:
            raise too_large
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the body is not JSON: {error}", code="invalid_json") from error


def _check_key(request: Request, api_key: str) -> None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    # Compared in constant time: how long a wrong token takes tells nothing about the right one.
    right = hmac.compare_digest(token.strip().encode("latin-1"), api_key.encode())
    if scheme.lower() != "bearer" or not right:
        raise ProtocolError("wrong or missing API key", status=401, code="invalid_api_key")


async def _answer_protocol_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProtocolError)
    headers = {"Retry-After": "1"} if error.status == 503 else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error.body, error.status, headers)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    shown = ProtocolError(
        f"{error.detail}: {request.method} {request.url.path}", status=error.status_code
    )
    return JSONResponse(shown.body, error.status_code, error.headers)


async def _answer_nobody(_: Request, __: Exception) -> Response:
    """The client left before its body was read: not a failure of ours."""
    return Response(status_code=499)


async def _answer_failure(_: Request, error: Exception) -> Response:
    """500 without the details, which go to the server's own log."""
    shown = ProtocolError(
        f"the student failed ({type(error).__name__})", status=500, kind="server_error"
    )
    return JSONResponse(shown.body, 500)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one.

    Raises:
        ConfigError: when the address is unknown, taken or not allowed.
    """
    where = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(where, f"is no address: {error}", "name another --host") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            where, f"cannot be listened on: {reason}", "stop what uses it, or name another --port"
        ) from error
    return listener


def run_server(
    app: Starlette,
    listener: socket.socket,
    started: AbstractAsyncContextManager[None] | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Answer on ``listener`` until interrupted; requests under way are finished first.

    Args:
        app: what answers.
        listener: of ``bind``.
        started: entered before anybody is answered and left afterwards, in the same event loop;
            what it raises is raised here.
        ready: called once it was entered.

    Raises:
        KeyboardInterrupt: the usual way to stop a server.
    """
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="on", timeout_graceful_shutdown=10
    )

    async def main() -> None:
        async with started or nullcontext():
            ready()
            await uvicorn.Server(config).serve(sockets=[listener])

    asyncio.run(main())
