"""Gumbel-max, compatible with vLLM's native watermark (``vllm/v1/watermarking/gumbel.py``).

The token chosen is argmax of logit - log(-log u), u the keyed uniform of (context, token): a sample
from the model's own distribution, repeatable by whoever holds the key (Aaronson 2022; Kuditipudi et
al., arXiv 2307.15593). A pair's score is -log(1 - u), a standard exponential without the watermark.

vLLM pads the context of a response's first tokens with -1 and never reads the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from overproof.audit.watermarks.pairs import Pairs
from overproof.audit.watermarks.philox import PhiloxBlock, philox_words
from overproof.audit.watermarks.schemes import Key, Progress, refuse_guessable
from overproof.audit.watermarks.tails import chernoff_exponential, gamma_tail
from overproof.errors import ConfigError
from overproof.records.audit import Exactness, PValue

__all__ = ["Gumbel", "uniforms"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
STATES = 2.0**24  # u = (m + 1) / (2^24 + 1) for m in 0 .. 2^24 - 1
BLOCK = 1 << 14  # pairs a block: its arrays stay in the second-level cache
AT_ONCE = 40  # factors below 2^24 whose product a double holds


def uniforms(contexts: Ints, tokens: Ints, key: int) -> Floats:
    """Keyed uniforms of vLLM in (0, 1), shape (n,), before it rounds them to 32 bits."""
    words = philox_words(contexts, tokens, [key])[0]
    return np.asarray(((words >> np.uint64(8)).astype(np.float64) + 1.0) / (STATES + 1.0))


@dataclass(frozen=True)
class Gumbel:
    """vLLM's Gumbel-max watermark.

    Attributes:
        vocabulary: size of the teacher's vocabulary.
        width: vLLM's ``context_width``.
    """

    vocabulary: int
    width: int = 4
    name: str = "gumbel"
    pad: int | None = -1
    expected: float = 1.0
    spread: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.width <= 64:
            raise ConfigError("width", f"is {self.width}", "vLLM's context_width is 1 to 64")

    def draw(self, rng: np.random.Generator) -> Key:
        """64 bits, the upper 32 not all zero."""
        return int(rng.integers(1 << 32, 1 << 64, dtype=np.uint64))

    def check_key(self, key: Key) -> None:
        """Refuse keys of fewer than 33 bits and published ones."""
        refuse_guessable(self.name, key, 1 << 32, 1 << 64)

    def hits(self, pairs: Pairs, key: Key) -> Floats:
        """-log(1 - u) of each pair."""
        assert isinstance(key, int)
        return np.asarray(-np.log1p(-uniforms(pairs.contexts, pairs.tokens, key)))

    def scan(self, pairs: Pairs, keys: Sequence[Key], progress: Progress | None = None) -> Floats:
        """Sums of -log(1 - u) by key; the block is the outer loop, so it stays in the cache."""
        totals = np.zeros(len(keys))
        weights = pairs.weights
        done = 0
        for chosen in self._blocks(pairs.tokens):
            block = PhiloxBlock(pairs.contexts[chosen], pairs.tokens[chosen])
            buffer = np.empty(len(chosen))
            sums = np.empty(len(keys))
            for number, key in enumerate(keys):
                assert isinstance(key, int)
                words = block.words(key)
                np.right_shift(words, np.uint64(8), out=words)
                np.subtract(STATES, words.view(np.int64), out=buffer)  # (2^24 + 1)(1 - u)
                if weights is None:
                    sums[number] = _log_of_product(buffer)
                else:
                    sums[number] = np.log(buffer, out=buffer) @ weights[chosen]
            weight = len(chosen) if weights is None else float(weights[chosen].sum())
            totals += weight * np.log(STATES + 1.0) - sums
            done += len(chosen)
            if progress is not None:
                progress(done, len(pairs))
        return totals

    @staticmethod
    def _blocks(tokens: Ints) -> list[Ints]:
        found: list[Ints] = []
        for remainder in range(4):
            chosen = np.flatnonzero((tokens & 3) == remainder)
            found += [chosen[i : i + BLOCK] for i in range(0, len(chosen), BLOCK)]
        return found

    def tail(self, pairs: Pairs, key: Key, score: float) -> PValue:
        """A sum of n standard exponentials, or Chernoff's bound where pairs have weights.

        The shipped u takes N = 2^24 values: its h = -log(1 - u) is at most an exponential plus
        log(1 + 1 / N), which is taken off the score first. Where a weight is negative the small
        values count: E exp(-s h) = sum over k = 1 .. N of (k / (N + 1))^s / N is at most
        (1 + 1 / N) / (1 + s), the exponential's own but for the factor. So the tail errs upwards.
        """
        del key  # under the model every unseen key is alike
        weights = pairs.weights
        rounding = float(np.log1p(1 / STATES))
        if weights is None:
            log_p = gamma_tail(score - len(pairs) * rounding, len(pairs))
            how, method = Exactness.CONDITIONAL, f"Gamma({len(pairs)}) tail of the summed scores"
        elif weights.any():
            log_p = chernoff_exponential(weights, score - np.maximum(weights, 0).sum() * rounding)
            log_p = min(0.0, log_p + int((weights < 0).sum()) * rounding)
            how, method = Exactness.BOUND, "Chernoff bound on a weighted sum of exponentials"
        else:
            log_p, how, method = 0.0, Exactness.BOUND, "no pairs"
        return PValue(
            float(np.exp(log_p)),
            how,
            method,
            "Under a key that the suspect never saw, Philox gives every pair (context, token) an "
            "independent uniform number.",
            log10=float(log_p / np.log(10)),
        )


def _log_of_product(values: Floats) -> float:
    """Sum of logarithms, one logarithm for every 40 values."""
    whole = len(values) // AT_ONCE * AT_ONCE
    total = 0.0
    if whole:
        products = np.multiply.reduce(values[:whole].reshape(AT_ONCE, -1), axis=0)
        total = float(np.log(products).sum())
    return total + float(np.log(values[whole:]).sum())
