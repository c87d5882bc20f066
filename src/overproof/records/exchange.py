"""The nouns of a conversation with a teacher: message, request, completion, exchange."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from overproof.records.hashing import canonical_json, content_hash

__all__ = [
    "Completion",
    "Exchange",
    "Message",
    "Outcome",
    "Parameters",
    "Request",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "TopLogprob",
    "Usage",
    "request_address",
]


class Record(BaseModel):
    """A frozen record that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Outcome(StrEnum):
    """How a request ended. A failure never turns into an answer."""

    ANSWERED = "answered"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    FILTERED = "filtered"
    MALFORMED = "malformed"
    FAILED = "failed"


class Tool(Record):
    """A function that the teacher may call; ``parameters`` is a JSON Schema."""

    name: str = Field(min_length=1)
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)


class ToolCall(Record):
    """A call that a teacher made. ``arguments`` is JSON text as the teacher wrote it."""

    id: str = ""
    name: str
    arguments: str = "{}"


class Message(Record):
    """One message of a chat.

    ``tool_calls`` are an assistant's; ``tool_call_id`` says which of them a message of role
    ``tool`` answers.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class Parameters(Record):
    """Everything besides model and messages that changes what a teacher answers.

    ``top_logprobs`` asks for that many alternatives a token; ``None`` asks for no log-probs.
    ``prompt_logprobs`` asks for as many alternatives at every token of the prompt. ``extra`` is
    the recipe's additional request body. ``response_schema`` is the JSON Schema that the answer
    must follow. ``tool_choice`` is ``auto``, ``none``, ``required`` or the name of a tool.
    """

    max_tokens: int = Field(default=256, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    top_logprobs: int | None = None
    stop: tuple[str, ...] = ()
    extra: dict[str, Any] = Field(default_factory=dict)
    response_schema: dict[str, Any] | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    prompt_logprobs: int | None = None


class Request(Record):
    """A canonical request. ``sample`` tells repeats of one prompt apart.

    A last message of role ``assistant`` is a prefill: the teacher continues it.
    """

    model: str
    messages: tuple[Message, ...]
    parameters: Parameters = Parameters()
    sample: int = Field(default=0, ge=0)

    @cached_property
    def canonical(self) -> bytes:
        """The request as canonical JSON: what its address is the hash of.

        Fields that came with a later version are left out where they say nothing, so that a
        ledger keeps its keys.
        """
        return canonical_json(self._plainly() or _address_of(self.model_dump(mode="json")))

    def _plainly(self) -> dict[str, Any] | None:
        """What is addressed, of a chat without later or free-form fields: it is most of them."""
        asked = self.parameters
        if asked.extra or asked.tools or asked.response_schema is not None:
            return None
        if asked.tool_choice is not None or asked.prompt_logprobs is not None:
            return None
        messages = []
        for message in self.messages:
            if message.tool_calls or message.tool_call_id is not None:
                return None
            messages.append({"role": message.role, "content": message.content})
        parameters: dict[str, Any] = {
            "max_tokens": asked.max_tokens,
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "seed": asked.seed,
            "top_logprobs": asked.top_logprobs,
            "stop": list(asked.stop),
            "extra": {},
        }
        return {
            "model": self.model,
            "messages": messages,
            "parameters": parameters,
            "sample": self.sample,
        }

    @cached_property
    def key(self) -> str:
        """The content address: hash of model, messages, parameters and sample number."""
        return "sha256:" + hashlib.sha256(self.canonical).hexdigest()

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, changed where ``update`` says so; its address is its own."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("canonical", "key"):
            copied.__dict__.pop(name, None)
        return copied


# What every address holds; the other fields came later and are part of it where they say something.
_ADDRESSED = frozenset(
    {
        "role",
        "content",
        "max_tokens",
        "temperature",
        "top_p",
        "seed",
        "top_logprobs",
        "stop",
        "extra",
    }
)


def request_address(request: Mapping[str, Any]) -> str:
    """The content address of a request given as JSON, such as the ledger keeps; see ``Request``."""
    return content_hash(_address_of(request))


def _address_of(request: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": request["model"],
        "messages": [_addressed(message) for message in request["messages"]],
        "parameters": _addressed(request["parameters"]),
        "sample": request["sample"],
    }


def _addressed(part: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in part.items() if k in _ADDRESSED or (v is not None and v != [])}


class TopLogprob(Record):
    """One alternative token at a position. ``token`` is its text, ``data`` its bytes if known."""

    token: str
    logprob: float
    data: tuple[int, ...] | None = None


class TokenLogprob(Record):
    """The sampled token at a position with its alternatives, most likely first."""

    token: str
    logprob: float
    data: tuple[int, ...] | None = None
    top: tuple[TopLogprob, ...] = ()


class Usage(Record):
    """Tokens as the server counted them.

    Tokens read from a cache and tokens written to one are part of the input tokens; reasoning
    tokens are part of the output tokens.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0


class Completion(Record):
    """What came back, at the level of the protocol (a task may judge it further).

    ``TRUNCATED`` says that ``max_tokens`` was reached. ``error`` is set when the outcome is
    ``MALFORMED`` or ``FAILED``. Times are in seconds.

    ``reasoning`` is what a model thought aloud, kept apart from what it answered.
    ``prompt_logprobs`` holds the prompt's own tokens, ``None`` at the first, which nothing
    predicts. ``choice`` numbers the answers of one call with ``n`` above 1: the usage of the call
    stands with choice 0, and is zero with the others. ``batch`` is the batch that answered.
    ``uncertain_attempts`` counts attempts that may have been billed though nobody counted their
    tokens: timeouts, broken connections, garbled bodies.
    """

    outcome: Outcome
    text: str = ""
    finish_reason: str | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    usage: Usage | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    latency_s: float = 0.0
    status: int | None = None
    error: str | None = None
    attempts: int = 1
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    prompt_logprobs: tuple[TokenLogprob | None, ...] | None = None
    choice: int = 0
    batch: str | None = None
    uncertain_attempts: int = 0


class Exchange(Record):
    """A request with its completion, as the ledger keeps it.

    ``created_at`` is ISO 8601 in UTC. ``cost_usd`` is ``None`` where a price is unknown.
    ``uncertain_usd`` is what attempts of unknown billing may have cost at most, beyond
    ``cost_usd``.
    ``source`` is ``collected`` or ``imported:FILE``; ``licence`` and ``terms`` are the teacher's.
    """

    request: Request
    completion: Completion
    teacher: str
    created_at: str
    cost_usd: float | None = None
    uncertain_usd: float = 0.0
    source: str = "collected"
    licence: str = "unknown"
    terms: str = "unknown"
