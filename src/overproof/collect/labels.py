"""A teacher's exact distribution over labels, read from the log-probs of its answer's tokens.

The label that an answer chooses is the longest label which the answer begins with, at a word
boundary, leading white space and (for words) ASCII letter case aside. Tokens are followed along a
trie of the labels' bytes. A token after which a single label remains possible is credited to that
label; where several remain, the node is *ambiguous* and the teacher is asked once more, with the
answer begun so far. What lies outside the top k of a node, and ambiguous nodes too light to be
worth a request, widen the interval of every label that they could belong to: such mass is never
read as zero.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LabelMass", "LabelTrie", "TopTokens", "parse_answer"]

TopTokens = Sequence[tuple[bytes, float]]
"""The alternatives at a position: bytes and probability, in any order."""

AskTop = Callable[[str], Awaitable[TopTokens | None]]
"""Given the text that the answer begins with, the top tokens that follow; ``None`` if it failed."""


@dataclass(frozen=True)
class LabelMass:
    """Bounds of the probability of each label, in the order of the labels.

    ``low`` is what was seen, ``high`` adds what may be hidden; both are of shape (labels,) and
    not normalised: ``1 - low.sum()`` is the mass of other answers and of what was not seen.
    ``point`` is the best guess: ``low``, and for a label never seen half of what a single unlisted
    token and the nodes that were not followed can have.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    point: NDArray[np.float64]
    requests: int


class LabelTrie:
    """The labels' answers as bytes.

    Args:
        answers: what the teacher writes for each label, by label.
        fold: whether letter case is ignored (words) or not (letters).
        expand_above: an ambiguous node with less probability than this is not asked for.
    """

    def __init__(
        self, answers: Mapping[str, str], *, fold: bool, expand_above: float = 0.01
    ) -> None:
        self.labels = list(answers)
        self.texts = [answers[label] for label in self.labels]
        self._fold = fold
        self._expand_above = expand_above
        self._keys = [self._folded(text.encode()) for text in self.texts]

    def _folded(self, data: bytes) -> bytes:
        return data.lower() if self._fold else data

    def candidates(self, answer: bytes) -> list[int]:
        """Labels that an answer beginning with ``answer`` (folded) can still choose."""
        longer = [i for i, key in enumerate(self._keys) if key.startswith(answer) and key != answer]
        reached = [
            i
            for i, key in enumerate(self._keys)
            if answer.startswith(key) and not _continues_word(answer[len(key) :])
        ]
        if reached:
            longer.append(max(reached, key=lambda i: len(self._keys[i])))
        return longer

    async def score(self, ask: AskTop) -> LabelMass | None:
        """Follow the trie, asking once for each ambiguous node; ``None`` if the root failed."""
        size = len(self.labels)
        low, hidden, unseen = np.zeros(size), np.zeros(size), np.zeros(size)
        requests = 0
        frontier: list[tuple[bytes, float]] = [(b"", 1.0)]
        while frontier:
            prefix, mass = frontier.pop()
            top = await ask(self._begun(prefix))
            requests += 1
            here = self.candidates(prefix) if prefix else list(range(size))
            if top is None:
                if not prefix:
                    return None
                hidden[here] += mass
                unseen[here] += mass
                continue
            children: dict[bytes, float] = {}
            for token, probability in top:
                answer = prefix + self._folded(token)
                if not prefix:
                    answer = answer.lstrip()
                    if token and not answer:  # white space alone decides nothing yet
                        hidden[here] += mass * probability
                        unseen[here] += mass * probability
                        continue
                self._credit(prefix, answer, mass * probability, low, children)
            tail = max(0.0, 1.0 - sum(p for _, p in top))
            hidden[here] += mass * tail
            unseen[here] += mass * min(tail, min((p for _, p in top), default=1.0))
            for child, weight in children.items():
                if weight >= self._expand_above:
                    frontier.append((child, weight))
                else:
                    hidden[self.candidates(child)] += weight
                    unseen[self.candidates(child)] += weight
        high = np.minimum(low + hidden, 1.0)
        point = np.where(low > 0, low, np.minimum(unseen / 2, high))
        return LabelMass(low, high, point, requests)

    def _credit(
        self,
        prefix: bytes,
        answer: bytes,
        mass: float,
        low: NDArray[np.float64],
        children: dict[bytes, float],
    ) -> None:
        """Give the mass of one token to the label it decides, or to the child node it leads to."""
        if answer == prefix:  # the end of the answer
            ended = [i for i, key in enumerate(self._keys) if key == prefix]
            if ended:
                low[ended[0]] += mass
            return
        possible = self.candidates(answer)
        if len(possible) == 1:
            low[possible[0]] += mass
        elif possible:
            children[answer] = children.get(answer, 0.0) + mass

    def _begun(self, prefix: bytes) -> str:
        """The canonical spelling of a folded prefix."""
        for text, key in zip(self.texts, self._keys, strict=True):
            if key.startswith(prefix):
                return text.encode()[: len(prefix)].decode(errors="ignore")
        return prefix.decode(errors="ignore")


def _continues_word(rest: bytes) -> bool:
    """Whether what follows a label carries its last word on (``no`` in ``nothing``)."""
    return bool(rest) and (rest[:1].isalnum() or rest[0] >= 0x80 or rest[:1] == b"_")


def parse_answer(text: str, answers: Mapping[str, str], *, fold: bool) -> str | None:
    """The label that a whole answer chooses, ``None`` if it chooses none.

    Quotes, emphasis and white space around the answer are dropped first.
    """
    trie = LabelTrie(answers, fold=fold)
    cleaned = trie._folded(text.strip().strip("\"'`*[](){}").lstrip().encode())
    reached = [
        i
        for i, key in enumerate(trie._keys)
        if cleaned.startswith(key) and not _continues_word(cleaned[len(key) :])
    ]
    return trie.labels[max(reached, key=lambda i: len(trie._keys[i]))] if reached else None
