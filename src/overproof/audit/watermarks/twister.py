"""The 32-bit Mersenne Twister for many seeds side by side, each step for all of them at once.

Matsumoto and Nishimura 1998, MT19937 seeded by one word, as torch and numpy's ``RandomState`` do.
A state is a column, so that words which a recurrence joins lie in whole rows: each operation runs
over 624 rows of a block that stays in a core's second-level cache.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["WORDS", "Twisters", "first_states"]

Words = npt.NDArray[np.uint32]
WORDS = 624  # of a state
MIDDLE = 397
FRONT = WORDS - MIDDLE  # rows that depend on rows of the state before alone
ONE, LOW, HIGH = np.uint32(1), np.uint32(0x7FFFFFFF), np.uint32(0x80000000)
MATRIX, FIRST, SECOND = np.uint32(0x9908B0DF), np.uint32(0x9D2C5680), np.uint32(0xEFC60000)


def first_states(seeds: npt.NDArray[np.uint32]) -> Words:
    """The state that each seed begins with, shape (624, seeds); quick for a thousand or more."""
    states = np.empty((WORDS, len(seeds)), dtype=np.uint32)
    states[0] = seeds
    mixed = np.empty(len(seeds), dtype=np.uint32)
    for row in range(1, WORDS):
        before = states[row - 1]
        np.right_shift(before, np.uint32(30), out=mixed)
        np.bitwise_xor(before, mixed, out=mixed)
        np.multiply(mixed, np.uint32(1812433253), out=mixed)
        np.add(mixed, np.uint32(row), out=states[row])
    return states


class Twisters:
    """So many generators at once; buffers are reused, so not for several threads.

    Args:
        count: of generators.
    """

    def __init__(self, count: int) -> None:
        self._state = np.zeros((WORDS, count), dtype=np.uint32)
        self._words = np.empty_like(self._state)
        self._other = np.empty_like(self._state)

    def start(self, states: Words) -> None:
        """Begin with these states, shape (624, up to ``count``); see `first_states`."""
        self._state[:, : states.shape[1]] = states

    def block(self) -> Words:
        """The next 624 words of each, shape (624, count), until the next call."""
        self._twist()
        return self._temper()

    def _twist(self) -> None:
        state, mixed, odd = self._state, self._words[:-1], self._other[:-1]
        # The high bit of each row and the low bits of the next, times a matrix over two elements.
        np.bitwise_xor(state[:-1], state[1:], out=mixed)
        np.bitwise_and(mixed, LOW, out=mixed)
        np.bitwise_xor(mixed, state[:-1], out=mixed)
        np.bitwise_and(mixed, ONE, out=odd)
        np.multiply(odd, MATRIX, out=odd)
        np.right_shift(mixed, ONE, out=mixed)
        np.bitwise_xor(mixed, odd, out=mixed)
        last = state[-1] & HIGH
        np.bitwise_xor(state[MIDDLE:], mixed[:FRONT], out=state[:FRONT])
        np.bitwise_xor(state[:FRONT], mixed[FRONT : 2 * FRONT], out=state[FRONT : 2 * FRONT])
        rest = slice(2 * FRONT, WORDS - 1)
        np.bitwise_xor(state[FRONT : MIDDLE - 1], mixed[rest], out=state[rest])
        last |= state[0] & LOW
        state[-1] = state[MIDDLE - 1] ^ (last >> ONE) ^ ((last & ONE) * MATRIX)

    def _temper(self) -> Words:
        words, other = self._words, self._other
        np.right_shift(self._state, np.uint32(11), out=other)
        np.bitwise_xor(self._state, other, out=words)
        for shift, mask in ((np.uint32(7), FIRST), (np.uint32(15), SECOND)):
            np.left_shift(words, shift, out=other)
            np.bitwise_and(other, mask, out=other)
            np.bitwise_xor(words, other, out=words)
        np.right_shift(words, np.uint32(18), out=other)
        np.bitwise_xor(words, other, out=words)
        return words
