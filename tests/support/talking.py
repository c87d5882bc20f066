"""A scripted engine, a scripted teacher and the clients of a served student."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette

from overproof.clients.protocol import Capabilities
from overproof.evaluate.chat import ProtocolError
from overproof.evaluate.serve_chat_engines import pieces_of_completion
from overproof.evaluate.serve_chat_pieces import Piece
from overproof.evaluate.serve_chat_request import ChatAsked
from overproof.evaluate.serve_http import bind
from overproof.records.exchange import Completion, Outcome, Request, TokenLogprob, Usage

CHAT = "/v1/chat/completions"


def ask(text: Any = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "gpt-x", "messages": [{"role": "user", "content": text}], **fields}


def said(text: str, probability: float = 0.5, **changes: Any) -> Completion:
    """An answer of words, each of the same probability, with an end of turn."""
    words = text.split(" ")
    pieces = [words[0], *(f" {word}" for word in words[1:]), ""]
    tokens = [
        TokenLogprob(token=piece, logprob=math.log(probability), data=tuple(piece.encode()))
        for piece in pieces
    ]
    facts = {
        "outcome": Outcome.ANSWERED,
        "text": text,
        "finish_reason": "stop",
        "logprobs": tuple(tokens),
        "usage": Usage(input_tokens=3, output_tokens=len(tokens)),
    }
    return Completion(**(facts | changes))


class ScriptedEngine:
    """Answers with what ``script`` says of the last message: a completion or an error."""

    name = "transformers"
    most_logprobs = 5
    slots = 1
    context_length: int | None = 64

    def __init__(self, script: dict[str, Completion | ProtocolError] | None = None) -> None:
        self.script = script or {}
        self.asked: list[ChatAsked] = []
        self.hold: asyncio.Event | None = None
        self.entered = asyncio.Event()
        self.ended = 0
        self.alive = True
        self.break_after: int | None = None

    async def __aenter__(self) -> ScriptedEngine:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    def check(self, asked: ChatAsked) -> None:
        return

    async def is_alive(self) -> bool:
        return self.alive

    async def choice(self, asked: ChatAsked, index: int) -> AsyncGenerator[Piece, None]:
        self.asked.append(asked)
        self.entered.set()
        try:
            answer = self.script.get(asked.messages[-1].content, said("yes it is"))
            if isinstance(answer, ProtocolError):
                raise answer
            first, last = pieces_of_completion(answer, index)
            words = answer.text.split(" ")
            for place, word in enumerate(words):
                if self.hold is not None:
                    await self.hold.wait()
                if place == self.break_after:
                    raise ProtocolError("it broke", status=502, kind="server_error")
                text = word if place == 0 else f" {word}"
                tokens = None
                if asked.top_logprobs is not None and first.logprobs is not None:
                    tokens = [first.logprobs[place]]
                yield Piece(index, {"content": text}, tokens)
            yield last
        finally:
            self.ended += 1


class ScriptedTeacher:
    """A teacher that gives the next of its answers, or raises it."""

    def __init__(self, answers: Sequence[Completion | Exception], top_logprobs: int = 0) -> None:
        self.answers = list(answers)
        self.asked: list[Request] = []
        self.model = "big"
        self.name = "big@somewhere"
        self.capabilities = Capabilities(top_logprobs=top_logprobs)

    async def __aenter__(self) -> ScriptedTeacher:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def check(self) -> str | None:
        return None

    async def complete(self, request: Request, meter: object = None) -> Completion:
        self.asked.append(request)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def tokenize(self, text: str) -> None:
        return None


@contextlib.asynccontextmanager
async def connected(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@contextlib.contextmanager
def listening(app: Any, around: Any = None) -> Iterator[str]:
    """The application on a loopback port, in a thread: the address below which it answers."""
    with bind("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        failed: list[BaseException] = []
        ready = threading.Event()

        async def main() -> None:
            async with around or contextlib.nullcontext():
                ready.set()
                await server.serve(sockets=[listener])

        def run() -> None:
            try:
                asyncio.run(main())
            except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                failed.append(error)
                ready.set()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            ready.wait(60)
            if failed:
                raise failed[0]
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


def chunks_of(body: str) -> list[dict[str, Any]]:
    """The objects of a stream that must end well."""
    lines = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]
