"""Secrets: read from the environment by name, handed on to nothing but the wire.

A recipe names the environment variable (``api_key_env``, or ``env:NAME`` as a value in ``headers``,
``query`` or ``body``); the value is never written down.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from overproof.config.keys import ENV
from overproof.config.recipe import TeacherConfig
from overproof.errors import SecretError
from overproof.records.redact import Redactor

__all__ = ["Mask", "filled", "key_of", "redaction_of", "resolved"]


def redaction_of(config: TeacherConfig) -> dict[str, str]:
    """Every secret that the recipe names, by environment variable, for the redactor.

    Raises:
        SecretError: when a variable is missing, empty, or holds a line break.
    """
    names = [config.api_key_env] if config.api_key_env else []
    names += _variables([config.headers, config.query, config.body])
    return {name: _read(name) for name in names}


def key_of(config: TeacherConfig) -> str | None:
    """The API key, ``None`` where the recipe names none.

    Raises:
        SecretError: when its variable is missing, empty, or holds a line break.
    """
    return _read(config.api_key_env) if config.api_key_env else None


def resolved(values: dict[str, str]) -> dict[str, str]:
    """Headers or query parameters with each ``env:NAME`` replaced by that variable's value.

    Raises:
        SecretError: when a variable is missing, empty, or holds a line break.
    """
    return {
        name: _read(value.removeprefix(ENV)) if value.startswith(ENV) else value
        for name, value in values.items()
    }


def filled(value: Any, secrets: Mapping[str, str]) -> Any:
    """A part of a request's body with each ``env:NAME`` in it replaced, at any depth.

    Args:
        value: JSON-like.
        secrets: values by the names that the recipe gives; no other variable is looked up.
    """
    if isinstance(value, str) and value.startswith(ENV):
        return secrets.get(value.removeprefix(ENV), value)
    if isinstance(value, Mapping):
        return {key: filled(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [filled(item, secrets) for item in value]
    return value


class Mask:
    """Removes secrets from a server's messages.

    Beyond whole values this removes words that begin like one: servers quote a refused key with
    only its middle starred out.

    Raises:
        SecretError: for a value too short to be told from ordinary text.
    """

    def __init__(self, secrets: dict[str, str]) -> None:
        self._redactor = Redactor(secrets)
        self._starts = {s[:6]: name for name, s in secrets.items() if len(s) >= 8}

    def text(self, text: str) -> str:
        """``text`` without secrets. Mask before cutting: half a secret is not recognised."""
        masked = self._redactor.text(text)
        for start, name in self._starts.items():
            masked = re.sub(rf"{re.escape(start)}\S*", f"[redacted:{name}]", masked)
        return masked


def _variables(value: Any) -> Iterator[str]:
    """Names of every ``env:NAME`` in a JSON-like value."""
    if isinstance(value, str) and value.startswith(ENV):
        yield value.removeprefix(ENV)
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _variables(item)


def _read(name: str) -> str:
    # A file read into a variable leaves its line end behind; no key has white space around it.
    value = os.environ.get(name, "").strip()
    if not value:
        raise SecretError(
            f"environment variable {name}",
            "is empty" if name in os.environ else "is not set",
            f"put the secret there before running: export {name}=...",
        )
    if "\n" in value or "\r" in value:
        raise SecretError(
            f"environment variable {name}",
            "holds more than one line, which no HTTP header can carry",
            "put the secret alone into it",
        )
    return value
