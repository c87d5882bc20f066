"""A teacher's distribution over labels, read exactly from the log-probs of its answer's tokens.

An answer chooses the longest label that it *spells*: that it begins with, where the label ends at
the end of a token or at a word boundary. White space before it does not count, nor, for words,
ASCII letter case.

Tokens are followed along the labels' bytes. Where several labels remain possible the node is
*ambiguous*, and the teacher is asked once more with the answer begun so far. What is not seen
widens the interval of every label that it could belong to, and is never read as zero: the tail
outside a node's top k, nodes too light to be worth a request, and a label that an answer has begun
and that nothing but it can complete (with ``follow_all`` such an answer is followed to its end, and
the interval closes).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["LabelMass", "LabelTrie", "TopTokens", "parse_answer"]

TopTokens = Sequence[tuple[bytes, float]]
"""The alternatives at a position: bytes and probability, in any order."""

AskTop = Callable[[str], Awaitable[TopTokens | None]]
"""Given the text that the answer begins with, the top tokens that follow; ``None`` if it failed."""

MOST_WHITE_SPACE = 4
AFTER_A_LETTER = ".):,;\n\r\"'”’"
AROUND_ANSWERS = "\"'`*_[](){}<>“”‘’„«»‹›「」『』【】"


@dataclass(frozen=True)
class LabelMass:
    """Bounds of the probability of each label, in the order of the labels.

    ``low`` is what was seen spelled out, ``high`` adds what may be hidden; both are of shape
    (labels,) and not normalised. ``point`` is the best guess: ``low`` and the answers begun that
    only this label can complete; for a label with neither, half of what one token that is not
    listed and the nodes that were not asked can have. ``known`` is the mass that was given to one
    label each: where it is nothing, the answer tells no label from another.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    point: NDArray[np.float64]
    requests: int
    known: float = 1.0


@dataclass(frozen=True)
class _Node:
    """An answer begun: its folded bytes, the label it spells so far, and the text to go on from."""

    answer: bytes
    spelled: int | None
    begun: str | None


@dataclass
class _Tally:
    """Mass by label while the trie is walked."""

    low: NDArray[np.float64]
    begun: NDArray[np.float64]
    hidden: NDArray[np.float64]
    unlisted: NDArray[np.float64]
    children: dict[_Node, float] = field(default_factory=dict)


