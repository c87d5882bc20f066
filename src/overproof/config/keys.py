"""Telling a secret from the name of the variable that holds it.

A recipe is copied into a run's directory, so no secret may stand in one: it names an environment
variable instead. What is refused here is refused without being repeated.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["ENV", "check_variable", "hidden", "literal_secret", "looks_like_a_key", "secret_name"]

ENV = "env:"
"""What a value that is read from the environment begins with."""

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# What the keys of the well-known services begin with.
PREFIXES = (
    "sk-", "sk_", "AKIA", "ASIA", "AIza", "ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "gsk_",
    "hf_", "nvapi-", "pplx-", "r8_", "xai-", "xoxb-", "xoxp-", "eyJ",
)  # fmt: skip
KEY_IN_TEXT = re.compile(
    rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, PREFIXES))})[A-Za-z0-9_.\-]*"
)
LONGEST_WORD = 24
SECRET_WORDS = frozenset({"auth", "authorization", "bearer", "code", "cookie", "credential",
                          "credentials", "passwd", "pwd", "sas", "sig", "signature"})  # fmt: skip
SECRET_ENDS = ("key", "token", "secret", "password")


def check_variable(name: str) -> None:
    """Check that ``name`` can be the name of an environment variable, and is not a key itself.

    Raises:
        ValueError: it cannot, or looks like a key; the value is not repeated.
    """
    if not VARIABLE.fullmatch(name):
        raise ValueError(
            "is not the name of an environment variable (letters, digits and _, at most 64): put "
            "the key into a variable such as TEACHER_API_KEY and write that variable's name here"
        )
    if name.startswith(PREFIXES) or _is_random(name):
        raise ValueError(
            "looks like a key, not like the name of the environment variable that holds it: put "
            "the key into a variable such as TEACHER_API_KEY and write that variable's name here"
        )


def looks_like_a_key(text: str) -> bool:
    """Whether something in ``text`` begins as the keys of well-known services do."""
    return any(len(found[0]) >= 12 for found in KEY_IN_TEXT.finditer(text))


def hidden(text: str) -> str:
    """``text`` without what looks like a key: a key misplaced as a name is not repeated."""
    return KEY_IN_TEXT.sub(lambda found: "[hidden]" if len(found[0]) >= 12 else found[0], text)


def secret_name(name: str) -> bool:
    """Whether a value of that name is usually a secret: ``api-key``, ``accessToken``, ``sig``."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    words = [word for word in re.split(r"[^a-z0-9]+", split.lower()) if word]
    return any(word in SECRET_WORDS or word.endswith(SECRET_ENDS) for word in words)


def literal_secret(value: Any, name: str = "", path: str = "") -> str | None:
    """Where in a JSON-like value a secret stands itself, dotted; ``None`` where none does.

    Every ``env:NAME`` in it is checked as a name.

    Args:
        value: a value of any depth.
        name: the key that it stands under.
        path: where ``value`` itself stands.

    Raises:
        ValueError: an ``env:NAME`` whose name is none; its place is named, its value is not.
    """
    if isinstance(value, dict):
        items = [(item, key, f"{path}.{key}" if path else key) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(item, name, f"{path}[{i}]") for i, item in enumerate(value)]
    else:
        return path if _is_literal(value, name, path) else None
    found = (literal_secret(*item) for item in items)
    return next((place for place in found if place is not None), None)


def _is_literal(value: Any, name: str, path: str) -> bool:
    if isinstance(value, str) and value.startswith(ENV):
        try:
            check_variable(value.removeprefix(ENV))
        except ValueError as error:
            raise ValueError(f"{hidden(path)}: what follows env: {error}") from None
        return False
    if isinstance(value, str):
        return bool(value) and (
            secret_name(name)
            or looks_like_a_key(value)
            or value.lower().startswith(("bearer ", "basic "))
        )
    # A number may be a token's id or an exit code; as a password it is a secret.
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and "pass" in name.lower()


def _is_random(name: str) -> bool:
    """A long word of mixed letters and digits: names of variables are words with underscores."""
    kinds = (str.isupper, str.islower, str.isdigit)
    if len(name) > LONGEST_WORD and all(any(map(kind, name)) for kind in kinds):
        return True
    return any(
        len(word) > LONGEST_WORD and sum(map(str.isdigit, word)) >= 3 for word in name.split("_")
    )
