"""Upper bounds on the tail of a score whose weights have either sign, the text held fixed.

Weights of one sign let hits be bounded as if they were independent (negative association); weights
of both do not. For green lists of a fixed size Hoeffding's comparison holds for any weights: a sum
over a random subset is, in every moment-generating function, below the sum of as many draws *with*
replacement (Hoeffding 1963, theorem 4).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from overproof.audit.watermarks.gumbel import Gumbel
from overproof.audit.watermarks.kgw import Kgw
from overproof.audit.watermarks.pairs import Pairs, group_rows
from overproof.audit.watermarks.schemes import Key, Scheme
from overproof.audit.watermarks.synthid import SynthId
from overproof.audit.watermarks.tails import chernoff
from overproof.audit.watermarks.unigram import Unigram
from overproof.errors import ConfigError
from overproof.records.audit import Exactness, PValue

__all__ = ["bound_of_lists", "signed_tail"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
LARGEST = 600.0  # exponents stay below it: e^709 is the largest float


def bound_of_lists(
    weights: Floats, context_of: Ints, vocabulary: int, green: int, score: float
) -> float:
    """The logarithm of a bound on P(sum of w over green >= score), a list to each context.

    ln E exp(t sum over G of w) <= green ln(1 + sum_i (exp(t w_i) - 1) / V), context by context;
    tokens that are not listed weigh 0.

    Args:
        weights: of (context, token) pairs, either sign, shape (n,).
        context_of: the context of each pair, numbered from 0, shape (n,).
        vocabulary: V.
        green: size of every list.
        score: what was observed.
    """
    scale = float(np.abs(weights).max(initial=0.0))
    if scale == 0:
        return 0.0
    w = weights / scale
    contexts = int(context_of.max()) + 1

    def log_mgf(t: float) -> float:
        lifted = np.bincount(context_of, np.expm1(t * w), contexts)
        return float(green * np.log1p(np.maximum(lifted / vocabulary, -1 + 1e-15)).sum())

    mean = green / vocabulary * float(w.sum())
    return chernoff(log_mgf, score / scale, mean, largest=LARGEST)


def _exponential(weights: Floats, score: float) -> float:
    scale = float(np.abs(weights).max(initial=0.0))
    if scale == 0:
        return 0.0
    w = weights / scale
    top = float(w.max())
    largest = 1.0 / top if top > 0 else LARGEST
    return chernoff(
        lambda t: -float(np.log1p(-t * w).sum()), score / scale, float(w.sum()), largest=largest
    )


def _means_of_bits(weights: Floats, share: float, depths: int, score: float) -> float:
    scale = float(np.abs(weights).max(initial=0.0))
    if scale == 0:
        return 0.0
    w = weights / scale

    def log_mgf(t: float) -> float:
        each = np.logaddexp(np.log1p(-share), np.log(share) + t * w / depths)
        return float(depths * each.sum())

    return chernoff(log_mgf, score / scale, share * float(w.sum()), largest=LARGEST)


def signed_tail(scheme: Scheme, pairs: Pairs, key: Key, score: float) -> PValue:
    """A bound on the chance of such a score under a key that nobody saw.

    Args:
        scheme: left-hash KGW, Unigram, Gumbel-max or SynthID-Text.
        pairs: with signed weights.
        key: the real one: contexts whose list is the same under every key are taken at their value.
        score: the weighted sum of hits under it.

    Raises:
        ConfigError: self-hash KGW, whose pairs share hits in ways that this bound does not cover.
    """
    weights = np.ones(len(pairs)) if pairs.weights is None else pairs.weights
    assumption = "Under a key that the suspect never saw, the hits of different contexts are drawn "
    if isinstance(scheme, Kgw) and scheme.seeding == "selfhash":
        raise ConfigError(
            "kgw-selfhash", "cannot be held against a reference", "test it without one"
        )
    if isinstance(scheme, Gumbel):
        log_p = _exponential(weights, score)
        method = "Chernoff bound on a signed sum of exponentials"
    elif isinstance(scheme, SynthId):
        log_p = _means_of_bits(weights, scheme.expected, scheme.depths, score)
        method = "Chernoff bound on a signed sum of g-values"
    elif isinstance(scheme, Kgw | Unigram):
        free = np.ones(len(pairs), dtype=bool)
        if isinstance(scheme, Kgw):
            free = pairs.contexts[:, -1] != 0  # seed 0 whatever the key: always the same list
        fixed = float(scheme.hits(pairs.take(~free), key) @ weights[~free]) if not free.all() else 0
        last = pairs.contexts[free][:, -1:] if isinstance(scheme, Kgw) else pairs.contexts[free]
        _, context_of, _ = group_rows(last)
        log_p = bound_of_lists(
            weights[free], context_of, scheme.vocabulary, scheme.green, score - fixed
        )
        method = "Hoeffding's bound for lists of a fixed size, signed weights"
    else:
        raise ConfigError(scheme.name, "cannot be held against a reference", "test it without one")
    return PValue(
        float(np.exp(log_p)),
        Exactness.BOUND,
        method,
        assumption + "uniformly and independently of each other.",
        log10=float(log_p / np.log(10)),
    )