class LabelTrie:
    """The labels' answers as bytes.

    Args:
        answers: what the teacher writes for each label, by label.
        fold: whether ASCII letter case is ignored (words) or not (letters).
        expand_above: a node with less probability than this is not asked for.
        follow_all: whether an answer that one label alone can complete is followed, too.
    """

    def __init__(
        self,
        answers: Mapping[str, str],
        *,
        fold: bool,
        expand_above: float = 0.01,
        follow_all: bool = False,
    ) -> None:
        self._texts = [text.encode() for text in answers.values()]
        self._fold = fold
        self._expand_above = expand_above
        self._follow_all = follow_all
        self._keys = [self._folded(text) for text in self._texts]

    async def score(self, ask: AskTop) -> LabelMass | None:
        """Follow the trie, asking once for each ambiguous node; ``None`` if the root failed."""
        size = len(self._keys)
        tally = _Tally(np.zeros(size), np.zeros(size), np.zeros(size), np.zeros(size))
        root = _Node(b"", None, "")
        frontier = [(root, 1.0)]
        requests = 0
        while frontier:
            node, mass = frontier.pop()
            top = None
            if node is root or (node.begun is not None and mass >= self._expand_above):
                assert node.begun is not None
                top = await ask(node.begun)
                requests += 1
            if top is None:
                if node is root:
                    return None
                tally.hidden[self._possible(node)] += mass
                tally.unlisted[self._possible(node)] += mass
                continue
            tally.children = {}
            for token, probability in top:
                self._follow(node, token, mass * probability, tally)
            tail = max(0.0, 1.0 - sum(probability for _, probability in top))
            tally.hidden[self._possible(node)] += mass * tail
            # One token that is not listed is no likelier than the last that is.
            unlisted = min(tail, min((probability for _, probability in top), default=1.0))
            tally.unlisted[self._possible(node)] += mass * unlisted
            frontier += tally.children.items()
        high = np.minimum(tally.low + tally.begun + tally.hidden, 1.0)
        known = tally.low + tally.begun
        point = np.where(known > 0, known, tally.unlisted / 2)
        return LabelMass(tally.low, high, np.minimum(point, high), requests, float(known.sum()))

    def possible_mass(self, top: TopTokens) -> float:
        """Probability of the first tokens that can begin an answer with a label.

        Where it is nothing, the answer names none of them, whatever follows.
        """
        root = _Node(b"", None, "")
        mass = 0.0
        for token, probability in top:
            answer = self._folded(token).lstrip()
            if token and not answer:
                mass += probability  # white space: a label may follow
            elif token and (self._going_on(answer) or self._spelled(root, answer) is not None):
                mass += probability
        return mass

    def _follow(self, node: _Node, token: bytes, mass: float, tally: _Tally) -> None:
        """Give the mass of one token to the label it decides, or to the node it leads to."""
        answer = node.answer + self._folded(token)
        if not node.answer:
            answer = answer.lstrip()
        if token and not answer:  # white space alone decides nothing yet
            begun = (node.begun or "") + token.decode(errors="replace")
            child = _Node(b"", None, begun if len(begun) <= MOST_WHITE_SPACE else None)
            tally.children[child] = tally.children.get(child, 0.0) + mass
            return
        spelled = self._spelled(node, answer) if token else node.spelled
        going_on = self._going_on(answer) if token else []
        if not going_on:
            if spelled is not None:
                tally.low[spelled] += mass
        elif len(going_on) == 1 and spelled is None and not self._follow_all:
            tally.begun[going_on[0]] += mass
        else:
            child = _Node(answer, spelled, self._canonical(going_on[0], len(answer)))
            tally.children[child] = tally.children.get(child, 0.0) + mass

    def _spelled(self, node: _Node, answer: bytes) -> int | None:
        """The longest label spelled, now that the answer has grown from ``node`` to ``answer``."""
        found = node.spelled
        for i, key in enumerate(self._keys):
            if len(node.answer) < len(key) and answer.startswith(key):
                rest = answer[len(key) :].decode(errors="replace")
                if found is None or len(key) > len(self._keys[found]):
                    found = i if not _carries_on(rest) else found
        return found

    def _going_on(self, answer: bytes) -> list[int]:
        """Labels that an answer beginning with ``answer`` has not spelled yet and still can."""
        return [i for i, key in enumerate(self._keys) if key.startswith(answer) and key != answer]

    def _possible(self, node: _Node) -> list[int]:
        spelled = [] if node.spelled is None else [node.spelled]
        return self._going_on(node.answer) + spelled

    def _canonical(self, label: int, length: int) -> str | None:
        """How a label's first ``length`` bytes are written; ``None`` inside a character."""
        try:
            return self._texts[label][:length].decode()
        except UnicodeDecodeError:
            return None

    def _folded(self, data: bytes) -> bytes:
        return data.lower() if self._fold else data


def _carries_on(rest: str) -> bool:
    """Whether what follows a label carries its last word on (``no`` in ``nothing``).

    Scripts written without spaces have no word boundary to ask for. A character cut in half by
    the end of a token (U+FFFD here) is taken as carrying on.
    """
    if not rest:
        return False
    first = rest[0]
    if first in "_\ufffd":
        return True
    return first.isalnum() and unicodedata.east_asian_width(first) not in ("W", "F")


def parse_answer(text: str, answers: Mapping[str, str], *, fold: bool) -> str | None:
    """The label that a whole answer chooses, ``None`` if it chooses none.

    White space, quotes, brackets and emphasis around the answer are dropped first. A letter
    (``fold`` false) must stand alone: "A." is one, "A difficult question" is not.
    """

    def folded(value: str) -> str:
        value = unicodedata.normalize("NFC", value)
        return value.casefold() if fold else value

    said = folded(text).strip()
    found: str | None = None
    for label, answer in answers.items():
        wanted = folded(answer)
        for begun in (said, said.lstrip(AROUND_ANSWERS + " ")):
            rest = begun[len(wanted) :].lstrip("*_`")
            alone = fold or not rest.strip() or rest.lstrip(" ")[0] in AFTER_A_LETTER
            if begun.startswith(wanted) and not _carries_on(rest) and alone:
                if found is None or len(wanted) > len(folded(answers[found])):
                    found = label
                break
    return found
