"""Tools and their calls in OpenAI's form, both ways; and a JSON Schema as a response format."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from overproof.records.exchange import Message, Tool, ToolCall
from overproof.records.json_fields import clean
from overproof.records.strict_schemas import strict_form

__all__ = [
    "call_object",
    "called",
    "message_object",
    "response_format_of",
    "schema_of_format",
    "tool_choice_object",
    "tool_choice_of",
    "tool_objects",
    "tools_of",
]

WORDS = ("auto", "none", "required")
NOTHING: dict[str, Any] = {"type": "object", "properties": {}}
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")
LONGEST_NAME = 64


def called(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    """The calls of an assistant's message: its ``tool_calls``, or the older ``function_call``.

    Arguments stay the text that the teacher wrote, whether or not it is JSON; a server that hands
    over an object (Ollama) is written out as JSON.

    Raises:
        ValueError: an item that is no function call.
    """
    calls = message.get("tool_calls")
    if calls is None and isinstance(message.get("function_call"), dict):
        calls = [{"function": message["function_call"]}]
    if calls is None:
        return ()
    if not isinstance(calls, list):
        raise ValueError("its tool_calls are not a list")
    found = []
    for number, call in enumerate(calls, start=1):
        function = call.get("function") if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not name:
            raise ValueError(f"tool call {number} names no function")
        arguments = function.get("arguments")
        if arguments is None:
            arguments = "{}"
        elif not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        identity = call.get("id")
        found.append(
            ToolCall(
                id=clean(identity) if isinstance(identity, str) else "",
                name=clean(name),
                arguments=clean(arguments),
            )
        )
    return tuple(found)


def call_object(call: ToolCall) -> dict[str, Any]:
    """A call as the API writes it."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def message_object(message: Message) -> dict[str, Any]:
    """A message of a chat as the API takes it; calls and the answers to them included."""
    sent: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        sent["tool_calls"] = [call_object(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        sent["tool_call_id"] = message.tool_call_id
    return sent


def tool_objects(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """``tools`` of a request."""
    objects = []
    for tool in tools:
        function: dict[str, Any] = {"name": tool.name, "parameters": tool.parameters or NOTHING}
        if tool.description:
            function["description"] = tool.description
        objects.append({"type": "function", "function": function})
    return objects


def tools_of(value: Any) -> tuple[Tool, ...] | None:
    """The functions in ``tools``, ``None`` where they are more than a ``Tool`` can say."""
    if not isinstance(value, list) or not value:
        return None
    tools = []
    for item in value:
        function = item.get("function") if isinstance(item, dict) else None
        if not isinstance(function, dict) or item.get("type", "function") != "function":
            return None
        name, described = function.get("name"), function.get("description")
        parameters = function.get("parameters") or {}
        if not isinstance(name, str) or not name or not isinstance(parameters, dict):
            return None
        if not isinstance(described, str | None) or function.keys() - {
            "name",
            "description",
            "parameters",
            "strict",
        }:
            return None
        parameters = {} if parameters == NOTHING else parameters
        tools.append(Tool(name=name, description=described or "", parameters=parameters))
    return tuple(tools)


def tool_choice_object(choice: str) -> str | dict[str, Any]:
    """``tool_choice`` of a request: a word as it is, the name of a tool as an object."""
    if choice in WORDS:
        return choice
    return {"type": "function", "function": {"name": choice}}


def tool_choice_of(value: Any) -> str | None:
    """The word or the tool's name in ``tool_choice``, ``None`` for anything else."""
    if isinstance(value, str):
        return value
    function = value.get("function") if isinstance(value, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) and name not in WORDS else None


def response_format_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """``response_format`` that holds an answer to a JSON Schema, strictly where it can be.

    The name that the API asks for is the schema's title, as far as its alphabet allows.
    """
    title = schema.get("title")
    name = _UNFIT.sub("_", title).strip("_") if isinstance(title, str) else ""
    strict = strict_form(schema)
    return {
        "type": "json_schema",
        "json_schema": {
            "name": name[:LONGEST_NAME] or "answer",
            "strict": strict is not None,
            "schema": dict(schema) if strict is None else strict,
        },
    }


def schema_of_format(value: Any) -> dict[str, Any] | None:
    """The JSON Schema in a ``response_format``, ``None`` where it says something else or more."""
    if not isinstance(value, dict) or value.keys() != {"type", "json_schema"}:
        return None
    inner = value["json_schema"]
    if value["type"] != "json_schema" or not isinstance(inner, dict):
        return None
    if inner.keys() - {"name", "strict", "schema"} or not isinstance(inner.get("schema"), dict):
        return None
    schema: dict[str, Any] = inner["schema"]
    return schema
