"""Names, times and p-values of guard's report in words; names come from outside, maybe hostile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["plain", "plain_values", "tail", "when"]

LONGEST = 80
ODD = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def plain(text: str, longest: int = LONGEST) -> str:
    """A name as it can be shown: no control characters, nothing turned round, not too long."""
    shown = ODD.sub("\ufffd", text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def plain_values(value: Any) -> Any:
    """Records from outside with every text in them made showable."""
    if isinstance(value, str):
        return plain(value, 400)
    if isinstance(value, Mapping):
        return {plain(str(key)): plain_values(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(inner) for inner in value]
    return value


def when(at: float | None) -> str:
    """A time in seconds since the epoch as ``3 May 2026, 14:05 UTC``."""
    if at is None:
        return "no date"
    try:
        time = datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{at:.0f} s after the epoch"
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def tail(value: float | None) -> str:
    """A p-value; small ones keep their size, because the floor matters."""
    if value is None:
        return "none"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"
