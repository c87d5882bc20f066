"""The trained heads: how much a text asks for reasoning, grading or training data, or evades.

Each head is logistic in the concepts of a window, in their pairs ("show" and "hidden" and
"reasoning" weigh more together than apart) and in its words, at its most certain window, so that an
instruction keeps its score however long the payload around it is, as long as it stands where it is
read: in the head of the system prompt, the head or the tail of the turn (spotting.py). Concepts
carry over to phrasings that were never trained on; the words around them tell a request from a
manual that names the same things. Words are weighed only where the concepts leave it open: above a
gate that 75 to 92 % of what a head finds in its training texts passes.
Fitted by ``studies/guard_text/train.py``; the SHA-256 of lexicon and weights stands in
``heads.toml`` and is checked when they are read.
"""

from __future__ import annotations

import hashlib
import io
import tomllib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from math import exp
from operator import add

import numpy as np
import numpy.typing as npt

from overproof.errors import HashMismatchError, ModelError
from overproof.guard.text.spotting import Hits, Lexicon, read_lexicon
from overproof.guard.text.words import BUCKETS, WordWeights, unpack

__all__ = [
    "HEADS",
    "WHOLE_TEXT",
    "Head",
    "Heads",
    "build_heads",
    "digest",
    "head_features",
    "read_heads",
]

HEADS = ("elicitation", "rubric", "synthesis", "technique")
WHOLE_TEXT = "technique"  # a persona is laid out over pages; an instruction is one sentence
_WEIGHTS = "heads.toml"
_WORDS = "words.npz"
_MOST_REMEMBERED = 1 << 15
_UNIT = 1 / 64

Table = npt.NDArray[np.int16]


def head_features(lexicon: Lexicon, head: str) -> list[tuple[str, int]]:
    """Names and masks of a head's features: its concepts and their pairs; on when all bits are."""
    own = [(name, 1 << i) for i, name in enumerate(lexicon.concepts) if name.startswith(f"{head}.")]
    short = [(name.split(".", 1)[1], bit) for name, bit in own]
    pairs = [
        (f"{a}+{b}", bit_a | bit_b)
        for i, (a, bit_a) in enumerate(short)
        for b, bit_b in short[i + 1 :]
    ]
    return short + pairs


@dataclass
class Head:
    """One head's concepts. Weights are in 1/64 nat; 0 log-odds is where the threshold was put.

    Attributes:
        mask: the bits of its concepts.
        intercept: in 1/64 nat.
        gate: in 1/64 nat; where the concepts say less, words are not looked at.
        features: mask and weight, those of weight 0 left out.
    """

    mask: int
    intercept: int
    gate: int
    features: tuple[tuple[int, int], ...]
    _remembered: dict[int, int] = field(default_factory=dict)
    _probabilities: dict[int, float] = field(default_factory=dict)

    def weigh(self, window: int) -> int:
        """The log-odds of a window by its concepts alone, in 1/64 nat."""
        concepts = window & self.mask
        odds = self._remembered.get(concepts)
        if odds is None:
            odds = self.intercept + sum(
                weight for bits, weight in self.features if concepts & bits == bits
            )
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[concepts] = odds
        return odds

    def probability(self, odds: int) -> float:
        """How much a text of these log-odds is of this head's kind, 0 to 1, to four digits."""
        known = self._probabilities.get(odds)
        if known is None:
            if len(self._probabilities) >= _MOST_REMEMBERED:
                self._probabilities.clear()
            clipped = min(max(odds * _UNIT, -30.0), 30.0)
            known = self._probabilities[odds] = round(1.0 / (1.0 + exp(-clipped)), 4)
        return known


@dataclass(frozen=True)
class Heads:
    """Lexicon and heads, read and checked once. ``words``: heads in the order of `HEADS`."""

    lexicon: Lexicon
    by_name: Mapping[str, Head]
    words: WordWeights

    def odds(self, body: bytes, hits: Hits) -> list[int]:
        """The log-odds of a text by head, in the order of `HEADS`, in 1/64 nat.

        Args:
            body: the text (as `body_of` gives it).
            hits: its concepts.
        """
        windows = hits.windows()
        out: list[int] = []
        blocks: list[int] | None = None
        for i, (name, head) in enumerate(self.by_name.items()):
            if not hits.total & head.mask:
                out.append(head.intercept)
                continue
            whole = name == WHOLE_TEXT
            odds = [head.weigh(w) for w in ((hits.total,) if whole else windows)]
            if max(odds) > head.gate:
                if blocks is None:
                    blocks = self.words.blocks(body)
                words = unpack(blocks, i)
                words = list(map(add, words, words[1:])) if len(odds) > 1 else [sum(words)]
                odds = [o + w if o > head.gate else o for o, w in zip(odds, words, strict=True)]
            out.append(max(odds))
        return out


def digest(lexicon: bytes, weights: Mapping[str, Mapping[str, int]], table: Table) -> str:
    """SHA-256 over the lexicon's bytes and the weights: by head and feature, and by bucket."""
    lines = [
        f"{head} {name} {value}"
        for head in sorted(weights)
        for name, value in sorted(weights[head].items())
    ]
    words = table.astype("<i2").tobytes()
    return hashlib.sha256(lexicon + b"\n" + "\n".join(lines).encode() + b"\n" + words).hexdigest()


def build_heads(lexicon: Lexicon, weights: Mapping[str, Mapping[str, int]], table: Table) -> Heads:
    """Heads from weights by feature name (with ``intercept`` and ``gate``), and heads×BUCKETS."""
    by_name = {}
    for head in HEADS:
        own = weights[head]
        features = head_features(lexicon, head)
        mask = 0
        for _, bits in features:
            mask |= bits
        by_name[head] = Head(
            mask,
            own["intercept"],
            own["gate"],
            tuple((bits, own[name]) for name, bits in features if own.get(name)),
        )
    return Heads(lexicon, by_name, WordWeights(table))


@lru_cache(maxsize=1)
def read_heads() -> Heads:
    """The heads of the package.

    Raises:
        ModelError: lexicon or weights are missing or cannot be read.
        HashMismatchError: they are not those that were measured.
    """
    folder = resources.files(__package__)
    again = "install overproof again, or fit anew: python studies/guard_text/train.py"
    try:
        words = folder.joinpath("lexicon.toml").read_bytes()
        shipped = tomllib.loads(folder.joinpath(_WEIGHTS).read_text("utf-8"))
        with np.load(io.BytesIO(folder.joinpath(_WORDS).read_bytes())) as arrays:
            table: Table = arrays["weights"]
    except (OSError, UnicodeDecodeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"overproof/guard/text: {error}", "cannot be read", again) from error
    found = digest(words, shipped["weights"], table)
    if found != shipped["sha256"] or table.shape != (len(HEADS), BUCKETS):
        raise HashMismatchError(
            f"overproof/guard/text/{_WEIGHTS}",
            f"lexicon and weights have SHA-256 {found[:12]}…, not {shipped['sha256'][:12]}…",
            again,
        )
    return build_heads(read_lexicon(), shipped["weights"], table)
