"""Answers of Anthropic's Messages API as completions, from the wire and from logs alike.

Follows the ``Message`` object of ``POST /v1/messages``: ``content`` blocks, ``stop_reason`` and
``usage``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from overproof.records.exchange import Completion, Outcome, ToolCall, Usage
from overproof.records.json_fields import clean, count_field, objects_in, text_field
from overproof.records.reasoning import THOUGHTS, reasoning_of

__all__ = ["ANSWER_TOOL", "WRAPPED", "completion_of_message"]

ANSWER_TOOL = "structured_answer"
"""The tool that a teacher is made to call where a JSON Schema can be handed over in no other way:
its input is the answer."""

WRAPPED = "structured_answer_value"
"""The same, for a schema that is not of an object: the answer is the input's field ``value``."""

_STOPS = {
    "end_turn": Outcome.ANSWERED,
    "stop_sequence": Outcome.ANSWERED,
    "tool_use": Outcome.ANSWERED,
    "max_tokens": Outcome.TRUNCATED,
    "model_context_window_exceeded": Outcome.TRUNCATED,
    "refusal": Outcome.REFUSED,
}


def completion_of_message(message: Any) -> Completion:
    """The completion that a message of the API holds.

    Text blocks are joined; thinking is kept apart as reasoning (a redacted block has none that can
    be read); calls of tools become ``tool_calls``, with the input written out as JSON. An answer
    handed over through ``ANSWER_TOOL`` or ``WRAPPED`` is the text. Tokens read from a cache and
    written to one are added to the input tokens, which the API counts without them.

    ``pause_turn`` and stop reasons that nobody knows are ``MALFORMED``, and so is an answer without
    any text, unless a stop sequence cut it off at its start.

    Raises:
        ValueError: not a message of the API.
    """
    if not isinstance(message, Mapping) or not isinstance(message.get("content"), list):
        raise ValueError("the response has no list of content blocks")
    blocks = objects_in(message["content"], "content")
    texts, calls = _said(blocks)
    reason = text_field(message, "stop_reason")
    outcome = _STOPS.get(reason or "", Outcome.MALFORMED)
    error = None
    text = "".join(texts)
    if outcome is Outcome.MALFORMED:
        error = f"expected an answer; it ended with stop_reason {reason!r}"
    elif outcome is Outcome.REFUSED:
        text = text or _explanation(message)
    elif outcome is Outcome.ANSWERED and not texts and not calls and reason != "stop_sequence":
        outcome, error = Outcome.MALFORMED, "expected content blocks of text; there are none"
    return Completion(
        outcome=outcome,
        text=text,
        finish_reason=reason,
        usage=_usage(message.get("usage")),
        model=text_field(message, "model"),
        error=error,
        reasoning=reasoning_of(message),
        tool_calls=tuple(calls),
    )


def _said(blocks: list[dict[str, Any]]) -> tuple[list[str], list[ToolCall]]:
    """The texts and the calls among the blocks."""
    texts: list[str] = []
    calls: list[ToolCall] = []
    for block in blocks:
        kind = block.get("type")
        if kind == "text":
            texts.append(_required(block, "text"))
        elif kind == "tool_use":
            call = _call(block)
            if call.name == ANSWER_TOOL:
                texts.append(call.arguments)
            elif call.name == WRAPPED:
                texts.append(_value(block.get("input"), call.arguments))
            else:
                calls.append(call)
        elif not isinstance(kind, str) or kind not in THOUGHTS:
            raise ValueError(f"a content block of type {kind!r}; only text and tools can be used")
    return texts, calls


def _call(block: Mapping[str, Any]) -> ToolCall:
    name = _required(block, "name")
    if not name:
        raise ValueError("a tool_use block names no tool")
    given = block.get("input")
    # Input that was cut off is no JSON and stays the text that it is.
    arguments = given if isinstance(given, str) else _written(given or {})
    return ToolCall(id=text_field(block, "id") or "", name=name, arguments=clean(arguments))


def _value(given: Any, arguments: str) -> str:
    """The answer inside the wrapper; whatever else was given is shown as it is."""
    if isinstance(given, Mapping) and given.keys() == {"value"}:
        return clean(_written(given["value"]))
    return arguments


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _required(block: Mapping[str, Any], name: str) -> str:
    text = text_field(block, name)
    if text is None:
        raise ValueError(f"a {block.get('type')} block has no {name}")
    return text


def _explanation(message: Mapping[str, Any]) -> str:
    details = message.get("stop_details")
    said = details.get("explanation") if isinstance(details, Mapping) else None
    return clean(said) if isinstance(said, str) else ""


def _usage(value: Any) -> Usage | None:
    """``None`` where nothing was counted: unknown is not zero."""
    if not isinstance(value, Mapping) or value.get("input_tokens") is None:
        return None
    cached = count_field(value, "cache_read_input_tokens")
    written = count_field(value, "cache_creation_input_tokens")
    return Usage(
        input_tokens=count_field(value, "input_tokens") + cached + written,
        output_tokens=count_field(value, "output_tokens"),
        cached_tokens=cached,
        reasoning_tokens=count_field(value.get("output_tokens_details"), "thinking_tokens"),
        cache_write_tokens=written,
    )
