"""Logistic regression on concepts, their pairs and words, fitted by accelerated gradient steps.

A fixed number of fixed steps (Nesterov 1983), with no line search and no randomness, rounded to
1/64 nat: the weights do not depend on the order of additions in a library's sums.

Legend: T texts, W windows of all texts, F features of one head: concepts and pairs, then buckets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from corpus import Text
from scipy import sparse

from overproof.guard.text.heads import WHOLE_TEXT, head_features
from overproof.guard.text.spotting import BLOCK, Hits, Lexicon, body_of
from overproof.guard.text.words import BUCKETS, words_of

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
STEPS = 200
ROUNDS = 3
L2 = 1e-3


@dataclass(frozen=True)
class Spotted:
    """One text: its concepts, and by window the buckets of its words."""

    hits: Hits
    words: list[npt.NDArray[np.int64]]
    all_words: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Every window of every text.

    ``x``: W×F, concepts 0 or 1, words counted; ``first``: T+1, where each text's windows begin.
    """

    x: sparse.csr_matrix
    first: Places


def spot(lexicon: Lexicon, text: Text) -> Spotted:
    """The concepts and words of a text, as the heads see them."""
    body = body_of(text.system, text.turn)
    hits = lexicon.spot(body)
    starts, buckets = words_of(body)
    block = starts // BLOCK
    n = len(hits.blocks)
    words = [buckets[(block == i) | (block == i + 1)] for i in range(n - 1)] if n > 2 else [buckets]
    return Spotted(hits, words, buckets)


def windows_of(lexicon: Lexicon, texts: list[Spotted], head: str, word_size: float) -> Windows:
    """The features of every window of every text; a word counts ``word_size``, a concept 1."""
    features = [bits for _, bits in head_features(lexicon, head)]
    known: dict[int, list[int]] = {}
    mask = 0
    for bits in features:
        mask |= bits
    columns: list[int] = []
    ends, first = [0], [0]
    for text in texts:
        if head == WHOLE_TEXT:
            pairs = [(text.hits.total, text.all_words)]
        else:
            pairs = list(zip(text.hits.windows(), text.words, strict=True))
        for window, words in pairs:
            concepts = window & mask
            if concepts not in known:
                known[concepts] = [j for j, bits in enumerate(features) if concepts & bits == bits]
            columns += known[concepts]
            columns += (words + len(features)).tolist()
            ends.append(len(columns))
        first.append(len(ends) - 1)
    shape = (len(ends) - 1, len(features) + BUCKETS)
    at = np.array(columns)
    sizes = np.where(at < len(features), 1.0, word_size)
    x = sparse.csr_matrix((sizes, at, np.array(ends)), shape)
    x.sum_duplicates()
    return Windows(x, np.array(first))


def best_windows(windows: Windows, odds: Floats, texts: Places) -> Places:
    """Of each of ``texts`` the window with the highest odds."""
    spans = zip(windows.first[texts], windows.first[texts + 1], strict=True)
    return np.array([lo + int(np.argmax(odds[lo:hi])) for lo, hi in spans])


def text_odds(windows: Windows, weights: Floats, intercept: float, texts: Places) -> Floats:
    """The log-odds of each of ``texts``: of its best window."""
    odds = windows.x @ weights + intercept
    best: Floats = np.maximum.reduceat(odds, windows.first[:-1])[texts]
    return best


def shares_of(texts: list[Text], label: npt.NDArray[np.bool_]) -> Floats:
    """What each text counts for: families by the root of their size, honest ones most."""
    sizes: dict[str, int] = {}
    for text in texts:
        sizes[text.family] = sizes.get(text.family, 0) + 1
    share = np.array(
        [(1.0 if text.head == "ordinary" else 0.5) / np.sqrt(sizes[text.family]) for text in texts]
    )
    share[label] *= 0.5 / share[label].sum()
    share[~label] *= 0.5 / share[~label].sum()
    return share


def fit(
    windows: Windows, texts: list[Text], head: str, kept: Places, l2: float = L2
) -> tuple[Floats, float]:
    """Weights (F) and intercept of one head, from the texts at ``kept``, by their best windows."""
    own = [texts[i] for i in kept]
    label = np.array([text.head == head for text in own])
    share = shares_of(own, label)
    weights, intercept = np.zeros(windows.x.shape[1]), 0.0
    odds = np.asarray(windows.x.sum(axis=1)).ravel()
    for _ in range(ROUNDS):
        best = windows.x[best_windows(windows, odds, kept)]
        weights, intercept = _descend(
            best, label, share, l2=l2, weights=weights, intercept=intercept
        )
        odds = windows.x @ weights
    return weights, intercept


def _descend(
    x: sparse.csr_matrix,
    label: npt.NDArray[np.bool_],
    share: Floats,
    *,
    l2: float,
    weights: Floats,
    intercept: float,
) -> tuple[Floats, float]:
    xt = x.T.tocsr()
    size = np.asarray(x.multiply(x).sum(axis=1)).ravel()
    step = 1.0 / (0.25 * (float(size @ share) + 1.0) + l2)
    ahead, ahead_b = weights.copy(), intercept
    for k in range(STEPS):
        residual = share * (1.0 / (1.0 + np.exp(-(x @ ahead + ahead_b))) - label)
        moved = ahead - step * (xt @ residual + l2 * ahead)
        moved_b = ahead_b - step * float(residual.sum())
        momentum = k / (k + 3.0)
        ahead = moved + momentum * (moved - weights)
        ahead_b = moved_b + momentum * (moved_b - intercept)
        weights, intercept = moved, moved_b
    return weights, intercept
