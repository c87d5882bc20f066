"""The rank of the real key among fresh random ones: a p-value that no template can break.

Whatever made the text, if it does not depend on the key, the real key is one draw among M + 1 from
the same distribution, and its rank is uniform. Nothing is assumed of the text, the tokens or the
keyed function; the price is the floor, 1 / (M + 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from overproof.audit.watermarks.kgw import Kgw
from overproof.audit.watermarks.pairs import Pairs
from overproof.audit.watermarks.schemes import Key, Progress, Scheme
from overproof.errors import ConfigError

__all__ = [
    "AlternateKeyRank",
    "alternate_key_rank",
    "alternate_keys",
    "alternates_needed",
    "cohort_ranks",
    "rank_p",
]

Floats = npt.NDArray[np.float64]
FEWEST = 19
STREAM = 0x616C7465726E6174  # keeps the alternates apart from other uses of the same seed


@dataclass(frozen=True)
class AlternateKeyRank:
    """The rank of one key's score.

    Attributes:
        p: (1 + alternates that score at least as high) / (M + 1).
        floor: 1 / (M + 1).
        score: under the real key.
        alternates: scores under the alternate keys, shape (M,).
    """

    p: float
    floor: float
    score: float
    alternates: Floats

    @property
    def at_least(self) -> int:
        """How many alternates score at least as high."""
        return int((self.alternates >= self.score).sum())


def rank_p(score: float, alternates: npt.ArrayLike) -> float:
    """The p-value (1 + #{alternates >= score}) / (M + 1); ties count against the key."""
    others = np.asarray(alternates, dtype=np.float64)
    return (1 + int((others >= score).sum())) / (len(others) + 1)


def alternates_needed(alpha: float, hypotheses: int = 1) -> int:
    """The fewest alternates with which ``alpha`` can be reached, Holm over ``hypotheses``."""
    if not 0 < alpha < 1 or hypotheses < 1:
        raise ValueError("alpha lies between 0 and 1, hypotheses are 1 or more")
    return int(np.ceil(hypotheses / alpha - 1e-9)) - 1


def alternate_keys(scheme: Scheme, count: int, seed: int) -> list[Key]:
    """Fresh keys from the distribution of secret ones; the same for the same seed.

    Raises:
        ConfigError: fewer than 19, or a seed below zero.
    """
    _check(count, seed)
    rng = np.random.default_rng([STREAM, seed])
    keys: list[Key] = []
    while len(keys) < count:
        key = scheme.draw(rng)
        try:
            scheme.check_key(key)
        except ConfigError:
            continue  # refused for the real key, so refused here: the distributions stay the same
        keys.append(key)
    return keys


def _check(count: int, seed: int) -> None:
    if count < FEWEST:
        raise ConfigError(
            "alternate keys",
            f"{count} of them cannot give a p-value below {1 / (count + 1):.2g}",
            f"take {FEWEST} or more; 999 reach .001",
        )
    if seed < 0:
        raise ConfigError("seed", f"is {seed}", "give a whole number from 0 on")


def _alternates(scheme: Scheme, real: Sequence[Key], count: int, seed: int) -> list[Key]:
    """Alternates of the real keys: related ones where that makes them cheap."""
    if len(real) == 1 and isinstance(scheme, Kgw) and scheme.seeding == "lefthash":
        _check(count, seed)
        return scheme.related(real[0], count, np.random.default_rng([STREAM, seed]))
    return alternate_keys(scheme, count, seed)


def cohort_ranks(
    scheme: Scheme,
    pairs: Pairs,
    keys: Mapping[str, Key],
    *,
    alternates: int = 999,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, AlternateKeyRank]:
    """The rank of each cohort's key among one set of alternates.

    The alternates are shared, so the ranks depend on each other; each is valid by itself, and
    Holm's procedure holds under any dependence. A single KGW key is ranked among multiples of
    itself, which are exchangeable with it and share green lists: see `related_keys`.

    Raises:
        ConfigError: no key, a key given twice, a guessable key, or too few alternates.
    """
    if not keys:
        raise ConfigError("keys", "there is none", "give the key that the teacher served with")
    for key in keys.values():
        scheme.check_key(key)
    if len(set(keys.values())) < len(keys):
        raise ConfigError("keys", "two cohorts have the same one", "serve each with its own")
    others = _alternates(scheme, list(keys.values()), alternates, seed)
    # One scan for all, so that equal keys give equal sums to the last bit.
    scores = scheme.scan(pairs, [*keys.values(), *others], progress)
    real, rest = scores[: len(keys)], scores[len(keys) :]
    return {
        name: AlternateKeyRank(rank_p(float(score), rest), 1 / (alternates + 1), float(score), rest)
        for name, score in zip(keys, real, strict=True)
    }


def alternate_key_rank(
    scheme: Scheme,
    pairs: Pairs,
    key: Key,
    *,
    alternates: int = 999,
    seed: int = 0,
    progress: Progress | None = None,
) -> AlternateKeyRank:
    """The rank of one key. See `cohort_ranks` for arguments and errors."""
    ranks = cohort_ranks(
        scheme, pairs, {"": key}, alternates=alternates, seed=seed, progress=progress
    )
    return ranks[""]
