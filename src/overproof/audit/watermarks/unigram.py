"""One green list for every position (Zhao et al., arXiv 2306.17439), as its authors ship it.

The mask is numpy's default generator, seeded with four bytes of SHA-256 of the key, shuffling a row
of ones and zeros (``gptwm.py`` of XuandongZhao/Unigram-Watermark); the key counts for 32 bits.

There is no context, so a pair is a token type, and how often a type occurs is the only evidence.
A score weighs each type by log(1 + count): the watermark shifts every green type's logarithm alike,
while plain counts would let a dozen frequent types decide alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from overproof.audit.watermarks.pairs import Pairs
from overproof.audit.watermarks.schemes import SHORTEST, Key, Progress, refuse_guessable
from overproof.audit.watermarks.tails import bound_of_lists, chernoff_bernoulli
from overproof.errors import ConfigError
from overproof.records.audit import Exactness, PValue

__all__ = ["Unigram"]

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Unigram:
    """The Unigram watermark.

    Attributes:
        vocabulary: size of the vocabulary of the teacher's model (its logits).
        share: ``fraction`` of green tokens.
    """

    vocabulary: int
    share: float = 0.5
    name: str = "unigram"
    width: int = 0
    pad: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or self.green < 1:
            raise ConfigError("share", f"is {self.share}", "give the share of green tokens, 0 to 1")

    @property
    def green(self) -> int:
        """Green tokens."""
        return int(self.share * self.vocabulary)

    @property
    def expected(self) -> float:
        """Share of green tokens."""
        return self.green / self.vocabulary

    @property
    def spread(self) -> float:
        """Of one hit."""
        return float(np.sqrt(self.expected * (1 - self.expected)))

    def draw(self, rng: np.random.Generator) -> Key:
        """Between 2^24 and 2^63."""
        return int(rng.integers(SHORTEST, (1 << 63) - 1))

    def check_key(self, key: Key) -> None:
        """Refuse short keys and published ones."""
        refuse_guessable(self.name, key, SHORTEST, (1 << 63) - 1)

    def mask(self, key: Key) -> Bools:
        """Which tokens are green, shape (vocabulary,)."""
        digest = hashlib.sha256(np.int64(key).tobytes()).digest()  # type: ignore[arg-type]
        rng = np.random.default_rng(int.from_bytes(digest[:4], "little"))
        mask = np.zeros(self.vocabulary, dtype=bool)
        mask[: self.green] = True
        rng.shuffle(mask)
        return mask

    def weights(self, pairs: Pairs) -> Floats:
        """What each type weighs."""
        return np.asarray(np.log1p(pairs.counts) if pairs.weights is None else pairs.weights)

    def hits(self, pairs: Pairs, key: Key) -> Floats:
        """1.0 for a green token, 0.0 for a red one."""
        return self.mask(key)[pairs.tokens].astype(np.float64)

    def scan(self, pairs: Pairs, keys: Sequence[Key], progress: Progress | None = None) -> Floats:
        """Weighted green types by key."""
        weights = np.bincount(pairs.tokens, self.weights(pairs), self.vocabulary)
        totals = np.zeros(len(keys))
        for number, key in enumerate(keys):
            totals[number] = weights[self.mask(key)].sum()
            if progress is not None:
                progress(number + 1, len(keys))
        return totals

    def tail(self, pairs: Pairs, key: Key, score: float) -> PValue:
        """Chernoff's bound: the list has a fixed size, its tokens are negatively associated.

        Hoeffding's comparison in its place where a weight is negative.
        """
        del key  # under the model every unseen key is alike
        weights = self.weights(pairs)
        if (weights < 0).any():
            one = np.zeros(len(pairs), dtype=np.int64)
            log_p = bound_of_lists(weights, one, self.vocabulary, self.green, score)
            method = "Hoeffding's bound for a list of a fixed size, signed weights"
        else:
            log_p = chernoff_bernoulli(weights, self.expected, score)
            method = "Chernoff bound on a weighted sum over token types"
        return PValue(
            float(np.exp(log_p)),
            Exactness.BOUND,
            method,
            "Under a key that the suspect never saw, the green list is a uniform draw of its size.",
            log10=float(log_p / np.log(10)),
        )
