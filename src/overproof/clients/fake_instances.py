"""Instances of JSON Schemas, for the fake teacher: the same for the same prompt, and valid."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from overproof.records.answer_checks import schema_problem

__all__ = ["instance_of"]

TRIES = 24
# Below this only what is required is filled in, so that a recursive schema comes to an end.
DEEP = 4
DEEPEST = 40
_FORMATS = {
    "date": "2026-01-02",
    "date-time": "2026-01-02T03:04:05Z",
    "time": "03:04:05Z",
    "duration": "P1D",
    "email": "fake@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.org/fake",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
}
_CANDIDATES = ("A", "AA", "AB-12", "a", "abc", "0", "12", "123", "1234", "12345", "0.5", "A1", "")


def instance_of(schema: Mapping[str, Any], words: Sequence[str], seed: str) -> Any:
    """A value that follows a schema, made of ``words`` where it holds text.

    Args:
        schema: its references lead into itself.
        words: what strings are made of.
        seed: another one makes another value, where the schema leaves a choice.

    Raises:
        ValueError: no value was found: patterns beyond the plainest, contradictions, conditions.
    """
    for attempt in range(TRIES):
        maker = _Maker(schema, words, random.Random(f"{seed} {attempt}"))
        try:
            value = maker.make(schema, 0)
        except (LookupError, TypeError, ValueError):
            continue
        if schema_problem(json.dumps(value), schema) is None:
            return value
    raise ValueError("the fake teacher finds no value that follows this JSON Schema")


class _Maker:
    def __init__(self, root: Mapping[str, Any], words: Sequence[str], rng: random.Random) -> None:
        self._root = root
        self._words = list(words) or ["nothing"]
        self._rng = rng

    def make(self, schema: Any, depth: int) -> Any:
        if depth > DEEPEST:
            raise ValueError("the schema has no end")
        if not isinstance(schema, Mapping):  # true: anything
            return self._text({})
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._rng.choice(schema["enum"])
        if "$ref" in schema:
            return self.make(self._resolved(schema), depth + 1)
        for name in ("anyOf", "oneOf"):
            if name in schema:
                choice = self._choice(schema[name], depth)
                rest = {key: value for key, value in schema.items() if key != name}
                return self.make(_merged(rest, choice), depth + 1)
        if "allOf" in schema:
            whole = {key: value for key, value in schema.items() if key != "allOf"}
            for part in schema["allOf"]:
                whole = _merged(whole, self._resolved(part) if "$ref" in part else part)
            return self.make(whole, depth + 1)
        return self._typed(schema, depth)

    def _typed(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = self._choice(kind, depth)
        if kind == "object" or (kind is None and "properties" in schema):
            return self._object(schema, depth)
        if kind == "array" or (kind is None and schema.keys() & {"items", "prefixItems"}):
            return self._array(schema, depth)
        if kind in ("number", "integer"):
            return self._number(schema, whole=kind == "integer")
        if kind == "boolean":
            return self._rng.random() < 0.5
        return None if kind == "null" else self._text(schema)

    def _choice(self, choices: Sequence[Any], depth: int) -> Any:
        """Any of them; deep down the last one, which is where schemas tend to end."""
        return choices[-1] if depth > DEEP else self._rng.choice(choices)

    def _resolved(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        target = str(schema["$ref"])
        if not target.startswith("#"):
            raise ValueError("a reference to elsewhere")
        found: Any = self._root
        for part in target[1:].strip("/").split("/"):
            step = part.replace("~1", "/").replace("~0", "~")
            if step:
                found = found[int(step)] if isinstance(found, list) else found[step]
        return _merged({k: v for k, v in schema.items() if k != "$ref"}, found)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", ())
        wanted = [name for name in properties if depth <= DEEP or name in required]
        made = {name: self.make(properties[name], depth + 1) for name in wanted}
        further = schema.get("additionalProperties", True)
        for name in required:
            if name not in made:
                made[name] = self.make(further, depth + 1)
        while len(made) < schema.get("minProperties", 0):
            made[f"{self._rng.choice(self._words)}_{len(made)}"] = self.make(further, depth + 1)
        return made

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems", ())
        least = max(schema.get("minItems", 0), len(first))
        most = schema.get("maxItems", least + 2)
        count = (
            least if depth > DEEP else self._rng.randint(least, max(least, min(most, least + 2)))
        )
        made: list[Any] = [self.make(part, depth + 1) for part in first]
        tries = 0
        while len(made) < count and tries < 10 * count:
            tries += 1
            item = self.make(schema.get("items", True), depth + 1)
            if not schema.get("uniqueItems") or item not in made:
                made.append(item)
        return made

    def _number(self, schema: Mapping[str, Any], *, whole: bool) -> float:
        step = schema.get("multipleOf", 1 if whole else 0.5)
        low, high = schema.get("minimum"), schema.get("maximum")
        if "exclusiveMinimum" in schema:
            low = schema["exclusiveMinimum"] + min(step, 1e-6 if not whole else step)
        if "exclusiveMaximum" in schema:
            high = schema["exclusiveMaximum"] - min(step, 1e-6 if not whole else step)
        low = (high - 100 * step if high is not None else 0) if low is None else low
        high = low + 100 * step if high is None else high
        first, last = math.ceil(low / step), math.floor(high / step)
        if first > last:  # no multiple of the step that we chose lies between them
            return float((low + high) / 2)
        value = self._rng.randint(first, last) * step
        return int(value) if whole else value

    def _text(self, schema: Mapping[str, Any]) -> str:
        if (pattern := schema.get("pattern")) is not None:
            fitting = [text for text in (*self._words, *_CANDIDATES) if re.search(pattern, text)]
            return self._rng.choice(fitting)
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        least, most = schema.get("minLength", 1), schema.get("maxLength", 200)
        start = self._rng.randrange(len(self._words))
        text = " ".join(self._words[start : start + self._rng.randint(1, 4)])
        while len(text) < least:
            text += f" {self._rng.choice(self._words)}"
        return text[:most]


def _merged(one: Mapping[str, Any], other: Any) -> dict[str, Any]:
    """Both schemas at once, as far as names and lists of names go."""
    if not isinstance(other, Mapping):
        return dict(one)
    both = dict(one) | dict(other)
    for name in ("properties", "$defs"):
        if name in one and name in other:
            both[name] = {**one[name], **other[name]}
    if "required" in one and "required" in other:
        both["required"] = [*one["required"], *other["required"]]
    return both
