"""Texts as a reader sees them: what cannot be seen makes no difference.

A prompt that comes again with another case, other white space or an invisible character in it is
the same prompt to whoever answers from a cache, and its answers are copies.
"""

from __future__ import annotations

import unicodedata
from typing import Any

__all__ = ["fold_content", "fold_name", "fold_text"]

# Drawn as nothing and yet of no format category (Unicode, Default_Ignorable_Code_Point).
_IGNORED = frozenset(
    map(chr, (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0))
) | frozenset(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))


_CONTROLS = dict.fromkeys((*range(0x20), 0x7F))


def _visible(text: str) -> str:
    if text.isascii():  # by far the most, and quicker
        return text.translate(_CONTROLS)
    return "".join(
        c for c in text if c not in _IGNORED and unicodedata.category(c) not in ("Cf", "Cc")
    )


def fold_name(text: str) -> str:
    """A name without its invisible characters, in normal form NFKC; case counts."""
    return _visible(unicodedata.normalize("NFKC", _visible(text))).strip()


def fold_text(text: str) -> str:
    """A text without invisible characters, case and white space, in normal form NFKC."""
    bare = unicodedata.normalize("NFKC", "".join(_visible(text).split())).casefold()
    # Folding case may leave the normal form, and the normal form may bring spaces.
    return "".join(_visible(unicodedata.normalize("NFKC", bare)).split())


def fold_content(value: Any) -> Any:
    """The same for every text within plain values, such as a list of messages."""
    if isinstance(value, str):
        return fold_text(value)
    if isinstance(value, dict):
        return {key: fold_content(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [fold_content(each) for each in value]
    return value
