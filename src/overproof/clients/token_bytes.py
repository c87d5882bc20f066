"""The bytes that tokens stand for, by how a vocabulary spells them.

Two spellings cover nearly every vocabulary. *Byte-level* (GPT-2, openai/gpt-2 ``encoder.py``): each
byte is written as one printable character. *Pieces* (SentencePiece): text as it is, ``▁`` for a
space and ``<0xE2>`` for a byte that no piece covers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

__all__ = ["byte_level", "pieces_of_text", "sentencepiece"]

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@cache
def _byte_of() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 stands for itself, the other bytes follow from U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def byte_level(token: str) -> bytes | None:
    """The bytes of a token in a byte-level vocabulary, ``None`` where it is not spelled so."""
    alphabet = _byte_of()
    try:
        return bytes(alphabet[character] for character in token)
    except KeyError:
        return None


def sentencepiece(token: str) -> bytes:
    """The bytes of a token in a vocabulary of pieces."""
    if (byte := _BYTE.fullmatch(token)) is not None:
        return bytes([int(byte[1], 16)])
    return token.replace("▁", " ").encode()


def pieces_of_text(text: str, tokens: Sequence[str]) -> list[bytes] | None:
    """Byte pieces of ``text`` from the vocabulary's spelling of its tokens.

    Which spelling it is shows in the result: the pieces must join to the text, but for one space
    that a tokenizer may put before it. ``None`` where neither spelling does.
    """
    for spelled in (byte_level, sentencepiece):
        pieces = [spelled(token) for token in tokens]
        whole = [piece for piece in pieces if piece is not None]
        if len(whole) == len(pieces) and b"".join(whole) in (text.encode(), b" " + text.encode()):
            return whole
    return None
