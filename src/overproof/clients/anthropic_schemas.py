"""JSON Schemas as Anthropic's structured outputs take them.

``output_config.format`` compiles a part of JSON Schema: closed objects, ``anyOf``, ``enum`` and
``const``, local references that are not recursive, some string formats, no bounds on numbers and
lengths (Structured outputs guide, "JSON Schema limitations").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["output_schema"]

_FORMATS = frozenset(
    {
        "date",
        "date-time",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "time",
        "uri",
        "uuid",
    }
)
_KEPT = frozenset({"const", "description", "enum", "title"})
_NAMES_ONLY = frozenset({"$schema", "$id", "$comment", "default", "examples"})
# Narrower than what is sent: they go into the description, and the answer is checked against them.
_TOLD = frozenset(
    {
        "exclusiveMaximum",
        "exclusiveMinimum",
        "maxItems",
        "maxLength",
        "maximum",
        "minLength",
        "minimum",
        "multipleOf",
        "pattern",
        "uniqueItems",
    }
)
_STRUCTURE = frozenset(
    {
        "$defs",
        "$ref",
        "additionalProperties",
        "allOf",
        "anyOf",
        "definitions",
        "format",
        "items",
        "minItems",
        "oneOf",
        "properties",
        "required",
        "type",
    }
)


class _BeyondError(Exception):
    """A part of the schema that structured outputs cannot say."""


def output_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """``schema`` for ``output_config.format``, ``None`` where it cannot be said.

    Objects are closed, bounds are told in the description instead of enforced. What comes out may
    allow more than ``schema`` (bounds, ``oneOf``), so an answer still has to be checked; it never
    forbids an answer except for further properties of objects that list theirs.
    """
    try:
        if _is_recursive(schema):
            return None
        return _part(schema)
    except (_BeyondError, AttributeError, RecursionError, TypeError):
        return None  # the last three: it breaks the rules of JSON Schema, as the API will say


def _part(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        raise _BeyondError
    if schema.keys() - _KEPT - _NAMES_ONLY - _TOLD - _STRUCTURE:
        raise _BeyondError
    part: dict[str, Any] = {name: schema[name] for name in _KEPT & schema.keys()}
    for name in ("$defs", "definitions"):
        if name in schema:
            part[name] = {key: _part(value) for key, value in schema[name].items()}
    if "$ref" in schema:
        return part | {"$ref": schema["$ref"]}
    part |= _choices(schema)
    if isinstance(schema.get("type"), list):
        return part | _one_of_the_types(schema, part)
    part |= _typed(schema)
    if not part.keys() & {"type", "anyOf", "allOf", "enum", "const"}:
        raise _BeyondError  # anything at all may stand here
    return _with_notes(schema, part)


def _typed(schema: Mapping[str, Any]) -> dict[str, Any]:
    kind = schema.get("type")
    if kind == "object":
        return _object(schema)
    if kind == "array":
        return _array(schema)
    return {} if kind is None else {"type": kind}


def _one_of_the_types(schema: Mapping[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """A list of types as a choice among schemas of one type each."""
    if part.keys() & {"anyOf", "allOf"}:
        raise _BeyondError
    alone = {name: value for name, value in schema.items() if name not in _KEPT}
    return {"anyOf": [_part({**alone, "type": kind}) for kind in schema["type"]]}


def _choices(schema: Mapping[str, Any]) -> dict[str, Any]:
    named = [name for name in ("anyOf", "oneOf", "allOf") if name in schema]
    if not named:
        return {}
    if len(named) > 1:
        raise _BeyondError
    into = "allOf" if named[0] == "allOf" else "anyOf"
    return {into: [_part(choice) for choice in schema[named[0]]]}


def _object(schema: Mapping[str, Any]) -> dict[str, Any]:
    if schema.get("additionalProperties", False) is not False or "properties" not in schema:
        raise _BeyondError
    properties = schema["properties"]
    return {
        "type": "object",
        "properties": {name: _part(value) for name, value in properties.items()},
        "required": list(schema.get("required", ())),
        "additionalProperties": False,
    }


def _array(schema: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(schema.get("items"), Mapping):
        raise _BeyondError
    array: dict[str, Any] = {"type": "array", "items": _part(schema["items"])}
    if schema.get("minItems") in (0, 1):
        array["minItems"] = schema["minItems"]
    return array


def _with_notes(schema: Mapping[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """``part`` with a string's format, and the bounds that it cannot hold as words."""
    notes = [f"{name}: {schema[name]}" for name in sorted(_TOLD & schema.keys())]
    if schema.get("minItems", 0) not in (0, 1):
        notes.append(f"minItems: {schema['minItems']}")
    if schema.get("format") in _FORMATS:
        part["format"] = schema["format"]
    elif "format" in schema:
        notes.append(f"format: {schema['format']}")
    if notes:
        told = f"({', '.join(notes)})"
        part["description"] = f"{part['description']} {told}" if "description" in part else told
    return part


def _is_recursive(schema: Mapping[str, Any]) -> bool:
    """Whether a reference leads back to a definition that it stands in."""
    defined = {
        f"#/{group}/{name}": part
        for group in ("$defs", "definitions")
        for name, part in (schema.get(group) or {}).items()
    }

    def leads_back(part: Any, seen: tuple[str, ...]) -> bool:
        if isinstance(part, Mapping):
            target = part.get("$ref")
            if isinstance(target, str):
                if target in seen or target not in defined:
                    return True
                return leads_back(defined[target], (*seen, target))
            return any(leads_back(value, seen) for value in part.values())
        return isinstance(part, list) and any(leads_back(value, seen) for value in part)

    return leads_back({k: v for k, v in schema.items() if k not in ("$defs", "definitions")}, ())
