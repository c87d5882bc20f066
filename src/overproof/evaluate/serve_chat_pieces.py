"""Answers as pieces: what every engine gives, and what a client is sent.

An answer is a row of pieces, whether it is streamed or not; the last of each choice says why it
ended, the last of all holds the usage. Objects follow OpenAI's API reference, "Chat" and "Chat
streaming".
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from overproof.clients.stream import StreamedChoice
from overproof.evaluate.chat import head
from overproof.evaluate.serve_chat_request import ChatAsked
from overproof.records.exchange import TokenLogprob, TopLogprob

__all__ = [
    "Piece",
    "Usage",
    "completion_object",
    "events",
    "gathered",
    "replayed",
    "token_objects",
    "without_logprobs",
]

DELTA = ("content", "refusal", "tool_calls", "function_call", "reasoning_content", "reasoning")


@dataclass(frozen=True)
class Usage:
    """Tokens of a whole answer; choices share the prompt."""

    prompt: int = 0
    completion: int = 0

    @property
    def object(self) -> dict[str, int]:
        """As the API writes it."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }


@dataclass(frozen=True)
class Piece:
    """A part of a choice.

    ``delta`` is what is added to its message; ``logprobs`` are the tokens of that, as the API
    writes them, ``None`` where nobody asked. ``values`` are the log-probs in nats of all tokens
    that were generated, the end of the turn among them where the engine tells it.
    """

    index: int = 0
    delta: Mapping[str, Any] = field(default_factory=dict)
    logprobs: Sequence[dict[str, Any]] | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    values: tuple[float, ...] = ()


def token_objects(tokens: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    """Tokens as the API writes them in ``logprobs.content``."""
    return [
        {**_token(token), "top_logprobs": [_token(other) for other in token.top]}
        for token in tokens
    ]


def _token(token: TokenLogprob | TopLogprob) -> dict[str, Any]:
    data = None if token.data is None else list(token.data)
    # Minus zero is what a sure token gives; it reads badly in JSON.
    return {"token": token.token, "logprob": token.logprob + 0.0, "bytes": data}


async def gathered(pieces: AsyncIterable[Piece]) -> list[Piece]:
    """All pieces of an answer."""
    return [piece async for piece in pieces]


async def replayed(pieces: Iterable[Piece]) -> AsyncGenerator[Piece, None]:
    """Pieces that came before, as if they came now."""
    for piece in pieces:
        yield piece


async def without_logprobs(pieces: AsyncIterable[Piece]) -> AsyncGenerator[Piece, None]:
    """The same answer for a client that did not ask for its log-probs."""
    async for piece in pieces:
        yield replace(piece, logprobs=None)


def completion_object(
    pieces: Sequence[Piece], asked: ChatAsked, model: str, note: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The ``chat.completion`` object; ``note`` is told under ``overproof``."""
    choices: dict[int, StreamedChoice] = {}
    usage = Usage()
    for piece in pieces:
        taken: dict[str, Any] = {"delta": dict(piece.delta), "finish_reason": piece.finish_reason}
        if piece.logprobs is not None:
            taken["logprobs"] = {"content": list(piece.logprobs)}
        if piece.usage is None or taken["finish_reason"] or piece.delta:
            choices.setdefault(piece.index, StreamedChoice()).take(taken)
        usage = piece.usage or usage
    listed = []
    for index in sorted(choices):
        choice = choices[index].assembled(index)
        message = choice["message"]
        if message["content"] is None and "tool_calls" not in message:
            message["content"] = ""
        message.setdefault("refusal", None)
        if asked.top_logprobs is not None and choice["logprobs"] is not None:
            choice["logprobs"]["refusal"] = None
        listed.append(choice)
    told = {**head("chat.completion", model), "choices": listed, "usage": usage.object}
    return told if note is None else {**told, "overproof": dict(note)}


async def events(
    pieces: AsyncIterable[Piece],
    asked: ChatAsked,
    model: str,
    note: Mapping[str, Any] | None = None,
) -> AsyncGenerator[str, None]:
    """The server-sent events of a streamed answer, without the ``[DONE]`` that ends it."""
    shared = head("chat.completion.chunk", model)
    if asked.include_usage:
        shared["usage"] = None
    begun: set[int] = set()
    usage = Usage()

    def event(index: int, delta: Mapping[str, Any], logprobs: Any, reason: str | None) -> str:
        choice = {
            "index": index, "delta": dict(delta), "logprobs": logprobs, "finish_reason": reason
        }  # fmt: skip
        return as_event({**shared, "choices": [choice]})

    async for piece in pieces:
        usage = piece.usage or usage
        if piece.usage is not None and not piece.delta and piece.finish_reason is None:
            continue
        if piece.index not in begun:
            begun.add(piece.index)
            yield event(piece.index, {"role": "assistant", "content": ""}, None, None)
        if piece.delta or piece.logprobs:
            logprobs = None
            if piece.logprobs is not None:
                logprobs = {"content": list(piece.logprobs), "refusal": None}
            yield event(piece.index, piece.delta, logprobs, None)
        if piece.finish_reason is not None:
            yield event(piece.index, {}, None, piece.finish_reason)
    if asked.include_usage:
        told = {**shared, "choices": [], "usage": usage.object}
        yield as_event(told if note is None else {**told, "overproof": dict(note)})


def as_event(value: Mapping[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
