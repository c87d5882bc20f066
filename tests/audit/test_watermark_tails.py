"""Tails: equal to brute force, valid by simulation, precise far out."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, binomtest, norm

from overproof.audit.watermarks.gumbel import Gumbel
from overproof.audit.watermarks.pairs import Pairs, pairs_of
from overproof.audit.watermarks.schemes import make_scheme
from overproof.audit.watermarks.synthid import SynthId
from overproof.audit.watermarks.tails import (
    Lattice,
    chernoff_bernoulli,
    chernoff_exponential,
    gamma_tail,
    hypergeometric,
    lattice_tail,
)


def test_a_tail_equals_brute_force() -> None:
    parts = [hypergeometric(7, 3, 2), hypergeometric(7, 3, 4, 2), hypergeometric(7, 3, 1)]
    single = [part for part in parts for _ in range(part.times)]
    outcomes: dict[int, float] = {}
    for picks in product(*(range(len(part.log_pmf)) for part in single)):
        total = sum(part.start + i for part, i in zip(single, picks, strict=True))
        p = float(np.exp(sum(part.log_pmf[i] for part, i in zip(single, picks, strict=True))))
        outcomes[total] = outcomes.get(total, 0.0) + p
    for score in range(-1, max(outcomes) + 1):
        truth = sum(p for total, p in outcomes.items() if total >= score)
        assert np.exp(lattice_tail(parts, score)) == pytest.approx(truth, rel=1e-8, abs=1e-15)
    assert lattice_tail(parts, max(outcomes) + 1) == -np.inf


@pytest.mark.parametrize("n", [17, 500, 200_000])
def test_a_tail_keeps_its_precision_far_out(n: int) -> None:
    parts = [hypergeometric(1000, 250, 1, n)]
    for share in (0.2, 0.25, 0.252, 0.27):
        score = int(np.ceil(share * n))
        truth = float(binom(n, 0.25).logsf(score - 1))
        assert lattice_tail(parts, score) == pytest.approx(truth, rel=1e-6, abs=1e-8)


def test_the_normal_tail_is_wrong_where_the_exact_one_is_right() -> None:
    n, p = 200, 0.25
    score = int(n * p + 6 * np.sqrt(n * p * (1 - p))) + 1
    exact = lattice_tail([hypergeometric(10**6, 250_000, 1, n)], score)
    z = (score - n * p) / np.sqrt(n * p * (1 - p))
    assert exact == pytest.approx(float(binom(n, p).logsf(score - 1)), rel=1e-3)
    assert norm.sf(z) < np.exp(exact) / 3


def test_parts_with_gaps() -> None:
    coin = Lattice(0, np.log([0.5, 1e-300, 1e-300, 0.5]), 3)  # 0 or 3, three times
    assert np.exp(lattice_tail([coin], 9)) == pytest.approx(1 / 8)
    assert np.exp(lattice_tail([coin], 4)) == pytest.approx(1 / 2)


def test_bounds_lie_above_the_truth_and_not_far() -> None:
    for score in (30, 40, 60):
        truth = float(binom(100, 0.25).logsf(score - 1))
        assert truth <= chernoff_bernoulli(np.ones(100), 0.25, score) <= truth + 3.5
    for total in (130.0, 200.0):
        truth = gamma_tail(total, 100)
        assert truth <= chernoff_exponential(np.full(100, 2.0), 2 * total) <= truth + 3.5
    assert chernoff_bernoulli(np.ones(5), 0.5, 1.0) == 0.0
    assert chernoff_bernoulli([], 0.5, 1.0) == 0.0


def inside(p: np.ndarray, levels: tuple[float, ...] = (0.1, 0.01)) -> None:
    """Rejections are not more than the level allows (binomial, at one in a million)."""
    for level in levels:
        count = int((p <= level).sum())
        assert binomtest(count, len(p), level, alternative="greater").pvalue > 1e-6, level


@pytest.mark.parametrize("name", ["kgw", "gumbel", "synthid", "unigram"])
@pytest.mark.parametrize("weighted", [False, True])
def test_tails_are_valid_over_random_keys(name: str, weighted: bool) -> None:
    scheme = make_scheme(
        name, 60, **({"depths": 4, "table_size": 256} if name == "synthid" else {})
    )
    rng = np.random.default_rng(5)
    # Contexts with many tokens each: where a binomial would be wrong.
    width = scheme.width
    contexts = np.tile(np.repeat([[3], [9], [21]], 20, axis=0), (1, max(width, 1)))[:, :width]
    tokens = np.concatenate([rng.permutation(60)[:20] for _ in range(3)])
    base = pairs_of(contexts, tokens)
    weights = rng.exponential(size=60) if weighted else None
    pairs = Pairs(base.contexts, base.tokens, base.prompts, base.counts, weights)
    keys = [scheme.draw(rng) for _ in range(150)]
    scores = scheme.scan(pairs, keys)
    p = np.array([scheme.tail(pairs, k, s).value for k, s in zip(keys, scores, strict=True)])
    assert ((p > 0) & (p <= 1)).all()
    inside(p)
    if not weighted and name in {"kgw", "gumbel"}:
        assert (p <= 0.1).mean() > 0.03  # and not merely because it never rejects


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_gumbel_bound_holds_for_coarse_uniforms(
    sign: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With four states in place of 2^24, a bound for true exponentials would be far too small."""
    monkeypatch.setattr("overproof.audit.watermarks.gumbel.STATES", 4.0)
    rng, n = np.random.default_rng(8), 1000
    weights = sign * rng.exponential(size=n)
    base = pairs_of(np.zeros((n, 4)), np.arange(n))
    pairs = Pairs(base.contexts, base.tokens, base.prompts, base.counts, weights)
    scores = np.log(5 / rng.integers(1, 5, (200, n))) @ weights
    inside(np.array([Gumbel(n).tail(pairs, 0, float(score)).value for score in scores]))


