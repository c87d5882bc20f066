"""Keys of ``[teacher.body]`` that overproof sets itself, and what to write instead of them.

What a request reserves in the budget and what the ledger says was asked must be what is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overproof.errors import ConfigError

__all__ = ["ANTHROPIC_KEYS", "OPENAI_KEYS", "check_body"]

_SHARED = {
    "model": "teacher.model",
    "messages": "[task] system and prompt",
    "max_tokens": "[task] max_tokens",
    "temperature": "[task] temperature",
    "tools": "[task] tools",
    "tool_choice": "[task] tool_choice",
    "stream": "teacher.stream = true",
}
_SCHEMA = "[task] answer = 'json' with schema, and teacher.structured"
# Recipes of labels have no key for top_p, stop and seed: these stay free.
OPENAI_KEYS: Mapping[str, str] = _SHARED | {
    "max_completion_tokens": "[task] max_tokens, and teacher.max_tokens_field",
    "n_predict": "[task] max_tokens",
    "functions": "[task] tools",
    "function_call": "[task] tool_choice",
    "response_format": _SCHEMA,
    "logprobs": "[task] top_logprobs",
    "top_logprobs": "[task] top_logprobs",
    "n_probs": "[task] top_logprobs",
    "n": "teacher.choices",
    "best_of": "[task] samples or repeats: each answer that is billed is kept",
}
"""By key of a chat completion's body, the key of the recipe that says it."""

ANTHROPIC_KEYS: Mapping[str, str] = _SHARED | {
    "system": "[task] system",
    "output_format": _SCHEMA,
    "output_config.format": _SCHEMA,
}
"""The same for the Messages API; a dot leads into an object."""


def check_body(body: Mapping[str, Any], taken: Mapping[str, str]) -> None:
    """Refuse a ``[teacher.body]`` that would override what overproof sends.

    Args:
        body: as the recipe has it.
        taken: ``OPENAI_KEYS`` or ``ANTHROPIC_KEYS``.

    Raises:
        ConfigError: it holds such a key; the way out names the one to use.
    """
    for key, instead in taken.items():
        outer, _, inner = key.partition(".")
        value = body.get(outer)
        held = isinstance(value, dict) and inner in value if inner else outer in body
        if not held or (key == "stream" and value is False):
            continue
        raise ConfigError(
            f"teacher.body.{key}",
            "would override what overproof sends, reserves in the budget and records",
            f"take it out and use {instead}",
        )
