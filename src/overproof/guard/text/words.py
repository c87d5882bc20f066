"""What the words of a text weigh beside its concepts: hashed beginnings of words, by head.

A word counts by its first seven bytes, a character of a script without blanks with the one that
follows it, each hashed into one of 32,768 buckets (multiplicative hashing, Knuth, TAOCP 3, section
6.4; the hashing trick, Weinberger et al., arXiv 0902.2206). Concepts carry a request over to words
that were never trained on; the words around them tell it from the manuals, puzzles and records that
name the same concepts. Numbers are left out: they stand in invoices as well as in orders.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from overproof.guard.text.spotting import BLOCK, PADDING

__all__ = ["BUCKETS", "WordWeights", "unpack", "words_of"]

_BITS: Final = 15
BUCKETS: Final = 1 << _BITS
_BY: Final = np.uint64(0x9E3779B97F4A7C15)
_SHIFT: Final = np.uint64(64 - _BITS)
_BLANK: Final = ord(" ")
_DIGIT: Final = ord("0")  # all digits are folded to it
_FIRST_WITHOUT_BLANKS: Final = 0xE3  # in UTF-8
_LOAD: Final = np.dtype("<u8")
_BLANKS, _ONES, _TOPS = (np.uint64(byte * 0x0101010101010101) for byte in (_BLANK, 1, 0x80))
_SEVEN: Final = np.uint64((1 << 56) - 1)
_PAIR: Final = np.uint64((1 << 48) - 1)  # a character of three bytes and the next one

# A field holds the sum of a block's words: at most 200 weights within ±127.
_FIELD: Final = 16
_FIELD_MASK: Final = (1 << _FIELD) - 1
_HALF: Final = 1 << _FIELD - 1
_BOUNDS: Final = np.arange(64, dtype=np.int64) * BLOCK

Ints = npt.NDArray[np.int64]


def words_of(body: bytes) -> tuple[Ints, Ints]:
    """Where the words of ``body`` (as `body_of` gives it) begin, in order, and their buckets."""
    n = len(body) - len(PADDING)
    codes: npt.NDArray[np.uint8] = np.frombuffer(body, np.uint8, n)
    loads: npt.NDArray[np.uint64] = np.ndarray((n,), _LOAD, body, 0, (1,))
    letters = codes != _BLANK
    begins = np.empty(n, np.bool_)
    begins[0] = False  # a body begins with a blank
    np.greater(letters[1:], letters[:-1], out=begins[1:])
    if not body.isascii():
        begins |= codes >= _FIRST_WITHOUT_BLANKS
    begins &= codes != _DIGIT
    starts = np.flatnonzero(begins)
    keys = loads[starts]
    # The first blank of the eight bytes (Warren, Hacker's Delight, 6-1); what precedes it is kept.
    odd = keys ^ _BLANKS
    odd = (odd - _ONES) & ~odd & _TOPS
    kept = ((odd ^ (odd - np.uint64(1))) >> np.uint64(8)) & _SEVEN
    if not body.isascii():
        kept[codes[starts] >= _FIRST_WITHOUT_BLANKS] = _PAIR
    return starts, (((keys & kept) * _BY) >> _SHIFT).view(np.int64)


class WordWeights:
    """Weights of the buckets, in 1/64 nat.

    Args:
        table: heads×BUCKETS; at most four heads, weights within ±127.
    """

    def __init__(self, table: npt.NDArray[np.int16]) -> None:
        # The weights of all heads in one number: they are added up in one go.
        scale = 1 << _FIELD * np.arange(len(table), dtype=np.int64)
        self._packed: Ints = (table.astype(np.int64) * scale[:, None]).sum(axis=0)

    def blocks(self, body: bytes) -> list[int]:
        """What the words of each block of `Hits` weigh, for `unpack`."""
        starts, buckets = words_of(body)
        count = (len(body) - len(PADDING)) // BLOCK + 1
        upto = np.zeros(len(starts) + 1, np.int64)
        np.cumsum(self._packed.take(buckets), out=upto[1:])
        at = upto[starts.searchsorted(_BOUNDS[: count + 1])]
        sums: list[int] = (at[1:] - at[:-1]).tolist()
        return sums


def unpack(blocks: list[int], head: int) -> list[int]:
    """One head's weights of every block, in 1/64 nat."""
    out = []
    for packed in blocks:
        field = packed
        for _ in range(head):  # give back what the fields below have borrowed
            field = (field + _HALF) >> _FIELD
        out.append(((field + _HALF) & _FIELD_MASK) - _HALF)
    return out
