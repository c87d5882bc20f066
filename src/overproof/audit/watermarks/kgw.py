"""Green lists seeded by the context, exactly as transformers ships them (on a CPU).

Kirchenbauer et al., arXiv 2301.10226, and 2306.04634 for self-hash; the seeds are those of
``WatermarkLogitsProcessor``. Left-hash reads the last token alone, whatever ``context_width`` says;
self-hash reads the last ``width`` tokens, the candidate itself among them. Since torch seeds its
generator with 32 bits, a left-hash key counts only modulo 2^32, and after token 0 every key gives
the same list: such pairs say nothing and are left out of the tail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from overproof.audit.watermarks.kgw_lists import WRAP, group_contexts, related_keys, scan_lists
from overproof.audit.watermarks.mersenne import HeadOfPermutation
from overproof.audit.watermarks.pairs import Pairs
from overproof.audit.watermarks.schemes import SHORTEST, Key, Progress, refuse_guessable
from overproof.audit.watermarks.tails import (
    Lattice,
    bound_of_lists,
    chernoff_bernoulli,
    hypergeometric,
    lattice_tail,
)
from overproof.errors import ConfigError
from overproof.records.audit import Exactness, PValue

__all__ = ["Kgw"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
TABLE = 1_000_003  # of the hash that self-hash looks tokens up in


@dataclass(frozen=True)
class Kgw:
    """transformers' ``WatermarkingConfig``.

    Attributes:
        vocabulary: size of the vocabulary of the teacher's *model* (its logits).
        share: ``greenlist_ratio``.
        seeding: ``lefthash`` or ``selfhash``.
        context_width: as given to transformers.
    """

    vocabulary: int
    share: float = 0.25
    seeding: str = "lefthash"
    context_width: int = 1
    pad: int | None = None

    def __post_init__(self) -> None:
        if self.seeding not in {"lefthash", "selfhash"}:
            raise ConfigError("seeding", f"is {self.seeding!r}", "lefthash or selfhash")
        if not 0 < self.share < 1 or self.green < 1:
            raise ConfigError("share", f"is {self.share}", "give the share of green tokens, 0 to 1")
        if self.context_width < 1:
            raise ConfigError("context_width", f"is {self.context_width}", "give 1 or more")

    @property
    def name(self) -> str:
        """As on the command line."""
        return "kgw" if self.seeding == "lefthash" else "kgw-selfhash"

    @property
    def width(self) -> int:
        """Tokens before the scored one that its seed depends on."""
        return 1 if self.seeding == "lefthash" else self.context_width - 1

    @property
    def green(self) -> int:
        """Green tokens in every list."""
        return int(self.vocabulary * self.share)

    @property
    def expected(self) -> float:
        """Share of green tokens: of the list, not of its nominal size."""
        return self.green / self.vocabulary

    @property
    def spread(self) -> float:
        """Of one hit."""
        return float(np.sqrt(self.expected * (1 - self.expected)))

    def draw(self, rng: np.random.Generator) -> Key:
        """Between 2^24 and 2^32: more would be cut off by torch."""
        return int(rng.integers(SHORTEST, 1 << 32))

    def check_key(self, key: Key) -> None:
        """Refuse transformers' default, short keys and published ones."""
        refuse_guessable(self.name, key, SHORTEST, 1 << 32)

    def related(self, key: Key, count: int, rng: np.random.Generator) -> list[Key]:
        """Alternates that cost less than half as much as fresh ones; see `related_keys`."""
        assert isinstance(key, int)
        assert self.seeding == "lefthash", "self-hash seeds share nothing"
        return list(related_keys(key, count, rng, self._could_be_real))

    def _could_be_real(self, key: int) -> bool:
        try:
            self.check_key(key)
        except ConfigError:
            return False
        return True

    def hits(self, pairs: Pairs, key: Key) -> Floats:
        """1.0 for a green token, 0.0 for a red one."""
        return self._hits(self._plan(pairs), key)

    def _hits(self, plan: _LeftPlan | _SelfPlan, key: Key) -> Floats:
        assert isinstance(key, int)
        found = np.zeros(plan.size)
        for chosen, tokens, seed in plan.seeds(key):
            found[chosen] = plan.head.holds(seed, tokens)
        return found

    def _plan(self, pairs: Pairs) -> _LeftPlan | _SelfPlan:
        return _LeftPlan(self, pairs) if self.seeding == "lefthash" else _SelfPlan(self, pairs)

    def scan(self, pairs: Pairs, keys: Sequence[Key], progress: Progress | None = None) -> Floats:
        """Green pairs by key. Each different list is drawn up once."""
        whole = [key for key in keys if isinstance(key, int)]
        assert len(whole) == len(keys)
        if self.seeding == "lefthash":
            groups = group_contexts(pairs, self.vocabulary, self.green)
            return scan_lists(groups, whole, progress)
        plan = self._plan(pairs)
        totals = np.zeros(len(keys))
        for number, key in enumerate(keys):
            found = self._hits(plan, key)
            totals[number] = found.sum() if pairs.weights is None else found @ pairs.weights
            if progress is not None:
                progress(number + 1, len(keys))
        return totals

    def greenlist(self, context: Sequence[int], key: int) -> Ints:
        """Token ids of one left-hash green list, in torch's order."""
        seed = (key * int(context[-1])) % WRAP
        return HeadOfPermutation(self.vocabulary, self.green).values(seed)

    def tail(self, pairs: Pairs, key: Key, score: float) -> PValue:
        """Hypergeometric within a context, contexts convolved; a bound where pairs have weights.

        Raises:
            ConfigError: negative weights under self-hash, whose pairs share hits in ways that the
                bound for signed weights does not cover.
        """
        free = self._depends_on_key(pairs)
        fixed = 0.0
        if not free.all():
            dull = pairs.take(~free)
            found = self.hits(dull, key)
            fixed = float(found.sum() if dull.weights is None else found @ dull.weights)
        pairs, score = pairs.take(free), score - fixed
        if pairs.weights is not None and (pairs.weights < 0).any():
            if self.seeding == "selfhash":
                raise ConfigError(
                    self.name, "cannot be held against a reference", "test it without one"
                )
            context_of = np.unique(pairs.contexts[:, -1], return_inverse=True)[1]
            log_p = bound_of_lists(pairs.weights, context_of, self.vocabulary, self.green, score)
            how, method = (
                Exactness.BOUND,
                "Hoeffding's bound for lists of a fixed size, signed weights",
            )
        elif pairs.weights is not None:
            log_p = chernoff_bernoulli(pairs.weights, self.expected, score)
            how, method = Exactness.BOUND, "Chernoff bound on a weighted sum of green tokens"
        else:
            log_p = lattice_tail(self._parts(pairs, key), round(score))
            how, method = (
                Exactness.CONDITIONAL,
                "hypergeometric within each context, convolved over contexts",
            )
        return PValue(
            float(np.exp(log_p)),
            how,
            method,
            "Under a key that the suspect never saw, each context gets a green list of its own, "
            "drawn uniformly and independently of the others.",
            log10=float(log_p / np.log(10)),
        )

    def _depends_on_key(self, pairs: Pairs) -> npt.NDArray[np.bool_]:
        if self.seeding == "selfhash":
            return np.ones(len(pairs), dtype=bool)
        return np.asarray(pairs.contexts[:, -1] != 0)

    def _parts(self, pairs: Pairs, key: Key) -> list[Lattice]:
        if self.seeding == "selfhash":
            # Pairs that share the seed and the token share the hit: they count as one draw.
            assert isinstance(key, int)
            sizes = _SelfPlan(self, pairs).groups(key)[1]
            weights, times = np.unique(sizes, return_counts=True)
            return [
                Lattice(0, _yes_or_no(int(w), self.expected), int(t))
                for w, t in zip(weights, times, strict=True)
            ]
        _, sizes = np.unique(pairs.contexts[:, -1], return_counts=True)
        drawn, times = np.unique(sizes, return_counts=True)
        return [
            hypergeometric(self.vocabulary, self.green, int(m), int(t))
            for m, t in zip(drawn, times, strict=True)
        ]


