"""Whether an answer follows what was asked for: a JSON Schema, or the tools that were offered.

JSON Schema as ``$schema`` says, draft 2020-12 where it says nothing. ``format`` is an annotation,
as the draft has it, and is not checked. References lead only into the schema itself: nothing is
ever fetched.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn

from overproof.errors import ConfigError
from overproof.records.exchange import Tool, ToolCall

__all__ = [
    "check_schema",
    "schema_problem",
    "tool_call_problem",
    "tool_name_problem",
    "unfenced",
]

SHOWN = 200
# What both OpenAI and Anthropic take.
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})[^\n`]*\n(.*?)\n?[ \t]*\1\s*", re.DOTALL)


def tool_name_problem(name: str) -> str | None:
    """Why providers would refuse a tool of that name, ``None`` where they take it."""
    if _TOOL_NAME.fullmatch(name):
        return None
    shown = name if len(name) <= SHOWN else name[:SHOWN] + " ..."
    return f"{shown!r} is no name of a tool: it takes 1 to 64 letters, digits, '_' and '-'"


def check_schema(schema: Any, culprit: str) -> None:
    """Refuse what is no JSON Schema, before anything is asked with it.

    Args:
        schema: as read from JSON.
        culprit: where it stands, as the user knows it.

    Raises:
        ConfigError: it is no object, breaks the rules of its draft, or refers to something that it
            does not hold.
    """
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    if not isinstance(schema, dict):
        raise ConfigError(culprit, "is no JSON object", "write a JSON Schema, such as an object's")
    way_out = "see json-schema.org for what a schema may hold"
    try:
        validator_for(schema, default=_draft_2020_12()).check_schema(schema)
    except SchemaError as error:
        place = "/".join(str(part) for part in error.absolute_path) or "its root"
        raise ConfigError(
            culprit, f"is no JSON Schema: at {place}: {error.message[:SHOWN]}", way_out
        ) from None
    except RecursionError:
        raise ConfigError(culprit, "is nested too deeply", way_out) from None
    except re.error as error:
        raise ConfigError(culprit, f"holds a bad pattern: {error}", way_out) from None
    for target in _references(schema):
        if not _leads_somewhere(schema, target):
            raise ConfigError(
                culprit,
                f"refers to {target!r}, which it does not hold",
                "put every definition under $defs and refer to it as '#/$defs/NAME'",
            )


def schema_problem(text: str, schema: Mapping[str, Any]) -> str | None:
    """Why ``text`` is no answer to a JSON Schema, ``None`` where it is one.

    The whole text must be JSON (RFC 8259): a Markdown fence around it is a problem, for the text
    is what a student learns to write; ``unfenced`` takes one off where that is wanted. NaN,
    infinities, numbers beyond any float and an object with the same name twice are problems too:
    readers disagree about them.

    Args:
        text: the answer.
        schema: one that ``check_schema`` lets pass.
    """
    try:
        value = _json(text)
    except (ValueError, RecursionError) as error:
        if unfenced(text) != text:
            return "is JSON inside a Markdown fence" if _is_json(unfenced(text)) else "is no JSON"
        return f"is no JSON: {error}"
    return _breach(value, schema)


def tool_call_problem(
    calls: Sequence[ToolCall], tools: Sequence[Tool], tool_choice: str | None = None
) -> str | None:
    """Why calls are not what was asked for, ``None`` where they are.

    Each must name a tool that was offered, with arguments that are a JSON object and follow its
    schema; empty arguments are an empty object. With ``tool_choice`` ``required`` there must be a
    call, with a tool's name a call of that tool and of no other, with ``none`` no call. With
    ``auto`` or ``None`` an answer without calls is fine.

    Args:
        calls: what the teacher called.
        tools: what was offered; ``check_schema`` lets their parameters pass.
        tool_choice: as in ``Parameters``.
    """
    if tool_choice == "none":
        return f"calls {calls[0].name}, though no call was allowed" if calls else None
    if not calls:
        if tool_choice in (None, "auto"):
            return None
        called = "a tool" if tool_choice == "required" else str(tool_choice)
        return f"calls no tool; a call of {called} was required"
    offered = {tool.name: tool for tool in tools}
    for call in calls:
        tool = offered.get(call.name)
        if tool is None:
            return f"calls {call.name!r}, which was not offered"
        if tool_choice not in (None, "auto", "required", call.name):
            return f"calls {call.name}; a call of {tool_choice} was required"
        if (problem := _argument_problem(call, tool)) is not None:
            return f"the arguments of {call.name}: {problem}"
    return None


def unfenced(text: str) -> str:
    """What a Markdown fence holds that is the whole of ``text``; any other text as it is."""
    fence = _FENCE.fullmatch(text)
    if fence is None or re.search(rf"^\s*{fence[1]}", fence[2], re.MULTILINE):
        return text
    return fence[2]


def _argument_problem(call: ToolCall, tool: Tool) -> str | None:
    try:
        value = _json(call.arguments) if call.arguments.strip() else {}
    except (ValueError, RecursionError) as error:
        return f"is no JSON: {error}"
    if not isinstance(value, dict):
        return "is no JSON object"
    return _breach(value, tool.parameters) if tool.parameters else None


def _breach(value: Any, schema: Mapping[str, Any]) -> str | None:
    """The worst breach of a schema, with its place."""
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        error = best_match(_validator(json.dumps(schema, sort_keys=True)).iter_errors(value))
    except RecursionError:
        return "is nested too deeply to be checked"
    except Unresolvable as missing:
        raise ConfigError(
            "the JSON Schema", f"refers to {missing.ref!r}, which it does not hold"
        ) from None
    if error is None:
        return None
    place = "/".join(str(part) for part in error.absolute_path)
    said = error.message if len(error.message) <= SHOWN else error.message[:SHOWN] + "…"
    return f"at {place}: {said}" if place else said


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    """A validator that fetches nothing; made once a schema, for it is used once an answer."""
    from jsonschema.validators import validator_for
    from referencing import Registry

    read = json.loads(schema)
    return validator_for(read, default=_draft_2020_12())(read, registry=Registry())


def _draft_2020_12() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator


def _references(schema: Any) -> list[str]:
    if isinstance(schema, Mapping):
        own = [
            target
            for name in ("$ref", "$dynamicRef")
            if isinstance(target := schema.get(name), str)
        ]
        return own + [t for part in schema.values() for t in _references(part)]
    if isinstance(schema, list):
        return [t for part in schema for t in _references(part)]
    return []


def _leads_somewhere(schema: Mapping[str, Any], target: str) -> bool:
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resource = DRAFT202012.create_resource(schema)
    base = schema.get("$id", "") if isinstance(schema.get("$id", ""), str) else ""
    try:
        registry: Registry[Any] = Registry().with_resource(base, resource)
        registry.resolver(base).lookup(target)
    except (Unresolvable, ValueError):
        return False
    return True


def _is_json(text: str) -> bool:
    try:
        _json(text)
    except (ValueError, RecursionError):
        return False
    return True


def _json(text: str) -> Any:
    return json.loads(
        text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_once
    )


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:SHOWN]} is beyond any float")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name in found if sum(n == name for n, _ in pairs) > 1)
        raise ValueError(f"the name {twice!r} stands twice in one object")
    return found