def test_self_hash_counts_pairs_of_one_seed_once() -> None:
    scheme = make_scheme("kgw-selfhash", 40, context_width=2)
    rng = np.random.default_rng(2)
    pairs = pairs_of(np.arange(40)[:, None], np.full(40, 7))  # one token after forty
    keys = [scheme.draw(rng) for _ in range(50)]
    scores = scheme.scan(pairs, keys)
    p = np.array([scheme.tail(pairs, k, s).value for k, s in zip(keys, scores, strict=True)])
    inside(p)


def test_the_synthid_tail_is_exact_over_all_keys() -> None:
    scheme = SynthId(100, 3, 2, 64)
    rng = np.random.default_rng(4)
    pairs = pairs_of(rng.integers(0, 100, (300, 2)), rng.integers(0, 100, 300))
    scores = scheme.scan(pairs, [(a, b) for a in range(64) for b in range(64)])
    for score in np.quantile(scores, [0.5, 0.9, 0.99, 1.0]):
        truth = float((scores >= score - 1e-9).mean())
        assert scheme.tail(pairs, (1, 2), score).value == pytest.approx(truth, rel=1e-6)


@pytest.mark.slow
def test_the_gamma_tail_over_a_million_draws() -> None:
    # The shipped uniforms take 2^24 values; each p is the tail of a sum of 12 of their scores.
    rng, n, draws = np.random.default_rng(11), 12, 10**6
    m = rng.integers(0, 2**24, (draws, n), dtype=np.uint32).astype(np.float64)
    scores = -np.log1p(-(m + 1) / (2**24 + 1)).sum(axis=1)
    from scipy.stats import gamma

    p = gamma.sf(scores - n * np.log1p(2**-24), n)
    inside(p, (0.1, 0.01, 1e-3, 1e-4))
    scheme, pairs = Gumbel(9), pairs_of(np.zeros((n, 4)), np.zeros(n))
    assert scheme.tail(pairs, 0, scores[0]).value == pytest.approx(p[0])


@pytest.mark.slow
def test_the_hypergeometric_tail_over_a_million_draws() -> None:
    rng, draws = np.random.default_rng(12), 10**6
    parts = [hypergeometric(50, 12, 30, 2), hypergeometric(50, 12, 1, 40)]
    sums = rng.hypergeometric(12, 38, 30, (draws, 2)).sum(axis=1) + rng.binomial(40, 0.24, draws)
    p_of = np.exp([lattice_tail(parts, score) for score in range(int(sums.max()) + 2)])
    # Randomised: uniform under the null, so it must be neither too small nor too large.
    p = p_of[sums + 1] + rng.random(draws) * (p_of[sums] - p_of[sums + 1])
    for level in (0.1, 0.01, 1e-3, 1e-4):
        assert binomtest(int((p <= level).sum()), draws, level).pvalue > 1e-5, level
