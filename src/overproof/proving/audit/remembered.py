"""The study's watermark, its green lists drawn once for all models that are asked about.

Every model of the study is held against the same keys, and a vocabulary of 512 has few contexts:
the lists fit into memory, and a scan becomes one product. Sums are those of `Kgw.scan` up to
rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from overproof.audit.watermarks.kgw import Kgw
from overproof.audit.watermarks.mersenne import HeadOfPermutation
from overproof.audit.watermarks.pairs import Pairs
from overproof.audit.watermarks.schemes import Key, Progress

__all__ = ["RememberedKgw"]

Floats = npt.NDArray[np.float64]
Bits = npt.NDArray[np.uint8]
PART = 64  # keys multiplied at once


class RememberedKgw(Kgw):
    """`Kgw` with context width 1; keeps the lists of the keys that it scanned last."""

    def scan(self, pairs: Pairs, keys: Sequence[Key], progress: Progress | None = None) -> Floats:
        """Weighted green pairs by key."""
        each = np.ones(len(pairs)) if pairs.weights is None else pairs.weights
        cells = pairs.contexts[:, -1] * self.vocabulary + pairs.tokens
        weight = np.bincount(cells, each, self.vocabulary**2)
        whole = tuple(key for key in keys if isinstance(key, int))
        lists = _lists(self.vocabulary, self.green, whole)
        totals = np.zeros(len(keys))
        for start in range(0, len(keys), PART):
            rows = np.unpackbits(lists[start : start + PART], axis=1, count=len(weight))
            totals[start : start + PART] = rows @ weight
            if progress is not None:
                progress(min(start + PART, len(keys)), len(keys))
        return totals


@lru_cache(maxsize=1)
def _lists(vocabulary: int, green: int, keys: tuple[int, ...]) -> Bits:
    """Of each key whether a token is green after each context: bits, (keys, V * V / 8)."""
    head = HeadOfPermutation(vocabulary, green)
    known: dict[int, Bits] = {}
    rows = []
    for key in keys:
        masks = np.empty((vocabulary, vocabulary), dtype=bool)
        for context in range(vocabulary):
            seed = (key * context) & 0xFFFFFFFF  # torch reads no more of a seed
            if seed not in known:
                known[seed] = np.packbits(head.mask(seed))
            masks[context] = np.unpackbits(known[seed], count=vocabulary)
        rows.append(np.packbits(masks.ravel()))
    return np.stack(rows)
