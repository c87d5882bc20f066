"""Which texts share a run of words with which items: rolling hashes, each hit checked by its words.

The 13 words are those of GPT-3's decontamination (Brown et al., arXiv:2005.14165, appendix C).
Shapes: T words of all texts in a chunk, W windows of L words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Items", "NgramIndex", "Shared", "words_of"]

CHUNK = 4096  # texts at a time

# Scripts that are written without spaces: every character is a word.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]


def words_of(text: str) -> list[str]:
    """The words of ``text``, without case and punctuation."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


@dataclass(frozen=True)
class Items:
    """A named set of texts to look for, such as a benchmark's questions."""

    name: str
    texts: Sequence[str]


@dataclass(frozen=True)
class Shared:
    """A text shares ``length`` words with a set, all of an item where ``whole``."""

    text: int
    words: str
    length: int
    whole: bool


@dataclass(frozen=True)
class _Table:
    """Runs of one length: sorted hashes, each with an item and a place that it stands at."""

    length: int
    whole: bool
    hashes: Hashes
    item: Ints
    place: Ints


class NgramIndex:
    """Finds texts that share ``words`` words in a row with an item, or hold a whole shorter one.

    Args:
        items: the set.
        words: length of a run.
        shortest: items of fewer words than this are not looked for.
        boilerplate: runs in more than this share of the items, where there are ten or more, are
            a template's wording.
        ignore: texts whose runs count as nothing.

    Attributes:
        ignored: how many different runs were taken for wording, or were to be ignored.
    """

    def __init__(
        self,
        items: Items,
        words: int = 13,
        shortest: int = 5,
        boilerplate: float = 0.5,
        ignore: Iterable[str] = (),
    ) -> None:
        self.name = items.name
        self.ignored = 0
        self._number: dict[str, int] = {}
        self._items = [words_of(text) for text in items.texts]
        for item in self._items:
            for word in item:
                self._number.setdefault(word, len(self._number) + 1)
        rng = np.random.default_rng(len(self._number))
        size = len(self._number) + 1
        self._code: Hashes = rng.integers(0, 2**64, size=size, dtype=np.uint64)
        self._weight: Hashes = rng.integers(0, 2**64, size=words, dtype=np.uint64) | np.uint64(1)
        self._most = boilerplate * len(self._items) if len(self._items) >= 10 else np.inf
        ignored = [words_of(text) for text in ignore]
        lengths = sorted({len(i) for i in self._items if shortest <= len(i) < words} | {words})
        tables = [self._table(length, length < words, ignored) for length in lengths]
        self._tables = [table for table in tables if len(table.hashes)]

    def _windows(self, texts: Sequence[Sequence[str]], length: int) -> tuple[Hashes, Ints, Ints]:
        """Hash, text and place of every run of ``length`` known words."""
        sizes = np.array([len(text) for text in texts], dtype=np.int64)
        find = self._number.get
        ids = np.fromiter(
            (find(word, 0) for text in texts for word in text),
            dtype=np.int64,
            count=int(sizes.sum()),
        )
        count = len(ids) - length + 1
        if count <= 0:
            nothing = np.empty(0, dtype=np.int64)
            return nothing.astype(np.uint64), nothing, nothing
        text = np.repeat(np.arange(len(texts)), sizes)
        unknown = np.concatenate([[0], np.cumsum(ids == 0)])
        starts = np.flatnonzero(
            (text[:count] == text[length - 1 :]) & (unknown[length:] == unknown[:count])
        )
        code = self._code[ids]
        hashes = np.zeros(len(starts), dtype=np.uint64)
        for shift in range(length):
            hashes += code[starts + shift] * self._weight[shift]
        begins = np.cumsum(sizes) - sizes
        return hashes, text[starts], starts - begins[text[starts]]

    def _table(self, length: int, whole: bool, ignored: Sequence[Sequence[str]]) -> _Table:
        wanted = [i for i, item in enumerate(self._items) if not whole or len(item) == length]
        hashes, row, place = self._windows([self._items[i] for i in wanted], length)
        once = np.unique(np.stack([hashes, row.astype(np.uint64)], axis=1), axis=0)
        known, frequency = np.unique(once[:, 0], return_counts=True)
        unwanted, _, _ = self._windows(ignored, length)
        drop = (frequency > self._most) | np.isin(known, unwanted)
        self.ignored += int(drop.sum())
        first, at = np.unique(hashes, return_index=True)
        stays = np.isin(first, known[~drop])
        at = at[stays]
        item = np.array(wanted, dtype=np.int64)[row[at]]
        return _Table(length, whole, first[stays], item, place[at])

    def shared(self, texts: Sequence[str]) -> Iterator[Shared]:
        """Every run that ``texts`` share with the items, a text's several runs included."""
        for start in range(0, len(texts), CHUNK):
            chunk = [words_of(text) for text in texts[start : start + CHUNK]]
            for table in self._tables:
                hashes, row, place = self._windows(chunk, table.length)
                near = np.searchsorted(table.hashes, hashes)
                near = np.minimum(near, len(table.hashes) - 1)
                for hit in np.flatnonzero(table.hashes[near] == hashes).tolist():
                    begin, text = int(place[hit]), int(row[hit])
                    run = chunk[text][begin : begin + table.length]
                    item = self._items[table.item[near[hit]]]
                    there = int(table.place[near[hit]])
                    if run == item[there : there + table.length]:  # no collision of hashes
                        yield Shared(start + text, " ".join(run), table.length, table.whole)
