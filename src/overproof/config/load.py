"""Reading a recipe: TOML in, a checked ``Recipe`` out, every mistake named with its line."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from overproof.config.keys import hidden
from overproof.config.recipe import Recipe
from overproof.errors import ConfigError
from overproof.records.hashing import content_hash

__all__ = ["LoadedRecipe", "load_recipe", "parse_recipe"]


class LoadedRecipe:
    """A recipe with the file it came from; relative paths are resolved against that file.

    Attributes:
        recipe: the checked recipe.
        path: the recipe's file.
        run_dir: the run's directory.
        input_file: the file of inputs, ``None`` where the inputs are the ledger's own.
        test_file: the file of the test pool, where the recipe names one.
    """

    def __init__(self, recipe: Recipe, path: Path) -> None:
        self.recipe = recipe
        self.path = path
        home = path.resolve().parent
        self.run_dir = (home / recipe.run.dir).resolve()
        self.input_file = None if recipe.data.file == "ledger" else home / recipe.data.file
        self.test_file = home / recipe.data.test_file if recipe.data.test_file else None

    @property
    def sha256(self) -> str:
        """Content hash of everything that decides what is collected and what is claimed.

        Speed, caps and retries may change between two runs of one recipe; the certificate's
        terms, the task and the data may not.
        """
        return content_hash(frozen_part(self.recipe))


FREE_TEACHER_KEYS = (
    "concurrency", "timeout_s", "max_attempts", "requests_per_minute", "threads", "price",
    "api_key_env", "headers", "tokens_per_minute", "pacing", "stream", "stall_s", "choices",
    "batch", "batch_size", "batch_poll_s", "device",
)  # fmt: skip


def frozen_part(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe that must not change once collecting has begun."""
    # Without the defaults: a key that a later version adds must not change an older run's hash.
    data = recipe.model_dump(mode="json", exclude_defaults=True)
    teacher = {k: v for k, v in data["teacher"].items() if k not in FREE_TEACHER_KEYS}
    return {
        "seed": recipe.run.seed,
        "teacher": teacher,
        "data": data["data"],
        "task": data["task"],
        "certificate": data.get("certificate", {}),
    }


def load_recipe(path: Path) -> LoadedRecipe:
    """Read and check the recipe at ``path``.

    Raises:
        ConfigError: the file is missing, not TOML, or not a recipe; FILE:LINE is the culprit and
            a misspelt key is answered with the nearest one.
    """
    if path.is_dir():
        path = path / "recipe.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(str(path), "no such recipe", "`overproof init` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"cannot be read: {error}") from error
    return LoadedRecipe(parse_recipe(text, str(path)), path)


def parse_recipe(text: str, name: str = "recipe") -> Recipe:
    """Parse and check a recipe given as TOML text; ``name`` stands for it in errors."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        where = f"{name}:{found[1]}:{found[2]}" if found else name
        reason = re.sub(r" \(at .*\)$", "", str(error))
        raise ConfigError(where, f"is not TOML: {reason}") from error
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        mistake = _explain(error, text, name)
    # Raised out here: the library's error holds the values of the recipe, and a traceback or a
    # report of it would print a secret that stood among them.
    raise mistake


def _explain(error: ValidationError, text: str, name: str) -> ConfigError:
    """The first mistake, in words, with its line and the nearest right key.

    A misspelt key usually leaves another one missing: the misspelling is what to name.
    """
    problems = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    location = [str(part) for part in first["loc"]]
    reason = first["msg"].removeprefix("Value error, ")
    if named := re.match(r"(\w+): ", reason):  # a check of a whole section names its field
        location, reason = [*location, named[1]], reason[named.end() :]
    dotted = ".".join(location)
    line = _line_of(text, location)
    where = f"{name}:{line}" if line else name
    if first["type"] == "extra_forbidden":
        known = _fields_at(Recipe, location[:-1])
        nearest = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        section = ".".join(location[:-1]) or "a recipe"
        way_out = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
        return ConfigError(where, f"unknown key {hidden(location[-1])!r} in {section}", way_out)
    if first["type"] == "missing":
        return ConfigError(where, f"{dotted} is missing", _describe(location))
    prefix = f"{dotted}: " if dotted and not reason.startswith(dotted) else ""
    return ConfigError(where, hidden(prefix + reason))


def _describe(location: list[str]) -> str:
    return (
        f"add {location[-1]} = ... to [{'.'.join(location[:-1])}]"
        if location[:-1]
        else f"add a [{location[-1]}] section"
    )


def _fields_at(model: type[BaseModel], location: list[str]) -> list[str]:
    """Names of the keys that the section at ``location`` knows."""
    for part in location:
        field = model.model_fields.get(part)
        if field is None:
            return []
        candidates = [field.annotation, *get_args(field.annotation)]
        inner = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)),
                     None)  # fmt: skip
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _line_of(text: str, location: list[str]) -> int | None:
    """The line that sets ``location``, or that opens its section; ``None`` where neither is."""
    section: list[str] = []
    best: int | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
            section = [part.strip().strip("\"'") for part in header[1].split(".")]
            if section == location:
                return number
            if best is None and section and section == location[: len(section)]:
                best = number
        elif key := re.match(r"\s*([\w\-\"'.]+)\s*=", line):
            path = section + [part.strip("\"'") for part in key[1].split(".")]
            if path == location[: len(path)]:
                return number
    return best
