"""Watermark keys as the command line meets them: from a variable or a file, never an argument.

A key is a whole number, decimal or ``0x`` hexadecimal, or several of them with commas (one a depth,
for SynthID-Text). A file of JSON, ``{"COHORT": key, …}``, holds one key a cohort of accounts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from overproof.audit.watermarks.schemes import Key
from overproof.errors import ConfigError, DataError, SecretError
from overproof.records.files import create_new

__all__ = ["key_sha256", "key_text", "parse_key", "read_keys", "write_key"]

FORM = "a key is a whole number such as 0x3fa9…, or several with commas"


def parse_key(text: str, culprit: str) -> Key:
    """Read a key; the text itself is never repeated in an error.

    Raises:
        ConfigError: not one.
    """
    parts = [part for part in text.strip().strip("[]").split(",") if part.strip()]
    try:
        numbers = tuple(int(part.strip(), 0) for part in parts)
    except ValueError:
        numbers = ()
    if not numbers:
        raise ConfigError(culprit, "does not hold a key", FORM)
    return numbers[0] if len(numbers) == 1 else numbers


def key_text(key: Key) -> str:
    """The one way in which a key is written: decimal, commas without spaces."""
    return ",".join(str(number) for number in (key if isinstance(key, tuple) else (key,)))


def key_sha256(key: Key) -> str:
    """Hex SHA-256 of `key_text`, for ``key_sha256`` in a plan."""
    return hashlib.sha256(key_text(key).encode()).hexdigest()


def read_keys(variable: str | None, file: Path | None) -> Mapping[str, Key]:
    """The key, under the name ``""``, or the keys by cohort.

    Raises:
        ConfigError: both or neither is given, or what is there is no key.
        SecretError: the variable is not set.
        DataError: the file cannot be read.
    """
    if (variable is None) == (file is None):
        raise ConfigError(
            "the watermark key", "comes from one place", "give either --key-env or --key-file"
        )
    if variable is not None:
        value = os.environ.get(variable, "").strip()
        if not value:
            raise SecretError(
                f"environment variable {variable}",
                "is empty" if variable in os.environ else "is not set",
                "put the watermark's key there before running",
            )
        return {"": parse_key(value, f"environment variable {variable}")}
    assert file is not None
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(file), f"cannot be read: {error}", "check the path") from error
    if not text.startswith("{"):
        return {"": parse_key(text, str(file))}
    try:
        rows: dict[str, Any] = json.loads(text)
    except ValueError:
        rows = {}
    # Raised out here: the parser's error holds the keys.
    if not rows:
        raise DataError(str(file), "is no JSON object of keys by cohort", FORM)
    return {name: parse_key(str(value), f"{file}: {name}") for name, value in rows.items()}


def write_key(path: Path, key: Key) -> None:
    """Write a new key, readable by its owner alone; an existing file is never overwritten.

    Raises:
        ConfigError: the file exists, or its folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        create_new(path, (key_text(key) + "\n").encode())
    except FileExistsError as error:
        if not path.exists():  # a file stands where its folder belongs
            raise ConfigError(str(path.parent), "is no folder", "name another") from error
        raise ConfigError(
            str(path), "exists already", "keys are never overwritten: name another file"
        ) from None
    except OSError as error:
        raise ConfigError(
            str(path), f"cannot be written: {error.strerror or error}", "name another folder"
        ) from error
