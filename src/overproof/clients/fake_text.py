"""What the fake teacher says beyond labels: texts, JSON of a schema, calls of tools.

It answers what the user said last in capital letters: deterministic, and a rule that a student can
learn. At temperatures above zero each sample begins with words of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import NamedTuple

from overproof.clients.fake_instances import instance_of
from overproof.records.exchange import Request, Tool, ToolCall

__all__ = ["Said", "is_a_text", "say"]

SHORT = 16
"""Requests for no more tokens than this, without a schema or tools, want a label."""

LONGEST = 80
OPENINGS = (
    "Certainly:",
    "In capitals:",
    "Here you are:",
    "As you wish:",
    "Loudly:",
    "This is it:",
    "Gladly:",
    "So be it:",
)
_WORD = re.compile(r"\w+", re.UNICODE)


class Said(NamedTuple):
    """What it says: a text, or the text of a call's arguments with the call."""

    text: str
    call: ToolCall | None = None


def is_a_text(request: Request, *, has_labels: bool) -> bool:
    """Whether a request wants more than the choice of a label."""
    asked = request.parameters
    if asked.tools or asked.response_schema is not None:
        return True
    return not has_labels and asked.max_tokens > SHORT


def say(request: Request) -> Said:
    """The whole answer, however long.

    Raises:
        ValueError: a schema that it finds no value for.
    """
    asked = request.parameters
    if asked.tools and asked.tool_choice != "none":
        tool = _chosen(asked.tools, asked.tool_choice)
        schema = {"type": "object"} | tool.parameters
        arguments = json.dumps(instance_of(schema, _words(request), _seed(request)))
        identity = hashlib.sha256(_seed(request).encode()).hexdigest()[:12]
        return Said(arguments, ToolCall(id=f"call_{identity}", name=tool.name, arguments=arguments))
    if asked.response_schema is not None:
        value = instance_of(asked.response_schema, _words(request), _seed(request))
        return Said(json.dumps(value, ensure_ascii=False))
    return Said(_cut(_text(request), asked.stop))


def _text(request: Request) -> str:
    words = _last(request).split()
    text = " ".join(words[:LONGEST]).upper() or "NOTHING."
    if request.parameters.temperature != 0:
        start = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        turn, which = divmod(request.sample, len(OPENINGS))
        again = f" ({turn + 1})" if turn else ""
        text = f"{OPENINGS[(start + which) % len(OPENINGS)]}{again} {text}"
    begun = request.messages[-1] if request.messages else None
    if begun is not None and begun.role == "assistant":  # a prefill, which is not said again
        text = text.removeprefix(begun.content)
    return text


def _cut(text: str, stops: tuple[str, ...]) -> str:
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


def _chosen(tools: tuple[Tool, ...], choice: str | None) -> Tool:
    return next((tool for tool in tools if tool.name == choice), tools[0])


def _last(request: Request) -> str:
    said = [message.content for message in request.messages if message.role == "user"]
    return said[-1] if said else ""


def _words(request: Request) -> list[str]:
    return _WORD.findall(_last(request))[:LONGEST]


def _seed(request: Request) -> str:
    """What the answer depends on: the sample too, where answers are drawn."""
    asked = request.parameters
    drawn = [request.sample, asked.seed] if asked.temperature != 0 else []
    return json.dumps([[m.role, m.content] for m in request.messages] + drawn)
