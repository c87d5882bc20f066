"""The chat-completions protocol as far as a student speaks it: requests in, answers out.

Shapes follow OpenAI's API reference, "Chat" and "Chat streaming". A student answers with its
label as the assistant's message. Asked for ``logprobs``, it answers with one pseudo-token: the
label, its alternatives being the other labels with their calibrated log-probabilities.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "MOST_CHOICES",
    "ChatRequest",
    "Labelled",
    "ProtocolError",
    "boolean_field",
    "completion",
    "completion_chunks",
    "head",
    "integer_field",
]

MOST_CHOICES = 128


class ProtocolError(Exception):
    """A request that cannot be answered; becomes OpenAI's error object.

    ``status`` is the HTTP status; ``param`` names the field that is wrong.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.kind = kind

    @property
    def body(self) -> dict[str, Any]:
        """The error object."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }


@dataclass(frozen=True)
class Labelled:
    """A student's answer to one text: log-probabilities (L,) in nats, and tokens read."""

    labels: Sequence[str]
    log_probabilities: npt.NDArray[np.float64]
    n_tokens: int

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.labels[int(np.argmax(self.log_probabilities))]

    @property
    def result(self) -> dict[str, Any]:
        """Label, confidence and calibrated probabilities, as ``/v1/classify`` shows them."""
        probabilities = [float(p) for p in np.exp(self.log_probabilities)]
        return {
            "label": self.label,
            "confidence": max(probabilities),
            "probabilities": dict(zip(self.labels, probabilities, strict=True)),
        }


@dataclass(frozen=True)
class ChatRequest:
    """What a student needs of a chat-completions request. Other fields have no meaning for it."""

    message: str
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    top_logprobs: int | None = None

    @classmethod
    def parse(cls, body: Any) -> ChatRequest:
        """Read a request's JSON body. The last user message is the input; the rest is ignored.

        Raises:
            ProtocolError: with the field that is wrong.
        """
        if not isinstance(body, dict):
            raise ProtocolError("the body must be a JSON object")
        options = body.get("stream_options") or {}
        if not isinstance(options, dict):
            raise ProtocolError("stream_options must be an object", param="stream_options")
        n = integer_field(body, "n", 1, MOST_CHOICES)
        logprobs = boolean_field(body, "logprobs")
        k = integer_field(body, "top_logprobs", 0, None)
        if k is not None and not logprobs:
            raise ProtocolError("top_logprobs needs logprobs: true", param="top_logprobs")
        return cls(
            message=_last_user_message(body.get("messages")),
            n=1 if n is None else n,
            stream=boolean_field(body, "stream"),
            include_usage=boolean_field(options, "include_usage"),
            top_logprobs=(k or 0) if logprobs else None,
        )


def integer_field(body: dict[str, Any], name: str, least: int, most: int | None) -> int | None:
    """A whole number of a request's body, ``None`` where it says nothing.

    Raises:
        ProtocolError: it is something else, or out of its bounds.
    """
    value = body.get(name)
    if value is None:
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        bound = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ProtocolError(f"{name} must be a whole number, {bound}", param=name)
    return int(value)


def boolean_field(body: dict[str, Any], name: str) -> bool:
    """A flag of a request's body, false where it says nothing.

    Raises:
        ProtocolError: it is something else.
    """
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise ProtocolError(f"{name} must be true or false", param=name)
    return bool(value)


def _last_user_message(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        raise ProtocolError("messages must be a list with a user message", param="messages")
    for index in reversed(range(len(messages))):
        message = messages[index]
        where = f"messages[{index}]"
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ProtocolError(f"{where} must be an object with a role", param=where)
        if message["role"] == "user":
            return _text(message.get("content"), f"{where}.content")
    raise ProtocolError("messages holds no user message", param="messages")


def _text(content: Any, where: str) -> str:
    if isinstance(content, list):
        texts = []
        for index, part in enumerate(content):
            if not isinstance(part, dict) or part.get("type") != "text":
                raise ProtocolError(
                    "a student reads text parts only", param=f"{where}[{index}]", code="not_text"
                )
            texts.append(_plain(part.get("text"), f"{where}[{index}].text"))
        content = "\n".join(texts)
    return _plain(content, where)


def _plain(text: Any, where: str) -> str:
    """``text`` if it is one that can be encoded: JSON lets half of a surrogate pair through."""
    if not isinstance(text, str):
        raise ProtocolError(f"{where} must be a text", param=where)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ProtocolError(f"{where} holds half of a surrogate pair", param=where) from None
    return text


def _logprobs(answer: Labelled, k: int | None) -> dict[str, Any] | None:
    if k is None:
        return None
    order = np.argsort(-answer.log_probabilities, kind="stable")
    tokens = [
        {
            "token": answer.labels[i],
            # Minus zero is what a sure label gives; it reads badly in JSON.
            "logprob": float(answer.log_probabilities[i]) + 0.0,
            "bytes": list(answer.labels[i].encode()),
        }
        for i in order
    ]
    return {"content": [{**tokens[0], "top_logprobs": tokens[:k]}], "refusal": None}


def _usage(answer: Labelled, n: int) -> dict[str, int]:
    """Tokens the student read, and one pseudo-token for each choice."""
    return {
        "prompt_tokens": answer.n_tokens,
        "completion_tokens": n,
        "total_tokens": answer.n_tokens + n,
    }


def head(kind: str, model: str) -> dict[str, Any]:
    """What every object of an answer begins with: a new id, the time, the model."""
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }


def completion(request: ChatRequest, answer: Labelled, model: str) -> dict[str, Any]:
    """A ``chat.completion`` object."""
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": answer.label, "refusal": None},
            "logprobs": _logprobs(answer, request.top_logprobs),
            "finish_reason": "stop",
        }
        for index in range(request.n)
    ]
    shared = head("chat.completion", model)
    return {**shared, "choices": choices, "usage": _usage(answer, request.n)}


def completion_chunks(
    request: ChatRequest, answer: Labelled, model: str
) -> Iterator[dict[str, Any]]:
    """``chat.completion.chunk`` objects: the role, the label, the end, and usage if asked for."""
    shared = head("chat.completion.chunk", model)
    if request.include_usage:
        shared["usage"] = None
    logprobs = _logprobs(answer, request.top_logprobs)
    for delta, scores, reason in (
        ({"role": "assistant", "content": ""}, None, None),
        ({"content": answer.label}, logprobs, None),
        ({}, None, "stop"),
    ):
        for index in range(request.n):
            choice = {"index": index, "delta": delta, "logprobs": scores, "finish_reason": reason}
            yield {**shared, "choices": [choice]}
    if request.include_usage:
        yield {**shared, "choices": [], "usage": _usage(answer, request.n)}
