"""Which concepts a text names, and where: a lexicon of 12,000 words found in one sweep.

Entries of ``lexicon.toml`` begin at a blank, or with a character of a script without blanks. Of
the 64-bit loads at such bytes of the text the first 6 bytes and all 8 are hashed by odd multipliers
(multiplicative hashing, Knuth, TAOCP 3, section 6.4; shifted up by two bytes, so that all but 6
fall out), and two tables say where a word may stand: its first 6 bytes must be known, and of a
word that long its first 8. Only there are bytes compared. Time is linear in the text, whatever
stands in it, and the text that is read at all is capped.

Where ``ahocorasick_rs`` is installed, its automaton (Aho and Corasick, "Efficient String Matching",
CACM 1975) does the same in a third of the time: it finds exactly what the tables find.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module, resources
from operator import or_
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from overproof.errors import DataError

__all__ = ["BLOCK", "PADDING", "Hits", "Lexicon", "body_of", "read_lexicon"]

SYSTEM_BYTES = 384
HEAD_BYTES = 576
TAIL_BYTES = 448
BLOCK = 200  # bytes; a window is two blocks
KEY = 6
LONG_KEY = 8  # longer words are told apart by this many bytes before they are compared
_BITS = 16  # two tables of 64 KiB stay in a core's own cache
_MASK = 0xFFFFFFFFFFFFFFFF
_BY_8 = 0x9E3779B97F4A7C15
_BY_6 = (_BY_8 << 16) & _MASK
_SHIFT = np.uint64(64 - _BITS)
_MULTIPLIER_6, _MULTIPLIER_8 = np.uint64(_BY_6), np.uint64(_BY_8)
_BLANK = ord(" ")
_LOAD = np.dtype("<u8")
_FIRST_WITHOUT_BLANKS = 0x2E80  # scripts that write no blanks between words
PADDING = b" " * 8
# What may follow a word of 5 bytes: a letter, a digit, a blank, or the start of a longer character.
_NEXT = b"abcdefghijklmnopqrstuvwxyz0 <[-" + bytes(range(0xC3, 0xF1))


def _fold_table() -> bytes:
    """A byte map: lower case, one kind of blank, one digit; punctuation is a blank."""
    table = bytearray(range(256))
    for code in range(128):
        char = chr(code)
        if char.isupper():
            table[code] = code + 32
        elif char.isdigit():
            table[code] = ord("0")
        elif code < 32 or code == 127 or char in "\"'`*_#.,;:!?(){}|~=":
            table[code] = ord(" ")
    return bytes(table)


_FOLD = _fold_table()
# Typographic quotes and dashes, full-width and ideographic punctuation, inverted marks.
_MARKS = re.compile(
    rb"\xe2\x80[\x90-\xbf]|\xef\xbc[\x80-\x8f\x9a-\xa0]|\xe3\x80[\x80-\x91]|\xc2[\xa1\xab\xb7\xbb\xbf]"
)

Words = tuple[tuple[bytes, int], ...]  # with their bits
Find = Callable[..., Iterable[tuple[int, int, int]]]  # which word, from where, to where


def _unmark(words: bytes) -> bytes:
    """Blanks for the punctuation of other scripts."""
    return words if words.isascii() else _MARKS.sub(b" ", words)


def _encode(text: str) -> bytes:
    """UTF-8, of other scripts' letters the lower case."""
    return (text if text.isascii() else text.lower()).encode("utf-8", "surrogatepass")


def body_of(system: str, turn: str) -> bytes:
    """The bytes that are read: the head of the system prompt, head and tail of the turn.

    At most 1,410 bytes and some padding, whatever the input's length. Lone surrogates are kept.
    """
    if len(turn) > HEAD_BYTES + TAIL_BYTES:
        turn = f"{turn[:HEAD_BYTES]} {turn[-TAIL_BYTES:]}"
    words = _encode(turn)
    if len(words) > HEAD_BYTES + TAIL_BYTES:
        words = words[:HEAD_BYTES] + b" " + words[-TAIL_BYTES:]
    if system:
        words = _encode(system[:SYSTEM_BYTES])[:SYSTEM_BYTES] + b" " + words
    return b"".join((b" ", _unmark(words), PADDING)).translate(_FOLD)


class Hits(msgspec.Struct, frozen=True):
    """Concepts found in one text; a bit is a concept's place in `Lexicon.concepts`.

    Attributes:
        blocks: the concepts of each 200 bytes.
        total: all of them.
    """

    blocks: list[int]
    total: int

    def windows(self) -> list[int]:
        """The concepts of every two adjacent blocks, in order."""
        blocks = self.blocks
        if len(blocks) <= 2:
            return [self.total]
        return list(map(or_, blocks, blocks[1:]))


def _slot(word: bytes, by: int) -> int:
    return (int.from_bytes(word, "little") * by & _MASK) >> (64 - _BITS)


