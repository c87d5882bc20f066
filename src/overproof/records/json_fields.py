"""Fields of a server's JSON, read leniently where nothing is lost and strictly otherwise.

Each raises ``ValueError`` with a reason that names the field; whoever reads a whole object says
which one it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["clean", "count_field", "objects_in", "text_field"]


def text_field(value: Mapping[str, Any], name: str) -> str | None:
    """The text of a field, ``None`` where it is absent or null.

    Raises:
        ValueError: it holds something else.
    """
    text = value.get(name)
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f"its {name} is not a text")
    return clean(text)


def count_field(value: Any, name: str) -> int:
    """The count of tokens in a field of ``value``; absent and null are zero.

    Raises:
        ValueError: it is no count, or ``value`` is neither an object nor null.
    """
    if value is None:
        return 0
    count = (value.get(name) or 0) if isinstance(value, Mapping) else None
    if isinstance(count, float) and count.is_integer():
        count = int(count)
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"the usage's {name} is not a count of tokens")
    return count


def objects_in(value: Any, name: str) -> list[dict[str, Any]]:
    """A list of objects.

    Raises:
        ValueError: it is something else; ``name`` says what should have been one.
    """
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ValueError(f"{name} is not a list of objects")
    return value


def clean(text: str) -> str:
    """Lone surrogates, which JSON can carry and UTF-8 cannot, become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
