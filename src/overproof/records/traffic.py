"""What guard reads and writes: one request, the keyed fingerprint of its text, truth, verdicts.

An event is one request to a provider's API. Its text travels either as ``messages`` or, from
providers that keep none, as ``text_sketch``: keyed fingerprints and traits from which the text
cannot be read. Detection looks at the sketch alone, so that both kinds of log give the same
findings. Field by field: docs/traffic.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal

import msgspec

__all__ = [
    "Action",
    "Event",
    "Evidence",
    "Sketch",
    "Subject",
    "TrafficVerdict",
    "Truth",
]


class Action(StrEnum):
    """The ladder of answers to suspicion, mildest first. ``LOG`` writes no verdict."""

    LOG = "log"
    WATCH = "watch"
    SOFTEN = "soften"
    WITHHOLD = "withhold"
    VERIFY = "verify"
    BLOCK = "block"

    @property
    def rung(self) -> int:
        """0 for ``LOG`` to 5 for ``BLOCK``."""
        return list(Action).index(self)


class Sketch(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What is kept of one request's text; 64-bit keyed hashes, 0 where there is nothing.

    Attributes:
        system: the normalised system prompt.
        tools: the sorted names of the tools.
        prompt: the whole request, system prompt and all turns: equal for repeated samples.
        turn: the last user turn alone.
        template: the last user turn with its numbers, quotations and long payloads as slots.
        opening: the first words of the last user turn; an injected instruction before a task.
        closing: its last words; an injected instruction after a task.
        shingles: winnowed shingles of head and tail, at most 24, no order.
        elicitation: how much it asks for reasoning to be written out, 0 to 1.
        rubric: how much it asks for an answer to be graded, 0 to 1.
        synthesis: how much it asks for training data (instructions, questions, answers), 0 to 1.
        technique: which known way of getting round a refusal it uses; 0 none.
        capability: the kind of task, an index into ``guard.text.CAPABILITIES``.
        language: the likeliest script or language, ISO 639-1; "" where it cannot be told.
        chars: length of the text in characters, before any cap.
        turns: how many turns.
    """

    system: int = 0
    tools: int = 0
    prompt: int = 0
    turn: int = 0
    template: int = 0
    opening: int = 0
    closing: int = 0
    shingles: tuple[int, ...] = ()
    elicitation: float = 0.0
    rubric: float = 0.0
    synthesis: float = 0.0
    technique: int = 0
    capability: int = 0
    language: str = ""
    chars: int = 0
    turns: int = 0


class Event(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """One request. Times are seconds since the epoch in UTC, once read.

    ``messages`` holds ``{"role": …, "content": …}``; content is a string, or parts as OpenAI and
    Anthropic write them. Every field with a default may be missing.
    """

    ts: float
    request_id: str
    account: str
    model: str
    endpoint: str
    org: str | None = None
    payer: str | None = None
    plan: str | None = None
    declared_use: str | None = None
    account_created: float | None = None
    ip: str | None = None
    asn: int | None = None
    user_agent: str | None = None
    device: str | None = None
    messages: Sequence[Mapping[str, Any]] | None = None
    text_sketch: Sketch | None = None
    tools: Sequence[str] | None = None
    params: Mapping[str, Any] = {}
    input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    status: int | None = None
    finish_reason: str | None = None
    refused: bool | None = None


class Truth(msgspec.Struct, frozen=True, rename={"kind": "class"}):
    """What one account really is, in a labelled log. ``kind`` is written as ``class``.

    ``group`` is the honest organisation (or the campaign) that intervals are resampled by.
    """

    account: str
    kind: str
    campaign: str | None = None
    level: str | None = None
    group: str | None = None


class Subject(msgspec.Struct, frozen=True):
    """Whom a verdict is about; ``members`` are accounts."""

    kind: Literal["account", "community", "org"]
    id: str
    members: tuple[str, ...]


class Evidence(msgspec.Struct, frozen=True, omit_defaults=True):
    """One reason of a verdict, in words a human can check; never prompt text.

    ``family`` is the family of signals, so that a reader sees how many agree.
    """

    signal: str
    family: str
    detail: str
    p_value: float | None = None
    e_value: float | None = None


class TrafficVerdict(msgspec.Struct, frozen=True):
    """One decision about one subject.

    Attributes:
        decided_at: event time, seconds since the epoch.
        n_calibration: how many honest subjects it was set against; the smallest p-value is
            1 / (n_calibration + 1).
        tokens_before: tokens served to the members before the decision.
        expires_at: when it lapses unless renewed.
        assumption: what the error rate rests on, in words.
    """

    subject: Subject
    decided_at: float
    action: Action
    p_value: float | None
    e_value: float | None
    n_calibration: int
    evidence: tuple[Evidence, ...]
    tokens_before: int
    expires_at: float | None = None
    assumption: str = ""
