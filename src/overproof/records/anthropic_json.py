"""Requests of Anthropic's Messages API as canonical requests.

Follows the body of ``POST /v1/messages``. Answers are read by ``anthropic_answers``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from overproof.records.exchange import Message, Parameters, Request, Tool, ToolCall
from overproof.records.openai_answers import text_of
from overproof.records.reasoning import THOUGHTS

__all__ = ["is_anthropic", "plain_batch_line", "request_of_anthropic"]

# Fields that do not change what is answered; one of them names people.
IRRELEVANT = frozenset({"stream", "metadata", "service_tier"})
_MARKS = frozenset({"system", "stop_sequences", "anthropic_version"})
_CHOICES = {"auto": "auto", "none": "none", "any": "required"}


def is_anthropic(body: Mapping[str, Any], response: Mapping[str, Any]) -> bool:
    """Whether a logged exchange is one of the Messages API."""
    if response:
        return response.get("type") in ("message", "error") and "choices" not in response
    return bool(_MARKS & body.keys())


def plain_batch_line(row: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a message batch, in or out, with the fields that other logs have.

    ``params`` is the ``body`` of a request. ``result`` is a ``response`` where it succeeded and an
    ``error`` otherwise.
    """
    plain = dict(row)
    if "custom_id" in row and "params" in row and "body" not in row:
        plain["body"] = plain.pop("params")
    result = row.get("result")
    if "custom_id" in row and isinstance(result, dict) and "response" not in row:
        del plain["result"]
        if result.get("type") == "succeeded":
            plain["response"] = result.get("message")
        else:
            error = result.get("error")
            inner = error.get("error", error) if isinstance(error, dict) else error
            plain["error"] = inner or f"the request {result.get('type')} in its batch"
    return plain


def request_of_anthropic(
    body: Mapping[str, Any], model: str | None = None, sample: int = 0
) -> Request:
    """The canonical request of a body. Fields that this package does not know go into ``extra``.

    Args:
        body: as it was sent.
        model: used where the body names none.
        sample: which repeat of the request this is.

    Raises:
        ValueError: a body that is no request of the Messages API, or holds more than text and
            tools.
    """
    rest = {
        name: value for name, value in body.items() if name not in IRRELEVANT and value is not None
    }
    turns = rest.pop("messages", None)
    if not isinstance(turns, list) or not turns:
        raise ValueError("`messages` is not a list with at least one message")
    messages: list[Message] = []
    system = text_of(rest.pop("system", None), joined_by="\n\n")
    if system:
        messages.append(Message(role="system", content=system))
    for number, turn in enumerate(turns, start=1):
        if not isinstance(turn, dict):
            raise ValueError(f"message {number} is not an object")
        try:
            messages += _messages(turn)
        except ValueError as error:
            raise ValueError(f"message {number}: {error}") from error
    known: dict[str, Any] = {
        name: rest.pop(name) for name in ("max_tokens", "temperature", "top_p") if name in rest
    }
    known |= _form(rest)
    stop = tuple(rest.pop("stop_sequences", ()))
    named = rest.pop("model", None) or model or "unknown"
    return Request(
        model=named,
        messages=tuple(messages),
        parameters=Parameters(**known, stop=stop, extra=rest),
        sample=sample,
    )


def _messages(turn: Mapping[str, Any]) -> list[Message]:
    """The messages of one turn: the results of tools stand in a user's."""
    role, content = turn.get("role"), turn.get("content")
    if role not in ("user", "assistant"):
        raise ValueError(f"it has the unknown role {role!r}")
    blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
    messages: list[Message] = []
    calls: list[ToolCall] = []
    texts: list[Any] = []
    for block in blocks:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "tool_result" and role == "user":
            said = text_of(block.get("content"), joined_by="\n") or ""
            messages.append(Message(role="tool", content=said, tool_call_id=block["tool_use_id"]))
        elif kind == "tool_use" and role == "assistant":
            given = json.dumps(block.get("input") or {}, ensure_ascii=False)
            calls.append(ToolCall(id=block.get("id") or "", name=block["name"], arguments=given))
        elif kind not in THOUGHTS:
            texts.append(block)
    text = text_of(texts, joined_by="\n") if texts else None
    if text is not None or calls:
        messages.append(Message(role=role, content=text or "", tool_calls=tuple(calls)))
    if not messages:
        raise ValueError("it has no text")
    return messages


def _form(rest: dict[str, Any]) -> dict[str, Any]:
    """Takes tools, the choice among them and a JSON Schema out of a body, where they are plain."""
    form: dict[str, Any] = {}
    if (tools := _tools(rest.get("tools"))) is not None:
        form["tools"] = tools
        del rest["tools"]
        choice = rest.get("tool_choice")
        if isinstance(choice, dict):
            if choice.keys() == {"type"} and choice["type"] in _CHOICES:
                form["tool_choice"] = _CHOICES[choice["type"]]
                del rest["tool_choice"]
            elif choice.keys() == {"type", "name"} and choice["type"] == "tool":
                form["tool_choice"] = choice["name"]
                del rest["tool_choice"]
    wanted = rest.get("output_config")
    inner = wanted.get("format") if isinstance(wanted, dict) and len(wanted) == 1 else None
    plain = isinstance(inner, dict) and inner.keys() == {"type", "schema"}
    if inner and plain and inner["type"] == "json_schema" and isinstance(inner["schema"], dict):
        form["response_schema"] = inner["schema"]
        del rest["output_config"]
    return form


def _tools(value: Any) -> tuple[Tool, ...] | None:
    """``None`` where they are more than a ``Tool`` can say, such as tools of the server."""
    if not isinstance(value, list) or not value:
        return None
    tools = []
    for item in value:
        if not isinstance(item, dict) or item.keys() - {
            "name",
            "description",
            "input_schema",
            "type",
        }:
            return None
        schema = item.get("input_schema")
        if item.get("type", "custom") != "custom" or not isinstance(schema, dict):
            return None
        tools.append(
            Tool(name=item["name"], description=item.get("description") or "", parameters=schema)
        )
    return tuple(tools)
