"""Near-duplicates among many texts: MinHash signatures, banded, each hit checked exactly.

A signature holds, for each of K hash functions, the least hash of a text's character shingles; two
texts agree in one place with a probability of their Jaccard similarity (Broder, *On the resemblance
and containment of documents*, 1997). Texts that agree in all rows of some band are candidates:
chance 1 - (1 - s^r)^b at similarity s (Leskovec, Rajaraman and Ullman, *Mining of Massive
Datasets*, 3.4). Candidates are then compared exactly, so that nothing below the threshold is ever
taken for a duplicate; what bands miss is the price of their speed, and ``Banding.recall`` says it.

Shapes: N texts, K hash functions, B bands of R rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from overproof.stats.shingles import SHINGLE_SIZE, fold

__all__ = ["Banding", "banding_for", "first_similar", "shingle_set", "signatures"]

MOST_HASHES = 128
_CHUNK = 256  # texts whose shingles are hashed at once
_WIDE = 2048  # shingles of one text that meet all hash functions at once
_CACHED = 4096  # shingle sets kept for the exact comparison
_DOUBT = 4.0  # standard errors below the threshold at which a signature rules a pair out

Signatures = npt.NDArray[np.uint32]
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Banding:
    """How a signature of ``bands`` x ``rows`` values is cut."""

    bands: int
    rows: int

    @property
    def hashes(self) -> int:
        """Values of a signature."""
        return self.bands * self.rows

    def recall(self, similarity: float) -> float:
        """The chance that two texts of that Jaccard similarity become candidates."""
        return float(1 - (1 - similarity**self.rows) ** self.bands)


def banding_for(threshold: float, recall: float = 0.99) -> Banding:
    """The longest bands, thus the fewest needless candidates, that reach ``recall``.

    Args:
        threshold: Jaccard similarity in (0, 1] at which ``recall`` must hold; above it is higher.
        recall: in (0, 1).

    Returns:
        A banding of at most 128 hash functions where one reaches the recall, else single rows, as
        many as it takes.
    """
    if not 0 < threshold <= 1 or not 0 < recall < 1:
        raise ValueError(f"threshold {threshold} or recall {recall} is out of range")
    if threshold == 1:
        return Banding(1, 16)
    for rows in range(32, 0, -1):
        needed = math.ceil(math.log(1 - recall) / math.log1p(-(threshold**rows)))
        if needed * rows <= MOST_HASHES or rows == 1:
            return Banding(needed, rows)
    raise AssertionError("unreachable")


def signatures(
    texts: Sequence[str], hashes: int, *, size: int = SHINGLE_SIZE, seed: int = 0
) -> Signatures:
    """MinHash signatures of the sets of character shingles of ``texts``, N x ``hashes``.

    Texts are folded first; one shorter than ``size`` is one padded shingle. A hash function takes
    a 32-bit hash of the shingle through an affine map modulo 2^32.
    """
    rng = np.random.default_rng(seed)
    weights: Words = rng.integers(0, 2**63, size=size, dtype=np.uint64) * np.uint64(2) + np.uint64(
        1
    )
    factor = (rng.integers(0, 2**31, size=(hashes, 1), dtype=np.uint32) << 1) | np.uint32(1)
    shift = rng.integers(0, 2**32, size=(hashes, 1), dtype=np.uint32)
    rows = np.empty((len(texts), hashes), dtype=np.uint32)
    for start in range(0, len(texts), _CHUNK):
        for offset, hashed in enumerate(_shingle_hashes(texts[start : start + _CHUNK], weights)):
            least = np.full(hashes, 2**32 - 1, dtype=np.uint32)
            for first in range(0, len(hashed), _WIDE):
                mapped = hashed[None, first : first + _WIDE] * factor
                mapped += shift
                np.minimum(least, mapped.min(axis=1), out=least)
            rows[start + offset] = least
    return rows


def _shingle_hashes(texts: Sequence[str], weights: Words) -> Iterator[npt.NDArray[np.uint32]]:
    """For each text a 32-bit hash of every window of characters."""
    size = len(weights)
    folded = [fold(text).ljust(size, "\0") for text in texts]
    points = np.frombuffer("".join(folded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    wide = points.astype(np.uint64)
    count = len(wide) - size + 1
    total = np.zeros(count, dtype=np.uint64)
    for shift in range(size):
        total += wide[shift : shift + count] * weights[shift]
    total ^= total >> np.uint64(32)  # the finaliser of splitmix64
    total *= np.uint64(0xD6E8FEB86659FD93)
    total ^= total >> np.uint64(32)
    total *= np.uint64(0xD6E8FEB86659FD93)
    hashed = (total >> np.uint64(32)).astype(np.uint32)
    begin = 0
    for text in folded:  # a shingle never runs over into the next text
        yield hashed[begin : begin + len(text) - size + 1]
        begin += len(text)


def shingle_set(text: str, size: int = SHINGLE_SIZE) -> frozenset[str]:
    """The character shingles of ``text``, folded; one of a shorter text is padded."""
    folded = fold(text).ljust(size, "\0")
    return frozenset(folded[i : i + size] for i in range(len(folded) - size + 1))


def first_similar(
    columns: Sequence[Sequence[str]],
    *,
    threshold: float,
    recall: float = 0.99,
    fixed: int = 0,
    only_fixed: bool = False,
    seed: int = 0,
) -> dict[int, tuple[int, float]]:
    """Rows that are like an earlier row that stays, each with that row and the similarity.

    Greedy: a row that is dropped drops no other. Two rows are alike where every column's Jaccard
    similarity reaches the threshold.

    Args:
        columns: one or more columns of N texts. Rows are banded by the union of their columns'
            shingles, whose similarity is at least the least of the columns'.
        threshold: Jaccard similarity of character 5-gram sets, in (0, 1].
        recall: the chance that two rows right at the threshold are compared.
        fixed: that many rows at the beginning always stay, and are not compared with each other.
        only_fixed: compare the other rows with those alone, not with each other.
        seed: of the hash functions.

    Returns:
        For each row to drop, the row that it is like and their least column similarity, which is
        exact and never below ``threshold``.
    """
    banding = banding_for(threshold, recall)
    signed = signatures(columns[0], banding.hashes, seed=seed)
    for number, column in enumerate(columns[1:], start=1):
        np.minimum(signed, signatures(column, banding.hashes, seed=seed + number), out=signed)
    cached = lru_cache(maxsize=_CACHED)(shingle_set)

    def similarity(one: int, other: int) -> float:
        least = 1.0
        for column in columns:
            a, b = cached(column[one]), cached(column[other])
            shared = len(a & b)
            least = min(least, shared / (len(a) + len(b) - shared))
            if least < threshold - 1e-12:
                break
        return least

    staying = fixed if only_fixed else len(signed)
    return _greedy(signed, banding, similarity, threshold, (fixed, staying))


def _greedy(
    signed: Signatures,
    banding: Banding,
    similarity: Callable[[int, int], float],
    threshold: float,
    ends: tuple[int, int],
) -> dict[int, tuple[int, float]]:
    fixed, staying_end = ends  # rows before these are never dropped; may drop others
    buckets = _buckets(signed, banding)
    doubt = _DOUBT * math.sqrt(threshold * (1 - threshold) / banding.hashes)
    floor = banding.hashes * (threshold - doubt)
    staying: dict[int, list[int]] = {}  # rows that stay, by bucket
    dropped: dict[int, tuple[int, float]] = {}
    for row in sorted(buckets):
        if row >= fixed:
            near = np.array(
                sorted({other for b in buckets[row] for other in staying.get(b, ())}),
                dtype=np.int64,
            )
            agree = (signed[near] == signed[row]).sum(axis=1)
            likely = np.flatnonzero(agree >= floor)
            for place in likely[np.argsort(-agree[likely], kind="stable")].tolist():
                found = similarity(row, int(near[place]))
                if found >= threshold - 1e-12:
                    dropped[row] = (int(near[place]), found)
                    break
        if row < staying_end and row not in dropped:
            for bucket in buckets[row]:
                staying.setdefault(bucket, []).append(row)
    return dropped


def _buckets(signed: Signatures, banding: Banding) -> dict[int, list[int]]:
    """For each row that shares a band with another: the numbers of the buckets it is in."""
    found: dict[int, list[int]] = {}
    serial = 0
    for band in range(banding.bands):
        key = np.zeros(len(signed), dtype=np.uint64)
        for value in signed[:, band * banding.rows : (band + 1) * banding.rows].T:
            key = (key ^ value) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        new = np.ones(len(ordered), dtype=bool)
        new[1:] = ordered[1:] != ordered[:-1]
        number = np.cumsum(new) - 1
        crowd = np.bincount(number)
        for row, bucket in zip(order.tolist(), number.tolist(), strict=True):
            if crowd[bucket] > 1:
                found.setdefault(row, []).append(serial + bucket)
        serial += len(crowd)
    return found
