"""Diversity: is a new prompt too like one that is there already?

Three measures, each exact: the text itself; the Jaccard similarity of character 5-grams (Broder
1997), or ROUGE-L of words (Lin, *ROUGE*, 2004), as Self-Instruct uses it; and the cosine of
embeddings (SemDeDup, arXiv 2303.09540). Prompts come one by one, so the join of
``stats/shingles.py`` is turned into an index here: the prefix filter with the same guarantee.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from overproof.collect.synthesize.protocol import Embedder
from overproof.config.synthesize import StrategySection
from overproof.errors import ConfigError
from overproof.records.hashing import text_hash
from overproof.stats.shingles import SHINGLE_SIZE, fold

__all__ = ["Diversity", "EmbeddingIndex", "Like", "RougeIndex", "ShingleIndex", "rouge_l"]

# Scripts written without spaces: a character is a word.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f"
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
SHARED = 4  # elements that two similar sets must share in their prefixes
Tokens = frozenset[str] | frozenset[tuple[str, int]]
Group = Literal["a seed", "an earlier prompt", "a held-out prompt", "a new prompt"]


@dataclass(frozen=True)
class Like:
    """What a text is too like."""

    reason: str
    text: str
    similarity: float


class _SetIndex:
    """Finds the sets whose Jaccard similarity with a query reaches a threshold; it misses none.

    Sets with Jaccard >= t share at least o = ceil(t |x|) elements, so among the first
    |x| - o + k of each, in any common order, they share k <= o (Chaudhuri et al., ICDE 2006, with
    the longer prefixes of Wang, Li and Feng, SIGMOD 2012). The order is from the rarest to the
    commonest as counted when the index last doubled.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._sets: list[Tokens] = []
        self._shared: list[int] = []  # k of each set
        self._frequency: Counter[object] = Counter()
        self._rank: dict[object, int] = {}
        self._holders: defaultdict[object, list[int]] = defaultdict(list)
        self._rebuild_at = 64

    def add(self, tokens: Tokens) -> None:
        self._sets.append(tokens)
        self._shared.append(min(SHARED, self._overlap(tokens)))
        self._frequency.update(tokens)
        if len(self._sets) < self._rebuild_at:
            self._hold(len(self._sets) - 1)
            return
        self._rebuild_at *= 2
        self._rank = dict(self._frequency)
        self._holders.clear()
        for number in range(len(self._sets)):
            self._hold(number)

    def near(self, tokens: Tokens) -> list[tuple[int, float]]:
        """Numbers of the sets that are so near, with their similarity, in order of number."""
        counts: Counter[int] = Counter()
        for token in self._prefix(tokens):
            counts.update(self._holders.get(token, ()))
        enough = min(SHARED, self._overlap(tokens))
        near = []
        for number, count in counts.items():
            if count < enough and count < self._shared[number]:
                continue
            other = self._sets[number]
            shared = len(tokens & other)
            similarity = shared / (len(tokens) + len(other) - shared)
            if similarity >= self._threshold - 1e-12:
                near.append((number, similarity))
        return sorted(near)

    def _overlap(self, tokens: Tokens) -> int:
        return math.ceil(self._threshold * len(tokens) - 1e-9)

    def _hold(self, number: int) -> None:
        for token in self._prefix(self._sets[number]):
            self._holders[token].append(number)

    def _prefix(self, tokens: Tokens) -> list[Any]:
        overlap = self._overlap(tokens)
        keep = len(tokens) - overlap + min(SHARED, overlap)
        rank = self._rank
        return sorted(tokens, key=lambda token: (rank.get(token, 0), token))[:keep]


class _Index(Protocol):
    """Finds the text most like a query, if any reaches the threshold."""

    name: str

    async def prepare(self, texts: Sequence[str]) -> None:
        """Told of the texts that ``nearest`` and ``add`` will be asked about next."""

    def nearest(self, text: str) -> tuple[int, float] | None:
        """Number of the text most like this one, with the similarity."""

    def add(self, text: str) -> None:
        """Remember a text."""


class ShingleIndex:
    """Jaccard similarity of the sets of character 5-grams, as ``jaccard_pairs`` has it."""

    name = "shingles"

    def __init__(self, threshold: float) -> None:
        self._index = _SetIndex(threshold)

    async def prepare(self, texts: Sequence[str]) -> None:
        """Nothing to prepare."""

    def nearest(self, text: str) -> tuple[int, float] | None:
        """Number of the text most like this one, with the similarity."""
        return max(self._index.near(_shingles(text)), key=lambda pair: pair[1], default=None)

    def add(self, text: str) -> None:
        """Remember a text."""
        self._index.add(_shingles(text))


class RougeIndex:
    """ROUGE-L, the F-measure of the longest common subsequence of words.

    F = 2 LCS / (|x| + |y|) >= t needs as many shared words, so a Jaccard similarity of the word
    bags of at least t / (2 - t): that index finds the candidates, and loses none.
    """

    name = "ROUGE-L"

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._index = _SetIndex(threshold / (2 - threshold))
        self._words: list[list[str]] = []

    async def prepare(self, texts: Sequence[str]) -> None:
        """Nothing to prepare."""

    def nearest(self, text: str) -> tuple[int, float] | None:
        """Number of the text most like this one, with the similarity."""
        words = _words(text)
        scored = [
            (number, _rouge(words, self._words[number]))
            for number, _ in self._index.near(_bag(words))
        ]
        best = max(scored, key=lambda pair: pair[1], default=None)
        return best if best is not None and best[1] >= self._threshold - 1e-12 else None

    def add(self, text: str) -> None:
        """Remember a text."""
        self._words.append(_words(text))
        self._index.add(_bag(self._words[-1]))


