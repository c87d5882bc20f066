"""What every watermark offers to the tests: its hits, its scores under many keys, its tail.

A scheme holds the public settings (vocabulary, share of green tokens, context width); the secret is
a key, an int or one int a depth. Keys that stand in documentation, or that anyone would try first,
are refused: the rank among alternates is valid only for a secret drawn from their distribution.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from overproof.audit.watermarks.pairs import Pairs
from overproof.errors import ConfigError
from overproof.records.audit import PValue

__all__ = ["Key", "Progress", "Scheme", "fresh_key", "make_scheme", "refuse_guessable"]

Key = int | tuple[int, ...]
Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
# Keys that documentation, papers and tutorials use.
PUBLISHED = frozenset({
    15485863, 15485867, 35317, 123456, 1234567, 12345678, 123456789, 1234567890, 987654321,
    0xDEADBEEF, 0xCAFEBABE, 0x12345678, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, 1_000_000_007,
})  # fmt: skip
SHORTEST = 1 << 24
SETTINGS = {
    "kgw": ("share", "seeding", "context_width"),
    "kgw-selfhash": ("share", "context_width"),
    "unigram": ("share",),
    "gumbel": ("width",),
    "synthid": ("ngram_len", "depths", "table_size", "table_seed"),
}


@runtime_checkable
class Scheme(Protocol):
    """A watermark with its shipped keyed function.

    Attributes:
        name: as on the command line.
        vocabulary: size of the vocabulary that it draws over.
        width: tokens of context before the scored one.
        pad: what stands before a text's first token; None to score full windows only.
        expected: mean hit of one pair under a random key.
        spread: standard deviation of one hit under a random key.
    """

    @property
    def name(self) -> str:
        """As on the command line."""

    @property
    def vocabulary(self) -> int:
        """Size of the vocabulary."""

    @property
    def width(self) -> int:
        """Tokens of context."""

    @property
    def pad(self) -> int | None:
        """What stands before a text."""

    @property
    def expected(self) -> float:
        """Mean hit."""

    @property
    def spread(self) -> float:
        """Standard deviation of a hit."""

    def draw(self, rng: np.random.Generator) -> Key:
        """A key from the distribution that alternates are drawn from."""

    def check_key(self, key: Key) -> None:
        """Refuse a key that was not drawn so, by raising ConfigError."""

    def hits(self, pairs: Pairs, key: Key) -> Floats:
        """One number a pair, larger where the watermark prefers it, shape (n,)."""

    def scan(self, pairs: Pairs, keys: Sequence[Key], progress: Progress | None = None) -> Floats:
        """Weighted sum of the hits under each key, shape (keys,)."""

    def tail(self, pairs: Pairs, key: Key, score: float) -> PValue:
        """P(a random key scores as high), with the text held fixed."""


def refuse_guessable(name: str, key: Key, low: int, high: int) -> int:
    """The key as an int in [low, high), or an error.

    Raises:
        ConfigError: not a whole number, out of range, short, published, or of one repeated digit.
    """
    way_out = "serve with a key from a cryptographic generator, such as fresh_key(scheme)"
    if isinstance(key, bool) or not isinstance(key, (int, np.integer)):
        raise ConfigError(f"the {name} key", "is not a whole number", way_out)
    value = int(key)
    digits = {str(value), f"{value:x}"}
    if value in PUBLISHED or any(len(set(text)) == 1 for text in digits):
        raise ConfigError(
            f"the {name} key",
            "is a default or published one; anyone may have marked text with it",
            way_out,
        )
    if not low <= value < high:
        raise ConfigError(
            f"the {name} key",
            f"lies outside of [{low}, {high}), from which secret keys are drawn; "
            "a short one can be guessed",
            way_out,
        )
    return value


class _Secret(np.random.Generator):
    """A generator seeded from the operating system."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(secrets.randbits(128)))


def fresh_key(scheme: Scheme) -> Key:
    """A secret key for serving, from the operating system's randomness."""
    while True:
        key = scheme.draw(_Secret())
        try:
            scheme.check_key(key)
        except ConfigError:
            continue  # one in 2^20 or fewer looks like a published one
        return key


def make_scheme(name: str, vocabulary: int, **settings: Any) -> Scheme:
    """A scheme by its name: ``kgw``, ``kgw-selfhash``, ``unigram``, ``gumbel``, ``synthid``.

    Raises:
        ConfigError: no such scheme, or settings that it does not have.
    """
    from overproof.audit.watermarks.gumbel import Gumbel
    from overproof.audit.watermarks.kgw import Kgw
    from overproof.audit.watermarks.synthid import SynthId
    from overproof.audit.watermarks.unigram import Unigram

    known: dict[str, Callable[..., Scheme]] = {
        "kgw": Kgw,
        "kgw-selfhash": lambda vocabulary, **more: Kgw(vocabulary, seeding="selfhash", **more),
        "unigram": Unigram,
        "gumbel": Gumbel,
        "synthid": SynthId,
    }
    if name not in known:
        raise ConfigError(f"watermark {name!r}", "is not known", f"one of {', '.join(known)}")
    if not isinstance(vocabulary, int) or vocabulary < 2:
        raise ConfigError("vocabulary", f"is {vocabulary!r}", "give the teacher's vocabulary size")
    way_out = f"its settings: {', '.join(SETTINGS[name])}"
    for setting in settings:
        if setting not in SETTINGS[name]:
            raise ConfigError(f"watermark {name!r}", f"has no setting {setting!r}", way_out)
    try:
        return known[name](vocabulary, **settings)
    except TypeError as error:
        raise ConfigError(
            f"watermark {name!r}", "has a setting that is no number, or no word, where one belongs",
            way_out,
        ) from error  # fmt: skip