class Lexicon:
    """The lexicon, ready for spotting.

    Attributes:
        concepts: ``group.concept`` in order.
        place: the bit of each concept in a mask.

    Args:
        groups: the words of each concept of each group.
        automaton: use ``ahocorasick_rs`` where it is installed.
    """

    def __init__(
        self, groups: Mapping[str, Mapping[str, Sequence[str]]], *, automaton: bool = True
    ) -> None:
        self.concepts = tuple(
            f"{group}.{name}" for group, names in groups.items() for name in names
        )
        self.place = {name: i for i, name in enumerate(self.concepts)}
        self._starts = np.zeros(256, np.bool_)  # bytes that entries begin with
        # Six bytes: 2 where a word of fewer than eight may begin, 1 where a longer one may, which
        # needs a 1 of its eight bytes besides.
        self._six = np.zeros(1 << _BITS, np.uint8)
        self._eight = np.zeros(1 << _BITS, np.uint8)
        self._short: dict[bytes, Words] = {}
        self._long: dict[bytes, Words] = {}
        for group, names in groups.items():
            for name, words in names.items():
                bit = 1 << self.place[f"{group}.{name}"]
                for word in dict.fromkeys(words):
                    self._enter(word, bit, f"lexicon.toml [{group}] {name}")
        self._bits: list[int] = []
        self._find = self._automaton() if automaton else None

    def _enter(self, word: str, bit: int, where: str) -> None:
        folded = _unmark(_encode(word)).translate(_FOLD)
        if folded and folded[0] != _BLANK and ord(word[0]) < _FIRST_WITHOUT_BLANKS:
            folded = b" " + folded
        if len(folded) < KEY - 1:
            raise DataError(where, f"{word!r} is too short to be found", "add a blank or a letter")
        self._starts[folded[0]] = True
        if len(folded) >= LONG_KEY:
            key = folded[:LONG_KEY]
            self._eight[_slot(key, _BY_8)] = 1
            self._six[_slot(key, _BY_6)] |= 1
            self._long[key] = (*self._long.get(key, ()), (folded, bit))
            return
        keys = [folded[:KEY]]
        if len(folded) < KEY:
            keys = [folded + bytes([follows]) for follows in _NEXT]
        for key in keys:
            self._six[_slot(key, _BY_6)] |= 2
            self._short[key] = (*self._short.get(key, ()), (folded, bit))

    def _automaton(self) -> Find | None:
        """All words in one automaton; words of 5 bytes with what may follow them."""
        try:
            package: Any = import_module("ahocorasick_rs")
        except ImportError:
            return None
        bits: dict[bytes, int] = {}
        for key, words in (*self._short.items(), *self._long.items()):
            for word, bit in words:
                whole = word if len(word) >= KEY else key
                bits[whole] = bits.get(whole, 0) | bit
        self._bits = list(bits.values())
        built = package.BytesAhoCorasick(list(bits), implementation=package.Implementation.DFA)
        find: Find = built.find_matches_as_indexes
        return find

    def spot(self, body: bytes) -> Hits:
        """The concepts named in ``body`` (as `body_of` gives it)."""
        n = len(body) - len(PADDING)
        blocks, total = [0] * (n // BLOCK + 1), 0
        if self._find is None:
            found = self._look_up(body, n)
        else:
            bits = self._bits
            found = [(at, bits[word]) for word, at, _ in self._find(body, overlapping=True)]
        for at, bit in found:
            blocks[at // BLOCK] |= bit
            total |= bit
        return Hits(blocks, total)

    def _look_up(self, body: bytes, n: int) -> list[tuple[int, int]]:
        """Where words stand in the first ``n`` bytes, and their bits."""
        loads: npt.NDArray[np.uint64] = np.ndarray((n,), _LOAD, body, 0, (1,))
        codes: npt.NDArray[np.uint8] = np.frombuffer(body, np.uint8, n)
        starts = codes == _BLANK if body.isascii() else self._starts.take(codes)
        places = starts.nonzero()[0]
        six = loads[places]
        eight = six * _MULTIPLIER_8
        six *= _MULTIPLIER_6
        six >>= _SHIFT
        eight >>= _SHIFT
        worth = self._six.take(six.view(np.int64))
        worth += self._eight.take(eight.view(np.int64))
        found = []
        for at in places[worth > 1].tolist():
            key = body[at : at + LONG_KEY]
            for word, bit in self._long.get(key, ()):
                if body.startswith(word, at):
                    found.append((at, bit))
            for word, bit in self._short.get(key[:KEY], ()):
                if key.startswith(word):
                    found.append((at, bit))
        return found


def read_lexicon() -> Lexicon:
    """The lexicon of the package.

    Raises:
        DataError: an entry is too short to be found.
    """
    text = resources.files(__package__).joinpath("lexicon.toml").read_text("utf-8")
    return Lexicon(tomllib.loads(text))
