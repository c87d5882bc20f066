"""KGW scans share lists among related keys, and the rank among those stays exact."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from overproof.audit.alternate_keys import alternate_key_rank, rank_p
from overproof.audit.watermarks import kgw_lists, mersenne
from overproof.audit.watermarks.kgw import Kgw
from overproof.audit.watermarks.kgw_lists import RING, related_keys, smooth_numbers
from overproof.audit.watermarks.mersenne import HeadOfPermutation
from overproof.audit.watermarks.pairs import Pairs, pairs_of
from overproof.audit.watermarks.twister import WORDS, Twisters, first_states

V = 24


def weighted(seed: int, n: int = 60) -> Pairs:
    rng = np.random.default_rng(seed)
    both = np.unique(rng.integers(0, V, (n, 2)), axis=0)
    base = pairs_of(both[:, :1], both[:, 1])
    weights = rng.exponential(size=len(both))
    return Pairs(base.contexts, base.tokens, base.prompts, base.counts, weights)


@pytest.mark.parametrize(("cells", "queries"), [(1 << 25, 1 << 18), (64, 7)])
def test_a_scan_is_the_sum_of_its_hits(
    cells: int, queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kgw_lists, "CELLS", cells)
    monkeypatch.setattr(kgw_lists, "CELL_BITS", cells.bit_length() - 1)
    monkeypatch.setattr(kgw_lists, "QUERIES", queries)
    monkeypatch.setattr(kgw_lists, "TURN", queries)
    scheme, rng, pairs = Kgw(V), np.random.default_rng(3), weighted(1)
    key = scheme.draw(rng)
    keys = [key, *scheme.related(key, 30, rng), scheme.draw(rng), 2**40 + 3]
    by_hand = [float(scheme.hits(pairs, each) @ pairs.weights) for each in keys]
    told: list[tuple[int, int]] = []
    found = scheme.scan(pairs, keys, lambda done, of: told.append((done, of)))
    assert found == pytest.approx(by_hand, rel=1e-12)
    assert told[-1] == (33, 33)
    assert (scheme.scan(pairs, keys) == found).all()


def test_related_keys_are_of_one_family() -> None:
    rng, key = np.random.default_rng(0), 0x9ABCDEF1
    others = related_keys(key, 99, rng, lambda each: each >= 1 << 24)
    assert len({key, *others}) == 100
    assert min(others) >= 1 << 24
    known = set(smooth_numbers(200))
    # Of the family of b: this key over each multiplier, with or without the half of the ring.
    bases = {(key + more) * pow(h, -1, RING) % RING for h in known for more in (0, RING // 2)}
    families = [{(b * h + more) % RING for h in known for more in (0, RING // 2)} for b in bases]
    assert any({key, *others} <= family for family in families)
    halves = {key, *others} & {(each + RING // 2) % RING for each in (key, *others)}
    assert len(halves) >= 70  # most come in twos; some are left out at random
    assert any(each not in {key * h % RING for h in known} for each in others)
    assert smooth_numbers(13) == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25]
    few = related_keys(1 << 31, 19, rng, lambda each: each >= 1 << 24)
    assert few == [1 << 31] * 19  # such a key has no other multiple: ranks say 1, not 1 / 20


def test_the_rank_among_related_keys_is_uniform_over_random_keys() -> None:
    scheme, rng, pairs = Kgw(V), np.random.default_rng(7), weighted(2, 25)
    pairs = pairs.take(pairs.contexts[:, 0] > 0)
    p = np.array(
        [
            alternate_key_rank(scheme, pairs, scheme.draw(rng), alternates=19, seed=i).p
            for i in range(200)
        ]
    )
    for level in (0.05, 0.25, 0.5, 0.75):
        count = int((p <= level + 1e-9).sum())
        assert binomtest(count, len(p), level).pvalue > 1e-3, (level, count)


def test_multiples_of_the_real_key_itself_would_not_do() -> None:
    """Negative control: without a place drawn at random, the real key is always the smallest."""
    rng = np.random.default_rng(5)
    at_edge = []
    for _ in range(800):
        key = int(rng.integers(1 << 24, RING))
        # A score that only knows that the real one is h = 1: how many are thrice another key?
        family = [key, *(key * h % RING for h in smooth_numbers(20)[1:])]
        score = [sum(each == 3 * other % RING for other in family) for each in family]
        at_edge.append(rank_p(-score[0], [-each for each in score[1:]]))
    fair = []
    for seed in range(800):
        key = int(rng.integers(1 << 24, RING))
        own = np.random.default_rng(seed)
        family = [key, *related_keys(key, 19, own, lambda each: True)]
        score = [sum(each == 3 * other % RING for other in family) for each in family]
        fair.append(rank_p(-score[0], [-each for each in score[1:]]))
    assert min(at_edge) == max(at_edge)
    spread = np.array(fair)
    for level in (0.5, 0.7, 0.8):
        assert binomtest(int((spread <= level).sum()), 800, level, "greater").pvalue > 1e-3
    assert len(set(fair)) > 1


@pytest.mark.parametrize(
    ("size", "head"), [(9, 9), (9, 8), (50, 1), (32_000, 8000), (70_000, 66_000), (9000, 4999)]
)
@pytest.mark.parametrize("enough", [0, 1000])
def test_lists_of_any_share_in_batches(
    size: int, head: int, enough: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(mersenne, "ENOUGH", enough)  # side by side, or one by one
    monkeypatch.setattr(mersenne, "NARROW", 0)
    place = HeadOfPermutation(size, head)
    seeds = np.random.default_rng(size).integers(0, RING, 2 * place.batch + 1)  # and a part of one
    seeds[-1] = RING - 1
    done = 0
    for some in place.batches(seeds):
        for row in {0, some.stop - some.start - 1}:
            seed = int(seeds[some.start + row])
            order = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).numpy()
            truth = np.isin(np.arange(size), order[:head])
            assert (place.stands(np.full(size, row), np.arange(size)) == truth).all()
        done = some.stop
    assert done == len(seeds)


def test_words_of_many_generators_are_those_of_each() -> None:
    seeds = np.random.default_rng(0).integers(0, RING, 5).astype(np.uint32)
    seeds[0], seeds[1] = 0, RING - 1
    twisters = Twisters(6)
    for _ in range(2):  # buffers are used again
        twisters.start(first_states(seeds))
        words = np.concatenate([twisters.block().copy() for _ in range(4)])
        for column, seed in enumerate(seeds):
            theirs = np.random.RandomState(seed).randint(0, 2**32, size=4 * WORDS, dtype=np.uint32)
            assert (words[:, column] == theirs).all()
