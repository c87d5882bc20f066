"""Tails of a watermark score with the text held fixed: exact on a lattice, or a Chernoff bound.

Contexts are independent under the pseudo-random function's model; tokens *within* a context are
not, since a green list has a fixed size: their hits are hypergeometric, not binomial.

Weights of one sign let hits be bounded as if they were independent (negative association); weights
of both, as what goes beyond a reference has, do not: see `bound_of_lists`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize_scalar
from scipy.special import gammaln, logsumexp
from scipy.stats import gamma as gamma_distribution

__all__ = [
    "Lattice",
    "bound_of_lists",
    "chernoff",
    "chernoff_bernoulli",
    "chernoff_exponential",
    "gamma_tail",
    "hypergeometric",
    "lattice_tail",
    "log_mean_exp",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
LARGEST = 600.0  # exponents stay below it: e^709 is the largest float
SPREADS = 14.0  # half-width of the window in tilted standard deviations: wraps below 1e-40


@dataclass(frozen=True)
class Lattice:
    """``times`` independent copies of a whole number ``start + i`` with log-probabilities.

    Attributes:
        start: the smallest value.
        log_pmf: natural logarithms of the probabilities, shape (values,).
        times: how many independent copies.
    """

    start: int
    log_pmf: Floats
    times: int = 1

    @property
    def values(self) -> Floats:
        """The values, in order."""
        return self.start + np.arange(len(self.log_pmf), dtype=np.float64)


def hypergeometric(population: int, marked: int, drawn: int, times: int = 1) -> Lattice:
    """Green hits among ``drawn`` distinct tokens of a vocabulary with ``marked`` green ones."""
    low, high = max(0, drawn - (population - marked)), min(drawn, marked)
    k = np.arange(low, high + 1, dtype=np.float64)
    log_p = (
        _log_choose(marked, k)
        + _log_choose(population - marked, drawn - k)
        - _log_choose(population, np.array(float(drawn)))
    )
    return Lattice(low, log_p - logsumexp(log_p), times)


def _log_choose(n: int, k: Floats) -> Floats:
    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0))


def _tilted(parts: Sequence[Lattice], theta: float) -> tuple[float, float, float]:
    """Log moment-generating function at ``theta``, and mean and variance under the tilt."""
    total, mean, variance = 0.0, 0.0, 0.0
    for part in parts:
        logs = part.log_pmf + theta * part.values
        weight = logsumexp(logs)
        p = np.exp(logs - weight)
        centre = float(p @ part.values)
        total += part.times * float(weight)
        mean += part.times * centre
        variance += part.times * float(p @ (part.values - centre) ** 2)
    return total, mean, variance


def lattice_tail(parts: Sequence[Lattice], score: int) -> float:
    """The logarithm of P(sum of all parts >= ``score``), exact up to rounding (about 1e-8).

    The sum is tilted so that its mean lies at the score (Siegmund 1976), convolved by a discrete
    Fourier transform over a window of 28 tilted standard deviations, and tilted back: the tail
    keeps its relative precision far below the smallest float.
    """
    low = sum(part.start * part.times for part in parts)
    high = sum((part.start + len(part.log_pmf) - 1) * part.times for part in parts)
    if score <= low:
        return 0.0
    if score > high:
        return -np.inf
    theta = _saddle(parts, score, low, high)
    log_mgf, mean, variance = _tilted(parts, theta)
    half = int(np.ceil(SPREADS * np.sqrt(variance))) + 8
    size = 1 << int(np.ceil(np.log2(min(2 * half + 1, high - low + 1) + 1)))
    first = max(low, round(mean) - half) if high - low + 1 > size else low
    transform = np.ones(size // 2 + 1, dtype=np.complex128)
    for part in parts:
        logs = part.log_pmf + theta * part.values
        p = np.exp(logs - logsumexp(logs))
        folded = np.bincount(np.arange(len(p)) % size, weights=p, minlength=size)
        transform *= np.fft.rfft(folded) ** part.times
    sums = np.fft.irfft(transform, n=size)  # index i stands for low + i, wrapped
    where = first + np.arange(size)
    pmf = np.clip(sums[(where - low) % size], 0.0, None)
    tail = where >= score
    if not tail.any():
        return -np.inf
    weighted = pmf[tail] * np.exp(-theta * (where[tail] - score))
    found = float(np.log(max(weighted.sum(), np.finfo(float).tiny)))
    return min(0.0, found + log_mgf - theta * score)


def _saddle(parts: Sequence[Lattice], score: int, low: int, high: int) -> float:
    if score <= _tilted(parts, 0.0)[1]:
        return 0.0
    target = min(float(score), high - 0.5) if high - low > 1 else float(score) - 0.25

    def gap(theta: float) -> float:
        return _tilted(parts, theta)[1] - target

    top = 1e-6
    while gap(top) < 0 and top < 500:
        top *= 2
    return float(brentq(gap, 0.0, top, xtol=1e-9)) if gap(top) > 0 else top


def chernoff(
    log_mgf: Callable[[float], float], score: float, mean: float, *, largest: float = np.inf
) -> float:
    """The logarithm of Chernoff's bound ``min_t exp(K(t) - t score)``; 0 below the mean.

    It bounds P(sum >= score).

    Any t >= 0 gives a valid bound, so an inexact minimum costs power, never validity.

    Args:
        log_mgf: K(t), the log moment-generating function, or an upper bound on it.
        score: the observed sum.
        mean: of the sum.
        largest: t must stay below it (where K is infinite).
    """
    if score <= mean:
        return 0.0

    def at(log_t: float) -> float:
        t = float(np.exp(log_t))
        if t >= largest:
            return np.inf
        value = log_mgf(t) - t * score
        return value if np.isfinite(value) else np.inf

    upper = float(np.log(largest)) if np.isfinite(largest) else 7.0
    found = minimize_scalar(at, bounds=(-25.0, upper), method="bounded", options={"xatol": 1e-10})
    return min(0.0, float(found.fun))


def chernoff_bernoulli(weights: npt.ArrayLike, share: float, score: float) -> float:
    """The logarithm of a bound on P(sum of w_i green_i >= score), w >= 0.

    Independent contexts, and within one a fixed number of green tokens: such indicators are
    negatively associated (Joag-Dev and Proschan 1983), so the product of the single
    moment-generating functions bounds that of the sum, as in Hoeffding 1963, section 6.
    """
    w = np.asarray(weights, dtype=np.float64)
    if not len(w) or w.max() <= 0:
        return 0.0
    scale = float(w.max())
    w = w / scale

    def log_mgf(t: float) -> float:
        return float(np.logaddexp(np.log1p(-share), np.log(share) + t * w).sum())

    return chernoff(log_mgf, score / scale, share * float(w.sum()))


def chernoff_exponential(weights: Floats, score: float) -> float:
    """The logarithm of a bound on P(sum of w_i E_i >= score), E standard exponential.

    Args:
        weights: either sign, not all of them 0, shape (n,).
        score: what was observed.
    """
    scale = float(np.abs(weights).max())
    w = weights / scale
    top = float(w.max())
    return chernoff(
        lambda t: -float(np.log1p(-t * w).sum()),
        score / scale,
        float(w.sum()),
        largest=1.0 / top if top > 0 else LARGEST,
    )


def bound_of_lists(
    weights: Floats, context_of: Ints, vocabulary: int, green: int, score: float
) -> float:
    """The logarithm of a bound on P(sum of w over green >= score), a list to each context.

    A sum over a random subset is, in every moment-generating function, below the sum of as many
    draws *with* replacement, whatever the signs (Hoeffding 1963, theorem 4). So

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


def gamma_tail(score: float, n: int) -> float:
    """The logarithm of P(sum of n standard exponentials >= score)."""
    if n == 0 or score <= 0:
        return 0.0
    return min(0.0, float(gamma_distribution.logsf(score, n)))


def log_mean_exp(values: Iterable[float] | Floats, t: float) -> float:
    """The logarithm of the mean of exp(t v)."""
    v = np.asarray(values, dtype=np.float64)
    return float(logsumexp(t * v) - np.log(len(v)))
