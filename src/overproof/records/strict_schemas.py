"""JSON Schemas that OpenAI's strict structured outputs accept.

Strict decoding guarantees an answer that follows the schema, for a part of JSON Schema: the root
and everything below it are closed objects with every property required, and a short list of
keywords is known (Structured Outputs guide, "Supported schemas").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["strict_form"]

MOST_LEVELS = 10
MOST_PROPERTIES = 5000
_KNOWN = frozenset(
    {
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "definitions",
        "description",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "items",
        "maxItems",
        "maximum",
        "minItems",
        "minimum",
        "multipleOf",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
    }
)
# They say which schema it is, and nothing of what it allows.
_NAMES_ONLY = frozenset({"$schema", "$id", "$comment"})


class _NotStrictError(Exception):
    """The schema, or a part of it, is beyond the strict subset."""


def strict_form(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """``schema`` as strict decoding wants it, ``None`` where that would change what it allows.

    Only one thing is added: objects that list their properties and do not say whether others may
    come are closed. Every answer to the result is an answer to ``schema``. A property that is not
    required stays so, and the schema is then not strict: requiring it would change the answers.
    """
    root = {name: value for name, value in schema.items() if name not in _NAMES_ONLY}
    if root.get("type") != "object" or "anyOf" in root:
        return None
    count = [0]
    try:
        return _closed(root, 1, count)
    except (_NotStrictError, RecursionError):
        return None


def _closed(schema: Any, level: int, count: list[int]) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or schema.keys() - _KNOWN or level > MOST_LEVELS:
        raise _NotStrictError
    closed = dict(schema)
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "object" in kinds or "properties" in schema:
        closed |= _closed_object(schema, level, count)
    for name in ("$defs", "definitions"):
        if isinstance(defined := schema.get(name), Mapping):
            closed[name] = {key: _closed(part, level, count) for key, part in defined.items()}
    if "array" in kinds or "items" in schema:
        closed["items"] = _closed(schema.get("items"), level + 1, count)
    if isinstance(choices := schema.get("anyOf"), list):
        closed["anyOf"] = [_closed(part, level, count) for part in choices]
    if not schema.keys() & {"type", "enum", "const", "anyOf", "$ref"}:
        raise _NotStrictError  # anything at all may stand here
    return closed


def _closed_object(schema: Mapping[str, Any], level: int, count: list[int]) -> dict[str, Any]:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        raise _NotStrictError
    if schema.get("additionalProperties", False) is not False:
        raise _NotStrictError
    required = schema.get("required", [])
    if not isinstance(required, list) or sorted(map(str, required)) != sorted(properties):
        raise _NotStrictError
    count[0] += len(properties)
    if count[0] > MOST_PROPERTIES:
        raise _NotStrictError
    return {
        "properties": {name: _closed(part, level + 1, count) for name, part in properties.items()},
        "additionalProperties": False,
    }
