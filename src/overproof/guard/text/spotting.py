"""Which concepts a text names, and where: a lexicon of 1,600 words found in one sweep.

Every entry of ``lexicon.toml`` is found by its first 6 bytes. A 64-bit load at every byte of the
text is hashed by an odd multiplier (multiplicative hashing, Knuth, TAOCP 3, section 6.4; shifted
up by two bytes, so that all but 6 fall out), and a table of bits says where a word may begin; only
there are bytes compared. Time is linear in the text, whatever stands in it, and the text that is
read at all is capped.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from overproof.errors import DataError

__all__ = ["BLOCK", "Hits", "Lexicon", "body_of", "read_lexicon"]

SYSTEM_BYTES = 384
HEAD_BYTES = 576
TAIL_BYTES = 448
BLOCK = 200  # bytes; a window is two blocks
MOST_CANDIDATES = 640
KEY = 6
LONG_KEY = 10  # longer words are told apart by this many bytes before they are compared
_BITS = 18
_MASK = 0xFFFFFFFFFFFFFFFF
_BY = (0x9E3779B97F4A7C15 << 16) & _MASK
_SHIFT = np.uint64(64 - _BITS)
_MULTIPLIER = np.uint64(_BY)
_FIRST_WITHOUT_BLANKS = 0x2E80  # scripts that write no blanks between words
_PADDING = b" " * 8
# What may follow a word of 5 bytes: a letter, a digit, a blank, or the start of a longer character.
_NEXT = b"abcdefghijklmnopqrstuvwxyz0 <[{-" + bytes(range(0xC3, 0xF1))


def _fold_table() -> bytes:
    """A byte map: lower case, one kind of blank, one digit; punctuation is a blank."""
    table = bytearray(range(256))
    for code in range(128):
        char = chr(code)
        if char.isupper():
            table[code] = code + 32
        elif char.isdigit():
            table[code] = ord("0")
        elif code < 32 or code == 127 or char in "\"'*_#.,;:!?()=":
            table[code] = ord(" ")
    return bytes(table)


_FOLD = _fold_table()


def body_of(system: str, turn: str) -> bytes:
    """The bytes that are read: the head of the system prompt, head and tail of the turn.

    At most 1,410 bytes and some padding, whatever the input's length. Lone surrogates are kept.
    """
    if len(turn) > HEAD_BYTES + TAIL_BYTES:
        turn = f"{turn[:HEAD_BYTES]} {turn[-TAIL_BYTES:]}"
    if not turn.isascii():
        turn = turn.lower()
    words = turn.encode("utf-8", "surrogatepass")
    if len(words) > HEAD_BYTES + TAIL_BYTES:
        words = words[:HEAD_BYTES] + b" " + words[-TAIL_BYTES:]
    if system:
        first = system[:SYSTEM_BYTES]
        if not first.isascii():
            first = first.lower()
        words = first.encode("utf-8", "surrogatepass")[:SYSTEM_BYTES] + b" " + words
    return b"".join((b" ", words, _PADDING)).translate(_FOLD)


@dataclass(frozen=True, slots=True)
class Hits:
    """Concepts found in one text; a bit is a concept's place in `Lexicon.concepts`.

    Attributes:
        blocks: the concepts of each 200 bytes.
        total: all of them.
    """

    blocks: list[int]
    total: int

    def windows(self) -> set[int]:
        """The concepts of every two adjacent blocks."""
        blocks = self.blocks
        if len(blocks) <= 2:
            return {self.total}
        return {first | second for first, second in pairwise(blocks)}


class Lexicon:
    """The lexicon, ready for spotting.

    Attributes:
        concepts: ``group.concept`` in order.
        place: the bit of each concept in a mask.
    """

    def __init__(self, groups: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        self.concepts = tuple(
            f"{group}.{name}" for group, names in groups.items() for name in names
        )
        self.place = {name: i for i, name in enumerate(self.concepts)}
        self._may_begin = np.zeros(1 << _BITS, np.bool_)
        self._short: dict[bytes, tuple[tuple[tuple[bytes, int], ...], bool]] = {}
        self._long: dict[bytes, tuple[tuple[bytes, int], ...]] = {}
        for group, names in groups.items():
            for name, words in names.items():
                bit = 1 << self.place[f"{group}.{name}"]
                for word in dict.fromkeys(words):
                    self._enter(word, bit, f"lexicon.toml [{group}] {name}")

    def _enter(self, word: str, bit: int, where: str) -> None:
        folded = word.lower().encode().translate(_FOLD)
        if folded and ord(word[0]) < _FIRST_WITHOUT_BLANKS:
            folded = b" " + folded
        if len(folded) < KEY - 1:
            raise DataError(where, f"{word!r} is too short to be found", "add a blank or a letter")
        keys = [folded[:KEY]]
        if len(folded) < KEY:
            keys = [folded + bytes([follows]) for follows in _NEXT]
        for key in keys:
            slot = (int.from_bytes(key, "little") * _BY & _MASK) >> (64 - _BITS)
            self._may_begin[slot] = True
            words, longer = self._short.get(key, ((), False))
            if len(folded) < LONG_KEY:
                self._short[key] = ((*words, (folded, bit)), longer)
            else:
                self._short[key] = (words, True)
                known = folded[:LONG_KEY]
                self._long[known] = (*self._long.get(known, ()), (folded, bit))

    def spot(self, body: bytes) -> Hits:
        """The concepts named in ``body`` (as `body_of` gives it)."""
        n = len(body) - len(_PADDING)
        loads: npt.NDArray[np.uint64] = np.ndarray((n,), "<u8", body, 0, (1,))
        slots = ((loads * _MULTIPLIER) >> _SHIFT).view(np.int64)
        found = self._may_begin.take(slots).nonzero()[0].tolist()
        if len(found) > MOST_CANDIDATES:
            found = found[: MOST_CANDIDATES // 2] + found[-MOST_CANDIDATES // 2 :]
        blocks = [0] * (n // BLOCK + 1)
        short, long, begins = self._short.get, self._long.get, body.startswith
        for at in found:
            entry = short(body[at : at + KEY])
            if entry:
                words, longer = entry
                for word, bit in words:
                    if begins(word, at):
                        blocks[at // BLOCK] |= bit
                if longer:
                    for word, bit in long(body[at : at + LONG_KEY], ()):
                        if begins(word, at):
                            blocks[at // BLOCK] |= bit
        total = 0
        for block in blocks:
            total |= block
        return Hits(blocks, total)


def read_lexicon() -> Lexicon:
    """The lexicon of the package.

    Raises:
        DataError: an entry is too short to be found.
    """
    text = resources.files(__package__).joinpath("lexicon.toml").read_text("utf-8")
    return Lexicon(tomllib.loads(text))
