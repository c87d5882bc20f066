"""The bytes of a student's tokens, and which token a string of bytes begins with."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from typing import Any

from overproof.clients.local_chat import Chat
from overproof.errors import StudentError
from overproof.records.hashing import canonical_json

__all__ = ["TokenBytes", "tokenizer_hash", "vocabulary_size"]

REMEMBERED = 500_000  # strings of bytes whose first token is kept at hand


class TokenBytes:
    """A Hugging Face tokenizer, seen as pieces of bytes.

    Args:
        tokenizer: a fast one that keeps every byte: byte-level, or pieces with byte fallback.

    Raises:
        StudentError: the tokenizer loses bytes, so nothing can be aligned with them.
    """

    def __init__(self, tokenizer: Any) -> None:
        chat = Chat(tokenizer)
        if not chat.knows_bytes:
            raise StudentError(
                f"tokenizer {getattr(tokenizer, 'name_or_path', '') or type(tokenizer).__name__}",
                "does not keep the bytes of its tokens, and log-probs are aligned by bytes",
                'take a base with a byte-level or SentencePiece tokenizer, or method = "sft"',
            )
        self._chat = chat
        self._backend = tokenizer.backend_tokenizer
        self.size = vocabulary_size(tokenizer)
        self._bytes = [chat.bytes_of(token) for token in range(self.size)]
        self._ids: dict[bytes, int] = {}
        spelled = tokenizer.convert_ids_to_tokens(list(range(self.size)))
        for token, data in enumerate(self._bytes):
            # A single byte may have two tokens: a piece, and what unknown bytes fall back on.
            if data and (data not in self._ids or str(spelled[self._ids[data]]).startswith("<0x")):
                self._ids[data] = token
        self._sorted = sorted(data for data in self._bytes if data)
        self._longest = max(map(len, self._sorted), default=0)
        self._firsts: dict[bytes, int | None] = {}
        self._shares: dict[bytes, float] = {}

    def bytes_of(self, token: int) -> bytes:
        """What a token stands for; nothing for a special one, or one beyond the vocabulary."""
        return self._bytes[token] if 0 <= token < self.size else b""

    def first(self, data: bytes) -> int | None:
        """The token that the tokenization of ``data`` begins with.

        That of the tokenizer itself where ``data`` is text; the longest token that ``data`` begins
        with where it ends inside a character. ``None`` if no token does.
        """
        if data not in self._firsts:
            if len(self._firsts) >= REMEMBERED:
                self._firsts.clear()
            self._firsts[data] = self._first(data)
        return self._firsts[data]

    def share_beginning(self, data: bytes) -> float:
        """The share of the vocabulary's tokens that begin with ``data`` and are longer."""
        share = self._shares.get(data)
        if share is None:
            first = bisect_left(self._sorted, data + b"\x00")
            longer = data + b"\xff" * (self._longest + 1)
            share = (bisect_left(self._sorted, longer) - first) / max(1, len(self._sorted))
            self._shares[data] = share
        return share

    def _first(self, data: bytes) -> int | None:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = ""
        if text:
            ids = self._backend.encode(text, add_special_tokens=False).ids
            if ids and self._fits(ids[0], data):
                return int(ids[0])
            # Pieces put a space before every text, which is not meant here.
            pieces = self._backend.model.tokenize(text.replace(" ", "▁"))
            if pieces and self._fits(pieces[0].id, data):
                return int(pieces[0].id)
        for length in range(min(len(data), self._longest), 0, -1):
            if (token := self._ids.get(data[:length])) is not None:
                return token
        return None

    def _fits(self, token: int, data: bytes) -> bool:
        return bool(self._bytes[token]) and data.startswith(self._bytes[token])


def vocabulary_size(tokenizer: Any) -> int:
    """One more than the largest id: rows of the embedding beyond it stand for nothing."""
    return int(max(tokenizer.get_vocab().values(), default=-1)) + 1


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash of the vocabulary and the chat template: what ids mean, and where answers begin."""
    template = tokenizer.chat_template
    told = {
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "template": template if isinstance(template, str) else sorted((template or {}).items()),
    }
    return "sha256:" + hashlib.sha256(canonical_json(told)).hexdigest()