class EmbeddingIndex:
    """Cosine similarity of embeddings."""

    name = "embedding"

    def __init__(self, threshold: float, embedder: Embedder) -> None:
        self._threshold = threshold
        self._embedder = embedder
        self._rows: npt.NDArray[np.float32] = np.zeros((0, 0), dtype=np.float32)
        self._n = 0
        self._ready: dict[str, npt.NDArray[np.float32]] = {}

    async def prepare(self, texts: Sequence[str]) -> None:
        """Embed the texts at once, beside the event loop."""
        if not texts:
            return
        vectors = await asyncio.to_thread(self._embedder.embed, texts)
        self._ready = dict(zip(texts, np.asarray(vectors, dtype=np.float32), strict=True))

    def nearest(self, text: str) -> tuple[int, float] | None:
        """Number of the text most like this one, with the similarity."""
        if not self._n:
            return None
        cosines = self._rows[: self._n] @ self._ready[text]
        best = int(np.argmax(cosines))
        return (best, float(cosines[best])) if cosines[best] >= self._threshold - 1e-6 else None

    def add(self, text: str) -> None:
        """Remember a text."""
        vector = self._ready[text]
        if self._n == len(self._rows):
            grown = np.zeros((max(64, 2 * self._n), len(vector)), dtype=np.float32)
            if self._n:
                grown[: self._n] = self._rows
            self._rows = grown
        self._rows[self._n] = vector
        self._n += 1


class Diversity:
    """Admits texts that are new.

    Args:
        config: which measure, and from where on two prompts are too alike.
        embedder: for ``diversity = "embedding"``.
        rouge: a threshold of ROUGE-L on top.

    Raises:
        ConfigError: ``embedding`` without an embedder.
    """

    def __init__(
        self,
        config: StrategySection,
        embedder: Embedder | None = None,
        rouge: float | None = None,
    ) -> None:
        self._indices: list[_Index] = []
        if config.diversity == "shingles":
            self._indices.append(ShingleIndex(config.threshold))
        elif config.diversity == "embedding":
            if embedder is None:
                raise ConfigError(
                    "synthesize.diversity = 'embedding'",
                    "there is no embedding model to compare prompts with",
                    "use diversity = 'shingles', which needs none",
                )
            self._indices.append(EmbeddingIndex(config.threshold, embedder))
        if rouge is not None:
            self._indices.append(RougeIndex(rouge))
        self._exact: dict[str, int] = {}
        self._texts: list[tuple[str, Group]] = []

    async def know(self, texts: Sequence[str], group: Group) -> None:
        """Remember texts that are there already; repeats among them do no harm."""
        fresh = list(dict.fromkeys(text for text in texts if text_hash(text) not in self._exact))
        for index in self._indices:
            await index.prepare(fresh)
        for text in fresh:
            self._remember(text, group)

    async def admit(self, texts: Sequence[str]) -> list[Like | None]:
        """For each in turn what it is too like; ``None`` where it is new, and then remembered."""
        for index in self._indices:
            await index.prepare(list(dict.fromkeys(texts)))
        verdicts: list[Like | None] = []
        for text in texts:
            like = self._like(text)
            if like is None:
                self._remember(text, "a new prompt")
            verdicts.append(like)
        return verdicts

    def _like(self, text: str) -> Like | None:
        if (number := self._exact.get(text_hash(text))) is not None:
            other, group = self._texts[number]
            return Like(f"repeats {group}", other, 1.0)
        for index in self._indices:
            if (near := index.nearest(text)) is not None:
                other, group = self._texts[near[0]]
                return Like(f"too like {group} ({index.name})", other, near[1])
        return None

    def _remember(self, text: str, group: Group) -> None:
        if self._exact.setdefault(text_hash(text), len(self._texts)) != len(self._texts):
            return
        self._texts.append((text, group))
        for index in self._indices:
            index.add(text)


def rouge_l(a: str, b: str) -> float:
    """ROUGE-L F-measure of two texts: 2 LCS / (|a| + |b|) in words, case folded, not stemmed."""
    return _rouge(_words(a), _words(b))


def _rouge(a: Sequence[str], b: Sequence[str]) -> float:
    total = len(a) + len(b)
    return 2 * _common_subsequence(a, b) / total if total else 1.0


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row in one integer (Hyyrö, AWOCA 2004)."""
    places: defaultdict[str, int] = defaultdict(int)
    for i, word in enumerate(a):
        places[word] |= 1 << i
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & full
    return len(a) - row.bit_count()


def _shingles(text: str) -> frozenset[str]:
    folded = fold(text).ljust(SHINGLE_SIZE, "\0")
    return frozenset(folded[i : i + SHINGLE_SIZE] for i in range(len(folded) - SHINGLE_SIZE + 1))


def _words(text: str) -> list[str]:
    return _WORDS.findall(fold(text))


def _bag(words: Sequence[str]) -> frozenset[tuple[str, int]]:
    """The words with their count so far: a bag as a set."""
    seen: Counter[str] = Counter()
    bag = set()
    for word in words:
        bag.add((word, seen[word]))
        seen[word] += 1
    return frozenset(bag)
