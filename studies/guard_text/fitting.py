"""Logistic regression on concepts and their pairs, fitted by accelerated gradient steps.

A fixed number of fixed steps (Nesterov 1983), with no line search and no randomness, rounded to
1/64 nat: the weights do not depend on the order of additions in a library's sums.

Legend: T texts, W windows of all texts, F features of one head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from corpus import Text

from overproof.guard.text.heads import head_features, windows_for
from overproof.guard.text.spotting import Hits, Lexicon, body_of

Floats = npt.NDArray[np.float64]
STEPS = 400
ROUNDS = 4
L2 = 1e-3


@dataclass
class Windows:
    """Every distinct window of every text.

    ``x``: W×F, 0 or 1; ``owner``: W, which text; ``first``: T, each text's first window.
    """

    x: Floats
    owner: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]


def spot_all(lexicon: Lexicon, texts: list[Text]) -> list[Hits]:
    """The concepts of every text."""
    return [lexicon.spot(body_of(text.system, text.turn)) for text in texts]


def windows_of(lexicon: Lexicon, hits: list[Hits], head: str) -> Windows:
    """The features of every window of every text."""
    features = [bits for _, bits in head_features(lexicon, head)]
    rows, owner, first = [], [], []
    for t, hit in enumerate(hits):
        first.append(len(owner))
        for window in sorted(windows_for(head, hit)):
            rows.append([float(window & bits == bits) for bits in features])
            owner.append(t)
    return Windows(np.array(rows), np.array(owner), np.array(first))


def text_odds(windows: Windows, weights: Floats, intercept: float) -> Floats:
    """The log-odds of each text: of its best window."""
    odds: Floats = np.maximum.reduceat(windows.x @ weights, windows.first) + intercept
    return odds


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


def fit(windows: Windows, texts: list[Text], head: str, l2: float = L2) -> tuple[Floats, float]:
    """Weights (F) and intercept of one head; a text is judged by its best window."""
    label = np.array([text.head == head for text in texts])
    share = shares_of(texts, label)
    weights, intercept = np.zeros(windows.x.shape[1]), 0.0
    for _ in range(ROUNDS):
        odds = windows.x @ weights
        best = np.array(
            [
                lo + int(np.argmax(odds[lo:hi] if odds.any() else windows.x[lo:hi].sum(axis=1)))
                for lo, hi in zip(
                    windows.first, [*windows.first[1:], len(windows.owner)], strict=True
                )
            ]
        )
        weights, intercept = _descend(
            windows.x[best], label, share, l2=l2, weights=weights, intercept=intercept
        )
    return weights, intercept


def _descend(
    x: Floats,
    label: npt.NDArray[np.bool_],
    share: Floats,
    *,
    l2: float,
    weights: Floats,
    intercept: float,
) -> tuple[Floats, float]:
    step = 1.0 / (0.25 * (float((x.sum(axis=1) * share).sum()) + 1.0) + l2)
    ahead, ahead_b = weights.copy(), intercept
    for k in range(STEPS):
        residual = share * (1.0 / (1.0 + np.exp(-(x @ ahead + ahead_b))) - label)
        moved = ahead - step * (x.T @ residual + l2 * ahead)
        moved_b = ahead_b - step * float(residual.sum())
        momentum = k / (k + 3.0)
        ahead = moved + momentum * (moved - weights)
        ahead_b = moved_b + momentum * (moved_b - intercept)
        weights, intercept = moved, moved_b
    return weights, intercept
