"""What is wrong with a recipe, in words: the line, the key, the nearest right one."""

from __future__ import annotations

import difflib
import re
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from overproof.config.keys import hidden
from overproof.errors import ConfigError

__all__ = ["explain", "located"]


def explain(error: ValidationError, model: type[BaseModel], text: str, name: str) -> ConfigError:
    """The first mistake, with its line and the nearest right key.

    A misspelt key usually leaves another one missing: the misspelling is what to name.
    """
    problems = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    entry, location = _entry_of([*first["loc"]])
    reason = first["msg"].removeprefix("Value error, ")
    if named := re.match(r"(\w+): ", reason):  # a check of a whole section names its field
        location, reason = [*location, named[1]], reason[named.end() :]
    dotted = ".".join(location)
    line = _line_of(text, location, entry)
    where = f"{name}:{line}" if line else name
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1], _kind_of(first["loc"]))
        nearest = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        section = ".".join(location[:-1]) or "a recipe"
        way_out = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
        return ConfigError(where, f"unknown key {hidden(location[-1])!r} in {section}", way_out)
    if first["type"] == "union_tag_invalid":
        tags = re.findall(r"'([^']+)'", first["ctx"]["expected_tags"])
        nearest = difflib.get_close_matches(first["ctx"]["tag"], tags, n=1, cutoff=0.5)
        way_out = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(tags)}"
        kind = hidden(first["ctx"]["tag"])
        return ConfigError(where, f"unknown kind {kind!r} in {dotted}", way_out)
    if first["type"] == "union_tag_not_found":
        return ConfigError(where, f"an entry of {dotted} says no kind", "add kind = ...")
    if first["type"] == "missing":
        return ConfigError(where, f"{dotted} is missing", _describe(location))
    prefix = f"{dotted}: " if dotted and not reason.startswith(dotted) else ""
    return ConfigError(where, hidden(prefix + reason))


SECTIONS = "run|teacher|data|task|students|certificate|budget|drift"


def located(error: ConfigError, path: Path) -> ConfigError:
    """A mistake that shows only when the recipe is used, with the line of the key that it names.

    Args:
        error: as raised; returned as it is where it names no key of a recipe.
        path: the recipe's file.
    """
    named = re.match(rf"({SECTIONS})((?:\.\w+)+)", error.culprit)
    if named is None:
        return error
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return error
    line = _line_of(text, [named[1], *named[2].strip(".").split(".")])
    if line is None:
        return error
    return type(error)(f"{path}:{line}: {error.culprit}", error.reason, error.way_out)


def _entry_of(location: list[Any]) -> tuple[int, list[str]]:
    """The number of the entry in an array of tables, and the location without it and its tag."""
    for i, part in enumerate(location):
        if isinstance(part, int):
            # What follows the index of an entry of several kinds is the kind itself.
            return part, [*map(str, location[:i]), *map(str, location[i + 2 :])]
    return 0, [str(part) for part in location]


def _kind_of(location: tuple[int | str, ...]) -> str | None:
    for before, part in pairwise(location):
        if isinstance(before, int):
            return str(part)
    return None


def _describe(location: list[str]) -> str:
    return (
        f"add {location[-1]} = ... to [{'.'.join(location[:-1])}]"
        if location[:-1]
        else f"add a [{location[-1]}] section"
    )


def _fields_at(model: type[BaseModel], location: list[str], kind: str | None = None) -> list[str]:
    """Names of the keys that the section at ``location`` knows; ``kind`` is its entry's."""
    for part in location:
        field = model.model_fields.get(part)
        if field is None:
            return []
        candidates = [c for c in _all_types(field.annotation) if _is_of(c, kind)]
        inner = candidates[0] if candidates else None
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _all_types(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _all_types(inner)]


def _is_of(model: type[BaseModel], kind: str | None) -> bool:
    field = model.model_fields.get("kind")
    return kind is None or (field is not None and kind in get_args(field.annotation))


def _line_of(text: str, location: list[str], entry: int = 0) -> int | None:
    """The line that sets ``location``, or that opens its section; ``None`` where neither is.

    Of an array of tables, ``[[section]]``, only the one of number ``entry`` is looked at.
    """
    to_skip = entry
    section: list[str] = []
    best: int | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
            section = [part.strip().strip("\"'") for part in header[1].split(".")]
            if line.lstrip().startswith("[[") and section == location[: len(section)]:
                if best is not None:  # the next entry begins
                    return best
                if to_skip:
                    section, to_skip = [], to_skip - 1
                    continue
            if section == location:
                return number
            if best is None and section and section == location[: len(section)]:
                best = number
        elif key := re.match(r"\s*([\w\-\"'.]+)\s*=", line):
            path = section + [part.strip("\"'") for part in key[1].split(".")]
            if path == location[: len(path)]:
                return number
    return best
