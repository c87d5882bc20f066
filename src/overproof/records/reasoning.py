"""What a model thought aloud, told apart from what it answered.

Servers that parse a model's reasoning hand it over as ``reasoning_content`` (DeepSeek, llama.cpp,
older vLLM) or ``reasoning`` (vLLM, OpenRouter), or as parts of the content of their own type
(Mistral, Anthropic). Servers that do not leave it in the text as ``<think>…</think>``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from overproof.records.json_fields import clean

__all__ = ["THOUGHTS", "reasoning_of", "split_thoughts"]

# Types of parts in which a model thinks aloud: they are no part of what it answers.
THOUGHTS = frozenset({"thinking", "redacted_thinking", "reasoning"})

_FIELDS = ("reasoning_content", "reasoning")
_BLOCK = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)


def split_thoughts(text: str) -> tuple[str | None, str]:
    """Reasoning and answer of a text that begins with a whole ``<think>…</think>`` block.

    Only a complete block at the very start counts: the tags elsewhere are what the model said, and
    a block that never ends is a thought cut off, whose answer nobody knows.

    Returns:
        The reasoning, ``None`` where there is none, and the text of the answer.
    """
    block = _BLOCK.match(text)
    if block is None:
        return None, text
    return block[1].strip() or None, text[block.end() :]


def reasoning_of(message: Mapping[str, Any]) -> str | None:
    """The reasoning that stands apart from a message's text, ``None`` without any."""
    for name in _FIELDS:
        value = message.get(name)
        if isinstance(value, str) and value:
            return clean(value)
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    thoughts = [_thought(part) for part in parts if isinstance(part, dict)]
    return clean("\n".join(filter(None, thoughts))) or None


def _thought(part: Mapping[str, Any]) -> str:
    """The text of a part in which a model thinks; a redacted one has none that can be read."""
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in THOUGHTS:
        return ""
    said = part.get("thinking", part.get("text"))
    if isinstance(said, list):  # Mistral: a list of text parts
        said = "".join(
            item["text"]
            for item in said
            if isinstance(item, dict) and isinstance(item.get("text"), str)
        )
    return said if isinstance(said, str) else ""
