"""Whether a secret key of guard could be guessed: one rule for all of them."""

from __future__ import annotations

from typing import Literal

__all__ = ["LEAST_KEY", "weakness_of"]

LEAST_KEY = 16  # bytes


def weakness_of(key: bytes) -> Literal["short", "regular"] | None:
    """Why ``key`` could be guessed: under 16 bytes, or almost all of it one byte; None if not."""
    if len(key) < LEAST_KEY:
        return "short"
    return "regular" if len(set(key)) < LEAST_KEY // 2 else None
