"""A chat-completions request to a student that talks, checked field by field.

Fields follow OpenAI's API reference, "Create chat completion". Nothing is ignored that would change
the answer: a field that the engine behind cannot honour is refused by its name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from overproof.evaluate.chat import MOST_CHOICES, ProtocolError, boolean_field, integer_field
from overproof.records.exchange import Message, Request
from overproof.records.openai_json import messages_of, request_of_body
from overproof.records.tool_calls import message_object

__all__ = ["ChatAsked"]

# They say something of the asker or of how he is served, and nothing of the answer.
IRRELEVANT = frozenset(
    {
        "model", "user", "metadata", "store", "safety_identifier", "service_tier",
        "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "verbosity",
    }
)  # fmt: skip
# Said so, they ask for nothing.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "tools": ([],),
    "tool_choice": ("auto", "none"),  # without tools
}
OWN = frozenset(
    {
        "messages", "n", "stream", "stream_options", "logprobs", "top_logprobs", "max_tokens",
        "max_completion_tokens", "temperature", "top_p", "seed", "stop",
    }
)  # fmt: skip
MOST_STOPS = 16
HOTTEST = 2.0


@dataclass(frozen=True)
class ChatAsked:
    """What is asked of a student.

    ``top_logprobs`` is ``None`` where no log-probs are wanted. ``more`` are fields that only some
    engines know: tools, a response format, penalties, and an engine's own.
    """

    messages: tuple[Message, ...]
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    top_logprobs: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, body: Any) -> ChatAsked:
        """Read a request's JSON body.

        Raises:
            ProtocolError: with the field that is wrong.
        """
        if not isinstance(body, dict):
            raise ProtocolError("the body must be a JSON object")
        try:
            json.dumps(body, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ProtocolError("a text holds half of a surrogate pair") from None
        options = body.get("stream_options") or {}
        if not isinstance(options, dict):
            raise ProtocolError("stream_options must be an object", param="stream_options")
        try:
            messages = messages_of(body.get("messages"))
        except ValueError as error:
            raise ProtocolError(str(error), param="messages") from None
        logprobs = boolean_field(body, "logprobs")
        k = integer_field(body, "top_logprobs", 0, None)
        if k is not None and not logprobs:
            raise ProtocolError("top_logprobs needs logprobs: true", param="top_logprobs")
        limit = integer_field(body, "max_completion_tokens", 1, None)
        older = integer_field(body, "max_tokens", 1, None)
        return cls(
            messages=messages,
            n=integer_field(body, "n", 1, MOST_CHOICES) or 1,
            stream=boolean_field(body, "stream"),
            include_usage=boolean_field(options, "include_usage"),
            top_logprobs=(k or 0) if logprobs else None,
            max_tokens=older if limit is None else limit,
            temperature=_number(body, "temperature", 0.0, HOTTEST),
            top_p=_number(body, "top_p", 0.0, 1.0, above=True),
            seed=integer_field(body, "seed", -(2**63), 2**63 - 1),
            stop=_stops(body.get("stop")),
            more=_more(body),
        )

    def replaced(self, **changes: Any) -> ChatAsked:
        """A copy, changed."""
        return replace(self, **changes)

    def body(self, model: str) -> dict[str, Any]:
        """The body of this request for a server; without ``n`` and ``stream``."""
        sent: dict[str, Any] = {
            "model": model,
            "messages": [message_object(message) for message in self.messages],
        }
        for name in ("max_tokens", "temperature", "top_p", "seed"):
            if (value := getattr(self, name)) is not None:
                sent[name] = value
        if self.stop:
            sent["stop"] = list(self.stop)
        if self.top_logprobs is not None:
            sent |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        return {**self.more, **sent}

    def request(self, model: str, default_max_tokens: int, sample: int = 0) -> Request:
        """This request as the canonical one, for a teacher or for local weights.

        Raises:
            ProtocolError: tools or a format that cannot be read.
        """
        body = {"max_tokens": default_max_tokens} | self.body(model)
        try:
            return request_of_body(body, sample=sample)
        except ValueError as error:
            raise ProtocolError(str(error).splitlines()[0]) from None


def _more(body: dict[str, Any]) -> dict[str, Any]:
    """Fields that change the answer and that not every engine knows."""
    rest = {
        name: value
        for name, value in body.items()
        if name not in OWN and name not in IRRELEVANT and value is not None
    }
    without_tools = not rest.get("tools")
    for name, values in NEUTRAL.items():
        if name in rest and any(_same(rest[name], value) for value in values):
            if name == "tool_choice" and not without_tools:
                continue
            del rest[name]
    return rest


def _same(value: Any, neutral: Any) -> bool:
    return isinstance(value, bool) == isinstance(neutral, bool) and bool(value == neutral)


def _number(
    body: dict[str, Any], name: str, least: float, most: float, *, above: bool = False
) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    plain = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not plain or not least <= value <= most or (above and value == least):
        bound = f"above {least:g} and at most {most:g}" if above else f"from {least:g} to {most:g}"
        raise ProtocolError(f"{name} must be a number {bound}", param=name)
    return float(value)


def _stops(value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if listed is None:
        return ()
    if not isinstance(listed, list) or not all(isinstance(s, str) and s for s in listed):
        raise ProtocolError("stop must be a text or a list of texts, none empty", param="stop")
    if len(listed) > MOST_STOPS:
        raise ProtocolError(f"stop holds more than {MOST_STOPS} texts", param="stop")
    return tuple(listed)