class _LeftPlan:
    """Pairs by their last context token: one list answers for all of them."""

    def __init__(self, scheme: Kgw, pairs: Pairs) -> None:
        self.size = len(pairs)
        self.head = HeadOfPermutation(scheme.vocabulary, scheme.green)
        last = pairs.contexts[:, -1]
        order = np.argsort(last, kind="stable")
        starts = np.flatnonzero(np.diff(last[order], prepend=-1))
        self._groups = [
            (chosen, pairs.tokens[chosen], int(last[chosen[0]]))
            for chosen in np.split(order, starts[1:])
            if len(chosen)
        ]

    def seeds(self, key: int) -> Iterator[tuple[Ints, Ints, int]]:
        """Indices, tokens and the seed of each context."""
        for chosen, tokens, context in self._groups:
            yield chosen, tokens, (key * context) % WRAP


class _SelfPlan:
    """Pairs by seed and token, which under self-hash depend on the key."""

    def __init__(self, scheme: Kgw, pairs: Pairs) -> None:
        self.size = len(pairs)
        self.head = HeadOfPermutation(scheme.vocabulary, scheme.green)
        self._table = HeadOfPermutation(TABLE, min(scheme.vocabulary, TABLE))
        self._windows = np.column_stack([pairs.contexts, pairs.tokens])
        self._tokens = pairs.tokens

    def _seeds(self, key: int) -> Ints:
        hashed = self._table.values(key) + 1
        a = hashed[self._windows % TABLE]
        b = hashed[self._tokens % TABLE]
        product = np.int64(key) * a * b[:, None]  # wraps around at 2^63, as torch does
        return np.asarray(product.min(axis=1))

    def groups(self, key: int) -> tuple[list[Ints], Ints]:
        """Indices of the pairs that share seed and token, and how many each group has."""
        both = np.column_stack([self._seeds(key), self._tokens])
        _, inverse, sizes = np.unique(both, axis=0, return_inverse=True, return_counts=True)
        order = np.argsort(inverse.ravel(), kind="stable")
        return np.split(order, np.cumsum(sizes)[:-1]), sizes

    def seeds(self, key: int) -> Iterator[tuple[Ints, Ints, int]]:
        """Indices, the one token and the seed of each group."""
        if not self.size:
            return
        seeds = self._seeds(key)
        for chosen in self.groups(key)[0]:
            first = chosen[:1]
            yield chosen, self._tokens[first], int(seeds[first[0]]) % WRAP


def _yes_or_no(weight: int, share: float) -> Floats:
    """Log-probabilities of 0 and ``weight``, nothing between."""
    found = np.full(weight + 1, -np.inf)
    found[0], found[weight] = np.log1p(-share), np.log(share)
    return found
