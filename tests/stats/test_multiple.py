from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import false_discovery_control

from overproof.stats.conformal import conformal_p
from overproof.stats.e_values import conformal_e
from overproof.stats.multiple import adjusted_p, benjamini_hochberg, e_bh, holm_adjusted_p


@given(some.lists(some.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_is_scipys_and_agrees_with_the_rejections(p: list[float]) -> None:
    assert adjusted_p(p) == pytest.approx(false_discovery_control(p))
    for alpha in (0.05, 0.3):
        rejected = benjamini_hochberg(p, alpha)
        sure = np.abs(adjusted_p(p) - alpha) > 1e-9
        assert (rejected == (adjusted_p(p) <= alpha))[sure].all()


def test_the_textbook_example() -> None:
    # Benjamini and Hochberg, 1995, section 3.2: 15 tests, four rejected at 5 %.
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240,
         0.4262, 0.5719, 0.6528, 0.7590, 1.0]  # fmt: skip
    assert benjamini_hochberg(p, 0.05).tolist() == [True] * 4 + [False] * 11
    assert benjamini_hochberg(p[:4], 0.05, m=15).all()
    assert not benjamini_hochberg(p[3:4], 0.05, m=15).any()


def test_nothing_and_nonsense() -> None:
    assert benjamini_hochberg([], 0.05).tolist() == []
    assert e_bh([], 0.05).tolist() == []
    for bad in ([-0.1], [np.nan], [1.1]):
        with pytest.raises(ValueError, match="p-values"):
            benjamini_hochberg(bad, 0.05)
    with pytest.raises(ValueError, match="in all"):
        benjamini_hochberg([0.1, 0.2], 0.05, m=1)
    with pytest.raises(ValueError, match="not negative"):
        e_bh([-1.0], 0.05)


def test_e_bh_needs_what_a_conformal_e_value_cannot_give() -> None:
    assert e_bh([100.0, 40.0, 1.0], 0.05).tolist() == [True, True, False]  # 3 / (.05 * 2) = 30
    best = conformal_e([0.0] * 99, [1.0])[0]  # n + 1 = 100, the most there is
    assert not e_bh([best], 0.05, m=6).any()
    assert e_bh([best], 0.05, m=5).any()


def test_false_discoveries_against_one_shared_pool() -> None:
    """Conformal p-values share their pool; Benjamini and Hochberg hold, and e-BH too."""
    rng = np.random.default_rng(3)
    by_p, by_e, found = [], [], 0
    for _ in range(1500):
        pool = rng.normal(size=400)
        new = rng.normal(size=60)
        new[:10] += 4.0
        p = conformal_p(pool, new)
        for rejected, rates in (
            (benjamini_hochberg(p, 0.1), by_p),
            (e_bh(conformal_e(np.exp(3 * pool), np.exp(3 * new)), 0.1), by_e),
        ):
            rates.append(rejected[10:].sum() / max(1, rejected.sum()))
        found += int(benjamini_hochberg(p, 0.1)[:10].sum())
    assert np.mean(by_p) <= 0.1 * 50 / 60 + 4 * np.std(by_p) / np.sqrt(1500)
    assert np.mean(by_e) <= 0.1 + 4 * np.std(by_e) / np.sqrt(1500)
    assert found / 15_000 > 0.8


def test_holm_adjusts_as_written_down() -> None:
    assert holm_adjusted_p([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert (holm_adjusted_p([0.01, 0.02, 0.049]) <= 0.05).tolist() == [True, True, True]
    assert holm_adjusted_p([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm_adjusted_p([]).tolist() == []
    with pytest.raises(ValueError, match="p-values"):
        holm_adjusted_p([0.1, np.nan])
