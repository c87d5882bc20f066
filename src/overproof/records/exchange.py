"""The nouns of a conversation with a teacher: message, request, completion, exchange."""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from overproof.records.hashing import content_hash

__all__ = [
    "Completion",
    "Exchange",
    "Message",
    "Outcome",
    "Parameters",
    "Request",
    "TokenLogprob",
    "TopLogprob",
    "Usage",
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


class Message(Record):
    """One message of a chat."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


class Parameters(Record):
    """Everything besides model and messages that changes what a teacher answers.

    ``top_logprobs`` asks for that many alternatives a token; ``None`` asks for no log-probs.
    ``extra`` is the recipe's additional request body.
    """

    max_tokens: int = Field(default=256, ge=1)
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    top_logprobs: int | None = None
    stop: tuple[str, ...] = ()
    extra: dict[str, Any] = Field(default_factory=dict)


class Request(Record):
    """A canonical request. ``sample`` tells repeats of one prompt apart.

    A last message of role ``assistant`` is a prefill: the teacher continues it.
    """

    model: str
    messages: tuple[Message, ...]
    parameters: Parameters = Parameters()
    sample: int = Field(default=0, ge=0)

    @cached_property
    def key(self) -> str:
        """The content address: hash of model, messages, parameters and sample number."""
        return content_hash(self.model_dump(mode="json"))


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
    """Tokens as the server counted them. Cached tokens are part of the input tokens."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class Completion(Record):
    """What came back, at the level of the protocol (a task may judge it further).

    ``TRUNCATED`` says that ``max_tokens`` was reached. ``error`` is set when the outcome is
    ``MALFORMED`` or ``FAILED``. Times are in seconds.
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


class Exchange(Record):
    """A request with its completion, as the ledger keeps it.

    ``created_at`` is ISO 8601 in UTC. ``cost_usd`` is ``None`` where a price is unknown.
    ``source`` is ``collected`` or ``imported:FILE``; ``licence`` and ``terms`` are the teacher's.
    """

    request: Request
    completion: Completion
    teacher: str
    created_at: str
    cost_usd: float | None = None
    source: str = "collected"
    licence: str = "unknown"
    terms: str = "unknown"
