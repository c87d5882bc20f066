"""A student that talks behind an OpenAI-compatible address.

    POST /v1/chat/completions   streamed token by token or whole; log-probs, n, stop, seed, tools
    GET  /v1/models, /health

The name of the model in a request is not looked at, as with students that label. Every response
says in ``x-overproof-answered-by`` whether the student or the teacher answered. More requests than
may wait are answered with 503 and ``Retry-After``. A client that leaves ends the generation.
Nothing of a request is logged or kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Send

from overproof.evaluate.chat import MOST_CHOICES, ProtocolError
from overproof.evaluate.serve_chat_defer import Answerer, Begun
from overproof.evaluate.serve_chat_engines import Engine
from overproof.evaluate.serve_chat_pieces import as_event, completion_object, events, gathered
from overproof.evaluate.serve_chat_request import ChatAsked
from overproof.evaluate.serve_http import MAX_BODY, error_handlers, guarded, json_of

__all__ = ["build_chat_app"]

T = TypeVar("T")
log = logging.getLogger("overproof.serve")
_ENDING: set[asyncio.Task[None]] = set()  # the event loop alone does not keep a task alive


def build_chat_app(
    engine: Engine,
    answerer: Answerer,
    *,
    model_name: str,
    api_key: str | None = None,
    max_queued: int = 256,
    max_body: int = MAX_BODY,
) -> Starlette:
    """The server as an ASGI application.

    Args:
        engine: what answers for the student; started, as is whoever else answers.
        answerer: decides who answers.
        model_name: the name it answers under.
        api_key: bearer token that requests under ``/v1`` must carry, if any.
        max_queued: answers that may wait for others before requests are refused with 503.
        max_body: largest body of a request, in bytes.
    """
    endpoints = _Endpoints(engine, answerer, model_name, max_queued, max_body)

    return Starlette(
        routes=[
            Route("/v1/chat/completions", guarded(endpoints.chat, api_key), methods=["POST"]),
            Route("/v1/models", guarded(endpoints.models, api_key)),
            Route("/v1/models/{model:path}", guarded(endpoints.model, api_key)),
            Route("/health", endpoints.health),
        ],
        exception_handlers=error_handlers(),
    )


class _Endpoints:
    """The answers to each route."""

    def __init__(
        self, engine: Engine, answerer: Answerer, name: str, max_queued: int, max_body: int
    ) -> None:
        self._engine = engine
        self._answerer = answerer
        self._name = name
        self._max_queued = max_queued
        self._max_body = max_body
        self._under_way = 0

    async def chat(self, request: Request) -> Response:
        asked = ChatAsked.parse(await json_of(request, self._max_body))
        self._check(asked)
        release = self._take(asked.n)
        try:
            begun = await _while_connected(request, self._answerer.begin(asked))
            if asked.stream:
                response = await self._streamed(request, asked, begun, release)
                release = _nothing  # the response releases, once it has been sent
                return response
            pieces = await _while_connected(request, gathered(begun.pieces))
            answer = completion_object(pieces, asked, begun.model, begun.note)
            return JSONResponse(answer, headers=dict(begun.headers))
        finally:
            release()

    async def _streamed(
        self, request: Request, asked: ChatAsked, begun: Begun, release: Callable[[], None]
    ) -> Response:
        """The response, once its first event is there: what fails before has a status."""
        stream = events(begun.pieces, asked, begun.model, begun.note)
        try:
            first = await _while_connected(request, _next(stream))
        except BaseException:
            await begun.pieces.aclose()
            raise

        async def end() -> None:
            await stream.aclose()
            await begun.pieces.aclose()
            release()

        return _Streamed(
            _to_the_end(first, stream),
            end,
            headers={"Cache-Control": "no-cache", **begun.headers},
            media_type="text/event-stream",
        )

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        wanted = request.path_params["model"]
        if wanted != self._name:
            raise ProtocolError(
                f"there is no model {wanted!r}; this server has {self._name!r}",
                status=404,
                param="model",
                code="model_not_found",
            )
        return JSONResponse(self._model())

    async def health(self, _: Request) -> Response:
        alive = await self._engine.is_alive()
        told = {
            "status": "ok" if alive else "the engine does not answer",
            "model": self._name,
            "backend": self._engine.name,
        }
        return JSONResponse(told, 200 if alive else 503)

    def _model(self) -> dict[str, Any]:
        told = {"id": self._name, "object": "model", "created": 0, "owned_by": "overproof"}
        if (longest := self._engine.context_length) is not None:
            told["max_model_len"] = longest  # as vLLM calls it
        return told

    def _check(self, asked: ChatAsked) -> None:
        most = min(MOST_CHOICES, self._engine.slots + self._max_queued)
        if asked.n > most:
            raise ProtocolError(f"n must be at most {most} here", param="n")
        if (asked.top_logprobs or 0) > self._engine.most_logprobs:
            raise ProtocolError(
                f"top_logprobs must be at most {self._engine.most_logprobs} here",
                param="top_logprobs",
            )
        self._engine.check(asked)

    def _take(self, n: int) -> Callable[[], None]:
        """Room for ``n`` answers; what gives it back, however often it is called."""
        if self._under_way + n > self._engine.slots + self._max_queued:
            raise ProtocolError(
                "too many requests are waiting; try again in a moment",
                status=503,
                code="overloaded",
                kind="server_error",
            )
        self._under_way += n
        held = n

        def release() -> None:
            nonlocal held
            self._under_way -= held
            held = 0

        return release


class _Streamed(StreamingResponse):
    """A streamed response that ends what feeds it, whether it was read to the end or not."""

    def __init__(
        self,
        content: AsyncGenerator[str, None],
        end: Callable[[], Awaitable[None]],
        **options: Any,
    ) -> None:
        super().__init__(content, **options)
        self._feed = content
        self._end = end

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        finally:
            # A task of its own: where the client left, every await in this one is cancelled again.
            ending = asyncio.create_task(self._ended())
            _ENDING.add(ending)
            ending.add_done_callback(_ENDING.discard)
            await asyncio.shield(ending)

    async def _ended(self) -> None:
        await self._feed.aclose()
        await self._end()


async def _to_the_end(first: str, stream: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """The events, and the end marker; a failure on the way is an event of its own."""
    yield first
    try:
        async for event in stream:
            yield event
    except ProtocolError as error:
        yield as_event(error.body)
        return
    except Exception as error:
        log.exception("a streamed answer failed")
        failed = f"the student failed ({type(error).__name__})"
        yield as_event(ProtocolError(failed, status=500, kind="server_error").body)
        return
    yield "data: [DONE]\n\n"


async def _next(stream: AsyncGenerator[str, None]) -> str:
    return await anext(stream)


async def _while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, which is cancelled when the client leaves.

    Raises:
        ClientDisconnect: it left.
    """
    task = asyncio.create_task(work)
    watch = asyncio.create_task(_departure(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _nothing() -> None:
    """Somebody else releases."""
