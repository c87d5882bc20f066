"""A student behind an OpenAI-compatible address, so that a program swaps only the base URL.

    POST /v1/chat/completions   the label as the assistant's message; logprobs, n and stream too
    POST /v1/classify           {"input": TEXT or [TEXT, …]} → {"results": [{"label", …}, …]}
    GET  /v1/models, /health

The last user message is the input; messages before it (few-shot examples, a system prompt) are
ignored. A program that talked to the teacher sends its prompt template around the input, while
the student was trained on the input alone: where ``prompt.json``, ``{"prefix": str, "suffix":
str}``, lies in the student or the run directory and is around the message, it is taken off.

Requests are answered in micro-batches by one worker thread; a full queue is answered with 503
and ``Retry-After``. Nothing of a request is logged or kept.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from overproof.evaluate.batcher import BusyError, MicroBatcher
from overproof.evaluate.chat import (
    ChatRequest,
    Labelled,
    ProtocolError,
    completion,
    completion_chunks,
)
from overproof.evaluate.serve_http import (
    MAX_BODY,
    bind,
    error_handlers,
    guarded,
    json_of,
    run_server,
)
from overproof.evaluate.student import Student

__all__ = ["bind", "build_app", "run_server"]

MOST_INPUTS = 2048  # texts in one /v1/classify request


def build_app(
    student: Student,
    *,
    model_name: str,
    api_key: str | None = None,
    max_batch: int = 64,
    max_wait_s: float = 0.002,
    max_queued: int = 4096,
    max_body: int = MAX_BODY,
) -> Starlette:
    """The server as an ASGI application; its lifespan starts and ends the worker.

    Args:
        student: who answers.
        model_name: the name it answers under; the name in a request is not looked at.
        api_key: bearer token that requests under ``/v1`` must carry, if any.
        max_batch: texts in a batch of inference.
        max_wait_s: how long a batch waits to fill, in seconds.
        max_queued: texts that may wait before requests are refused with 503.
        max_body: largest body of a request, in bytes.
    """
    batcher = MicroBatcher(
        partial(_label, student), max_batch=max_batch, max_wait_s=max_wait_s, max_queued=max_queued
    )
    endpoints = _Endpoints(student, model_name, batcher, max_body)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with batcher:
            yield

    return Starlette(
        routes=[
            Route("/v1/chat/completions", guarded(endpoints.chat, api_key), methods=["POST"]),
            Route("/v1/classify", guarded(endpoints.classify, api_key), methods=["POST"]),
            Route("/v1/models", guarded(endpoints.models, api_key)),
            Route("/v1/models/{model:path}", guarded(endpoints.model, api_key)),
            Route("/health", endpoints.health),
        ],
        exception_handlers=error_handlers(),
        lifespan=lifespan,
    )


def _label(student: Student, texts: Sequence[str]) -> list[Labelled]:
    """One pass of the student, in the worker thread."""
    scores = student.score(texts, len(texts))
    log_probabilities = student.log_probabilities(scores.logits)
    return [
        Labelled(student.labels, row, int(n))
        for row, n in zip(log_probabilities, scores.n_tokens, strict=True)
    ]


class _Endpoints:
    """The answers to each route."""

    def __init__(
        self, student: Student, model_name: str, batcher: MicroBatcher[Labelled], max_body: int
    ) -> None:
        self._frame = student.frame
        self._name = model_name
        self._batcher = batcher
        self._max_body = max_body

    async def chat(self, request: Request) -> Response:
        asked = ChatRequest.parse(await json_of(request, self._max_body))
        text = self._frame.input_of(asked.message)
        if not text.strip():
            raise ProtocolError("the input is empty", param="messages", code="empty_input")
        (answer,) = await self._ask([text])
        if not asked.stream:
            return JSONResponse(completion(asked, answer, self._name))
        chunks = completion_chunks(asked, answer, self._name)
        events = [f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in chunks]
        return StreamingResponse(
            _stream([*events, "data: [DONE]\n\n"]),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-cache"},
        )

    async def classify(self, request: Request) -> Response:
        body = await json_of(request, self._max_body)
        given = body.get("input") if isinstance(body, dict) else None
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not texts:
            raise ProtocolError("input must be a text or a list of texts", param="input")
        most = min(MOST_INPUTS, self._batcher.max_queued)
        if len(texts) > most:
            raise ProtocolError(f"input holds more than {most} texts", param="input")
        for index, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip() or not _encodable(text):
                raise ProtocolError(
                    f"input[{index}] is empty or not a text", param="input", code="empty_input"
                )
        answers = await self._ask(texts)
        n_tokens = sum(answer.n_tokens for answer in answers)
        return JSONResponse(
            {
                "model": self._name,
                "results": [answer.result for answer in answers],
                "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
            }
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
        return JSONResponse({"status": "ok", "model": self._name})

    def _model(self) -> dict[str, Any]:
        return {"id": self._name, "object": "model", "created": 0, "owned_by": "overproof"}

    async def _ask(self, texts: Sequence[str]) -> list[Labelled]:
        try:
            return await self._batcher.ask(texts)
        except BusyError:
            raise ProtocolError(
                "too many texts are waiting; try again in a moment",
                status=503,
                code="overloaded",
                kind="server_error",
            ) from None


async def _stream(events: Sequence[str]) -> AsyncIterator[str]:
    for event in events:
        yield event


def _encodable(text: str) -> bool:
    """Whether ``text`` is free of half surrogate pairs, which JSON lets through."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
