"""Near-duplicates: exact Jaccard similarity of character shingle sets, by sparse products.

Two texts are near-duplicates when the Jaccard similarity of their sets of character 5-grams
reaches a threshold (Broder, *On the resemblance and containment of documents*, 1997). Nothing is
sampled or sketched: candidates come from the prefix filter (Chaudhuri, Ganti and Kaushik,
*A primitive operator for similarity joins*, ICDE 2006; Bayardo, Ma and Srikant, WWW 2007), which
loses no pair, and each is then checked exactly.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

__all__ = ["SHINGLE_SIZE", "fold", "jaccard_pairs", "shingle_matrix"]

SHINGLE_SIZE = 5
_CELLS = 1 << 22  # entries of one block's product at most, about 50 MiB
_PAIRS = 1 << 16  # candidate pairs checked at once

Ints = npt.NDArray[np.int64]


def fold(text: str) -> str:
    """``text`` up to Unicode normal form (NFKC), case and white space, as exact hashes fold it."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def shingle_matrix(texts: Sequence[str], size: int = SHINGLE_SIZE) -> csr_matrix:
    """Which text holds which character shingle.

    Args:
        texts: n texts; they are folded first. One shorter than ``size`` is one padded shingle.
        size: characters a shingle.

    Returns:
        A binary int32 matrix, n x number of distinct shingles. Columns run from the rarest shingle
        to the commonest, so that the first entries of a row are its most telling ones.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}")
    folded = [fold(text).ljust(size, "\0") for text in texts]
    if not folded:
        return csr_matrix((0, 0), dtype=np.int32)
    lengths = np.array([len(text) for text in folded], dtype=np.int64)
    points = np.frombuffer("".join(folded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    codes = _window_codes(points, size)
    row = np.repeat(np.arange(len(folded)), lengths)
    ends = np.repeat(np.cumsum(lengths), lengths)
    starts = np.arange(len(points))
    inside = starts + size <= ends  # a shingle never runs over into the next text
    row, code = row[inside], codes[np.minimum(starts[inside], len(codes) - 1)]
    _, column = np.unique(code, return_inverse=True)
    width = int(column.max()) + 1
    cells = np.unique(row * width + column)  # a set: each shingle once a text
    row, column = cells // width, cells % width
    frequency = np.bincount(column, minlength=width)
    rank = np.empty(width, dtype=np.int64)
    rank[np.argsort(frequency, kind="stable")] = np.arange(width)
    matrix = csr_matrix(
        (np.ones(len(row), dtype=np.int32), (row, rank[column])), shape=(len(folded), width)
    )
    matrix.sort_indices()
    return matrix


def _window_codes(points: npt.NDArray[np.uint32], size: int) -> Ints:
    """One exact integer for each window of ``size`` code points; equal windows, equal integers."""
    _, inverse = np.unique(points, return_inverse=True)
    letters: Ints = inverse.astype(np.int64)
    base = int(letters.max()) + 1
    n_windows = len(letters) - size + 1
    codes = letters[:n_windows]
    for shift in range(1, size):
        if int(codes.max()) >= (2**62) // base:  # would overflow: renumber densely first
            _, inverse = np.unique(codes, return_inverse=True)
            codes = inverse.astype(np.int64)
        codes = codes * base + letters[shift : shift + n_windows]
    return codes


def jaccard_pairs(
    a: Sequence[str], b: Sequence[str] | None = None, *, threshold: float, size: int = SHINGLE_SIZE
) -> list[tuple[int, int, float]]:
    """All pairs of texts whose shingle sets overlap at least ``threshold``.

    Args:
        a: texts.
        b: texts to compare with; ``None`` compares ``a`` with itself.
        threshold: Jaccard similarity in (0, 1] from which a pair counts.
        size: characters a shingle.

    Returns:
        ``(i, j, similarity)`` sorted by i then j; ``i < j`` where ``b`` is ``None``. Remove exact
        duplicates first: m equal texts are m(m-1)/2 pairs.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must lie in (0, 1], not {threshold}")
    if not a or (b is not None and not b):
        return []
    if b is None:
        left = right = shingle_matrix(a, size)
    else:
        both = shingle_matrix([*a, *b], size)
        left, right = both[: len(a)], both[len(a) :]
    prefix_left, prefix_right = _prefix(left, threshold), _prefix(right, threshold)
    turned = prefix_right.T.tocsr()
    block = max(1, _CELLS // right.shape[0])
    pairs: list[tuple[int, int, float]] = []
    for start in range(0, left.shape[0], block):
        product = (prefix_left[start : start + block] @ turned).tocoo()
        i, j = product.row.astype(np.int64) + start, product.col.astype(np.int64)
        if b is None:
            i, j = i[j > i], j[j > i]
        pairs.extend(_checked(left, right, i, j, threshold))
    return sorted(pairs)


def _prefix(matrix: csr_matrix, threshold: float) -> csr_matrix:
    """Each row's rarest shingles, as many as two similar sets cannot all miss in each other.

    Sets x and y with Jaccard >= t share at least ceil(t |x|) elements, so among the first
    |x| - ceil(t |x|) + 1 of x in a common order, and likewise of y, one is shared.
    """
    sizes = np.diff(matrix.indptr)
    need = np.array([math.ceil(threshold * s - 1e-9) for s in sizes.tolist()], dtype=np.int64)
    keep = sizes - need + 1
    position = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], sizes)
    kept = position < np.repeat(keep, sizes)
    rows = np.repeat(np.arange(matrix.shape[0]), sizes)[kept]
    return csr_matrix(
        (np.ones(len(rows), dtype=np.int32), (rows, matrix.indices[kept])), shape=matrix.shape
    )


def _checked(
    left: csr_matrix, right: csr_matrix, i: Ints, j: Ints, threshold: float
) -> list[tuple[int, int, float]]:
    """The candidate pairs whose exact Jaccard similarity reaches the threshold."""
    size_left, size_right = np.diff(left.indptr), np.diff(right.indptr)
    found: list[tuple[int, int, float]] = []
    close = np.minimum(size_left[i], size_right[j]) >= (
        threshold * np.maximum(size_left[i], size_right[j]) - 1e-9
    )
    i, j = i[close], j[close]
    for start in range(0, len(i), _PAIRS):
        rows, columns = i[start : start + _PAIRS], j[start : start + _PAIRS]
        shared = np.asarray(left[rows].multiply(right[columns]).sum(axis=1)).ravel()
        similarity = shared / (size_left[rows] + size_right[columns] - shared)
        hit = similarity >= threshold - 1e-12
        found.extend(
            zip(rows[hit].tolist(), columns[hit].tolist(), similarity[hit].tolist(), strict=True)
        )
    return found
