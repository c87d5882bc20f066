"""Duplicates in other words: cosine similarity of sentence embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from overproof.collect.filters.texts import units
from overproof.config.filters import SemanticDuplicates
from overproof.records.text_dataset import TextExample

__all__ = ["SemanticDuplicate", "first_close"]

Vectors = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]
BLOCK = 512  # rows whose similarities are held at once


class SemanticDuplicate:
    """Keeps the first of texts that mean the same to an encoder."""

    def __init__(self, config: SemanticDuplicates, embed: Embed | None = None) -> None:
        self.name = config.name or config.kind
        self.notes: list[str] = []
        self._config = config
        self._embed = embed

    async def drops(self, examples: Sequence[TextExample]) -> dict[int, str]:
        """Texts that are close to an earlier one that is kept, under the same system message."""
        found = units(examples, self._config.on)
        self.notes = [f"embeddings of {self._config.model}, which reads a text's beginning"]
        if not found.members:
            return {}
        vectors = self._embedder()(found.columns[0])
        dropped: dict[int, str] = {}
        for numbers in found.by_setting():
            for place, (other, cosine) in first_close(
                vectors[numbers], self._config.threshold
            ).items():
                known = examples[found.members[numbers[other]][0]]
                dropped[numbers[place]] = (
                    f"means the same as an earlier {self._config.on}: cosine {cosine:.3f} to "
                    f"sample {known.sample} of {known.item}"
                )
        return found.spread(dropped)

    def _embedder(self) -> Embed:
        if self._embed is None:
            from overproof.clients.local_embedder import Embedder

            self._embed = Embedder(self._config.model, self._config.device).embed
        return self._embed


def first_close(vectors: Vectors, threshold: float) -> dict[int, tuple[int, float]]:
    """Rows whose cosine with an earlier row that stays reaches ``threshold``; exact, in O(n^2).

    Args:
        vectors: N x D, each row of unit length.
        threshold: cosine from which a row is dropped.

    Returns:
        For each row to drop, the row that it is closest to among those that stay, with the cosine.
    """
    dropped: dict[int, tuple[int, float]] = {}
    stays = np.zeros(len(vectors), dtype=bool)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        similar = block @ vectors[: start + len(block)].T
        for offset in range(len(block)):
            row = start + offset
            close = np.where(stays[:row], similar[offset, :row], -1.0)
            if row and (best := int(close.argmax())) >= 0 and close[best] >= threshold - 1e-6:
                dropped[row] = (best, float(close[best]))
            else:
                stays[row] = True
    return dropped
