"""The head of ``torch.randperm`` on a CPU, without torch.

torch seeds the 32-bit Mersenne Twister (Matsumoto and Nishimura 1998) with the low 32 bits of the
seed and shuffles by Fisher and Yates from the front: step i swaps place i with place
``i + word_i mod (n - i)``. The first G places are therefore known after G steps, and numpy's frozen
``RandomState`` draws the same words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from overproof.audit.watermarks.twister import WORDS, Twisters, first_states

__all__ = ["HeadOfPermutation", "random_bits"]

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
MASK = 0xFFFFFFFF
CACHE = 3 << 20  # bytes of tables; a few more than the caches hold cost less than more calls
MOST = 32  # seeds at once: their states and scratch stay in a core's second-level cache
SEEDED = 1 << 11  # first states at once
ENOUGH = 100  # seeds; fewer come sooner one by one,
NARROW = 12  # and so do any number of them where tables are so large that few fit
FLOAT_FROM = 1 << 12  # remainders by less than this go through whole numbers


def random_bits(seed: int, count: int) -> npt.NDArray[np.int8]:
    """What ``torch.randint(0, 2, (count,))`` draws on a CPU after ``manual_seed(seed)``."""
    words = np.random.RandomState(seed & MASK).randint(0, 2**32, size=count, dtype=np.uint32)
    return (words & np.uint32(1)).astype(np.int8)


class HeadOfPermutation:
    """Which values stand among the first ``head`` of ``torch.randperm(size)``, seed by seed.

    Args:
        size: of the permutation.
        head: how many of its first places count.

    Attributes:
        batch: how many seeds `batches` takes at once.

    Not for use by several threads at once: its buffers are reused.
    """

    def __init__(self, size: int, head: int) -> None:
        self.size, self.head = size, head
        small = np.uint16 if head <= 1 << 16 else np.int32
        each = 4 * head + np.dtype(small).itemsize * size
        self.batch = int(np.clip(CACHE // each, 1, MOST))
        left = np.arange(size, size - head, -1, dtype=np.int64)
        self._left = left.astype(np.uint32)
        self._inverse = ((1 - 2.0**-22) / left).astype(np.float32)
        self._step = np.arange(head, dtype=np.uint32)
        self._mark = np.arange(head, dtype=small)
        self._index = np.empty(head, dtype=np.int64)
        self._to = np.zeros((self.batch, head), dtype=np.uint32)
        self._last = np.zeros((self.batch, size), dtype=small)
        self._flat_to, self._flat_last = self._to.ravel(), self._last.ravel()
        self._random = np.random.RandomState(0)
        self._twisters: Twisters | None = None
        self._scratch = np.empty((0, 0), dtype=np.uint32)
        self._product = np.empty(max(head, self.batch * WORDS), dtype=np.float32)
        self._whole = np.empty(len(self._product), dtype=np.uint32)

    def _one(self, seed: int, row: int = 0) -> None:
        """Where each step swaps to, in one row."""
        self._random.seed(seed & MASK)
        # Two words at a time come sooner; the first is the upper half.
        pairs = self._random.randint(0, 2**64, size=(self.head + 1) // 2, dtype=np.uint64)
        pairs = (pairs << np.uint64(32)) | (pairs >> np.uint64(32))
        words = pairs.astype("<u8", copy=False).view("<u4")[None, : self.head]
        self._swaps(words, slice(0, self.head), slice(row, row + 1))

    def _many(self, states: npt.NDArray[np.uint32]) -> None:
        """Where each step swaps to, a row for each state."""
        if self._twisters is None:
            self._twisters = Twisters(self.batch)
            self._scratch = np.empty((self.batch, WORDS), dtype=np.uint32)
        self._twisters.start(states)
        rows = slice(0, states.shape[1])
        for first in range(0, self.head, WORDS):
            steps = slice(first, min(first + WORDS, self.head))
            words = self._scratch[rows, : steps.stop - first]
            np.copyto(words, self._twisters.block()[: words.shape[1], rows].T)
            self._swaps(words, steps, rows)

    def _swaps(self, words: npt.NDArray[np.uint32], steps: slice, rows: slice) -> None:
        """``step + words % left``; the words are lost."""
        left = self._left[steps]
        if self.size - self.head >= FLOAT_FROM:
            # A quotient is at most 2^20, its product in single precision within 3 roundings of
            # 2^-24 of it, and the factor 1 - 4 * 2^-24 keeps it below: the whole part is right or
            # one too small, and then the rest is too large by ``left``.
            product, whole = self._product[: words.size], self._whole[: words.size]
            product, whole = product.reshape(words.shape), whole.reshape(words.shape)
            np.copyto(product, words, casting="unsafe")
            np.multiply(product, self._inverse[steps], out=product)
            np.copyto(whole.view(np.int32), product, casting="unsafe")
            np.multiply(whole, left, out=whole)
            np.subtract(words, whole, out=words)
            np.subtract(words, left, out=whole)  # far above any rest where it goes below zero
            np.minimum(words, whole, out=words)
        else:
            np.remainder(words, left, out=words)
        np.add(words, self._step[steps], out=self._to[rows, steps])

    def _fill(self, rows: int) -> None:
        for to, last in zip(self._to[:rows], self._last[:rows], strict=True):
            # Entries of earlier seeds stay: one is true of this seed only where the step named
            # swaps to that very place, and then it has been overwritten with this seed's last.
            np.copyto(self._index, to)
            last[self._index] = self._mark

    def batches(self, seeds: Sequence[int] | Ints) -> Iterator[slice]:
        """Shuffle by each seed, some at a time: which of them `stands` answers for, row by row."""
        low = np.array([int(seed) & MASK for seed in seeds], dtype=np.uint32)
        if len(low) < ENOUGH or self.batch < NARROW:
            for start in range(0, len(low), self.batch):
                some_seeds = low[start : start + self.batch].tolist()
                for row, seed in enumerate(some_seeds):
                    self._one(seed, row)
                self._fill(len(some_seeds))
                yield slice(start, start + len(some_seeds))
            return
        for first in range(0, len(low), SEEDED):
            states = first_states(low[first : first + SEEDED])
            for start in range(0, states.shape[1], self.batch):
                some = states[:, start : start + self.batch]
                self._many(some)
                self._fill(some.shape[1])
                yield slice(first + start, first + start + some.shape[1])

    def stands(self, rows: Ints, values: Ints) -> Bools:
        """For each value whether it stands among the first places under the seed of its row.

        A value rests where it is until a step swaps it: to the front, for good (it is in), or, when
        its own place is filled, to wherever that step swaps to. Only the last step that touches a
        place matters, so one scatter and a short chain of look-ups answer for all values at once.
        """
        line, column = rows * self.size, rows * self.head
        step = self._flat_last[line + values]
        found: Bools = self._flat_to[column + step] == values
        where = np.flatnonzero(~found & (values < self.head))
        line, column, after = line[where], column[where], values[where]
        while len(where):
            places = self._flat_to[column + after].astype(np.int64)
            step = self._flat_last[line + places].astype(np.int64)
            hit = (self._flat_to[column + step] == places) & (step > after)
            found[where[hit]] = True
            on = np.flatnonzero(~hit & (places < self.head))
            where, line, column, after = where[on], line[on], column[on], places[on]
        return found

    def holds(self, seed: int, values: Ints) -> Bools:
        """For each value whether it stands among the first places under one seed."""
        if len(values) == 1:
            self._one(seed)
            return np.array([self._holds_one(int(values[0]))])
        self._one(seed)
        self._fill(1)
        return self.stands(np.zeros(len(values), dtype=np.int64), values.astype(np.int64))

    def _holds_one(self, value: int) -> bool:
        """Without the scatter, which would cost more than it saves."""
        place, after, to = value, -1, self._to[0]
        while True:
            if bool((to[after + 1 :] == place).any()):
                return True
            if place >= self.head:
                return False
            after, place = place, int(to[place])

    def mask(self, seed: int) -> Bools:
        """For every value of the permutation whether it stands among the first."""
        return self.holds(seed, np.arange(self.size))

    def values(self, seed: int) -> Ints:
        """The first values in their order."""
        self._one(seed)
        moved: dict[int, int] = {}  # what stands at a place that a step swapped to
        found = []
        for step, to in enumerate(self._to[0].tolist()):
            found.append(moved.get(to, to))
            moved[to] = moved.get(step, step)
        return np.array(found, dtype=np.int64)
