"""Anthropic's Messages API as pure functions: body out, completion in.

``POST /v1/messages``. What a message of the answer says is read by ``records.anthropic_answers``,
as it is for logs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from overproof.clients import openai_wire
from overproof.clients.anthropic_schemas import output_schema
from overproof.clients.openai_wire import WireError
from overproof.clients.secrets import filled
from overproof.config.teacher import TeacherConfig
from overproof.records.anthropic_answers import ANSWER_TOOL, WRAPPED, completion_of_message
from overproof.records.exchange import Completion, Message, Parameters, Request, ToolCall
from overproof.records.tool_calls import NOTHING

__all__ = ["body_of", "completion_of", "server_error"]

# Errors by type (API reference, "Errors"); in a stream they come without a status.
STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


def body_of(
    request: Request,
    config: TeacherConfig,
    secrets: Mapping[str, str] | None = None,
    *,
    stream: bool = False,
) -> dict[str, Any]:
    """Request body for the Messages API. It knows no seeds, no log-probs and no ``n``.

    System messages go into ``system``. Answers of tools become blocks of the next user message.
    A JSON Schema goes into ``output_config.format`` where that can say it; else the teacher is made
    to call a tool whose input is the answer. With ``structured = "none"`` it is left to the prompt.
    The recipe's ``body`` and then the request's own ``extra`` are merged over the rest; objects
    such as ``output_config`` field by field.

    Args:
        request: what to ask.
        config: how this teacher is asked.
        secrets: values by the names that the recipe gives.
        stream: whether to ask for server-sent events.

    Raises:
        ValueError: an earlier call of a tool whose arguments are no JSON object.
    """
    asked = request.parameters
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": asked.max_tokens,
        "messages": _messages(request.messages),
    }
    system = [m.content for m in request.messages if m.role == "system" and m.content]
    if system:
        body["system"] = "\n\n".join(system)
    if asked.temperature is not None and config.supports_temperature:
        body["temperature"] = asked.temperature
    if asked.top_p is not None:
        body["top_p"] = asked.top_p
    if asked.stop:
        body["stop_sequences"] = list(asked.stop)
    body |= _tools(asked)
    if asked.response_schema is not None and config.structured != "none":
        body |= _form(asked.response_schema, body.get("tools", []))
    if stream:
        body["stream"] = True
    extra: dict[str, Any] = filled(config.body | asked.extra, secrets or {})
    for name, value in extra.items():
        both = isinstance(value, dict) and isinstance(body.get(name), dict)
        body[name] = body[name] | value if both else value
    return body


def completion_of(raw: str) -> Completion:
    """Read the body of a 200 response.

    Raises:
        WireError: a body that is no message.
    """
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        raise WireError("a JSON message", is_json=False) from None
    try:
        return completion_of_message(message)
    except ValueError as error:
        raise WireError(f"a message of the API ({error})", is_json=True) from None


def server_error(raw: str) -> tuple[str, int | None]:
    """The message of an error body with its type, and the status that the type stands for.

    A body of another kind is read as ``openai_wire.server_error`` reads it.
    """
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError):
        return openai_wire.server_error(raw)
    error = answer.get("error") if isinstance(answer, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None
    message, status = openai_wire.server_error(raw)
    if not isinstance(kind, str):
        return message, status
    return f"{kind}: {message}", STATUS.get(kind, status)


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Turns that alternate: what follows one another from one side is one message."""
    turns: list[tuple[str, list[dict[str, Any]]]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, blocks))
    return [{"role": role, "content": _content(blocks)} for role, blocks in turns]


def _content(blocks: list[dict[str, Any]]) -> Any:
    """One text as it is, anything else as blocks."""
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return blocks[0]["text"]
    return blocks


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id or ""}
        return [result | {"content": message.content}]
    blocks: list[dict[str, Any]] = []
    # The API refuses a text without any; a message needs something all the same.
    if message.content or not message.tool_calls:
        blocks.append({"type": "text", "text": message.content})
    blocks += [_tool_use(call) for call in message.tool_calls]
    return blocks


def _tool_use(call: ToolCall) -> dict[str, Any]:
    try:
        given = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise ValueError(f"the arguments of an earlier call of {call.name} are no JSON object")
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": given}


def _tools(asked: Parameters) -> dict[str, Any]:
    if not asked.tools:
        return {}
    tools = []
    for tool in asked.tools:
        described = {"description": tool.description} if tool.description else {}
        schema = {"type": "object"} | (tool.parameters or NOTHING)
        tools.append({"name": tool.name, **described, "input_schema": schema})
    body: dict[str, Any] = {"tools": tools}
    choice = asked.tool_choice
    if choice in _CHOICES:
        body["tool_choice"] = {"type": _CHOICES[choice]}
    elif choice is not None:
        body["tool_choice"] = {"type": "tool", "name": choice}
    return body


def _form(schema: dict[str, Any], tools: list[dict[str, Any]]) -> dict[str, Any]:
    """How the answer is held to a schema."""
    sayable = output_schema(schema)
    if sayable is not None:
        return {"output_config": {"format": {"type": "json_schema", "schema": sayable}}}
    name = ANSWER_TOOL
    if schema.get("type") != "object":
        # The input of a tool is an object; references stay at the root that they lead to.
        name = WRAPPED
        inner = {k: v for k, v in schema.items() if k not in ("$defs", "definitions", "$schema")}
        shared = {k: schema[k] for k in ("$defs", "definitions") if k in schema}
        schema = {
            "type": "object",
            "properties": {"value": inner},
            "required": ["value"],
            "additionalProperties": False,
        } | shared
    tool = {"name": name, "description": "Give the answer.", "input_schema": schema}
    return {"tools": [*tools, tool], "tool_choice": {"type": "tool", "name": name}}
