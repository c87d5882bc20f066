"""Account-keyed phrasings: the real key among alternates."""

from __future__ import annotations

import numpy as np
import pytest
from long_runs import LONG
from scipy.stats import binom

from overproof.audit.lattice import upper_tail
from overproof.audit.phrasings import (
    Slot,
    _null_parts,
    choose_phrasing,
    describe_served,
    key_commitment,
    new_key,
    phrasings_test,
    slots_needed,
)
from overproof.errors import DataError
from overproof.records.audit import Exactness, Standing

KEY = np.random.default_rng(987).bytes(32)


def suspect(seed: int, followed: float, slots: int = 60, key: bytes = KEY) -> list[Slot]:
    """What a suspect says that took over a share of the key's choices, four samples a slot."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(slots):
        width = 2 + i % 3
        liked = int(rng.integers(width))
        if rng.random() < followed:
            liked = choose_phrasing(key, "acct", f"s{i}", width)
        weights = np.full(width, 0.15)
        weights[liked] = 1
        counts = rng.multinomial(4, weights / weights.sum())
        found.append(Slot("acct", f"s{i}", tuple(int(c) for c in counts)))
    return found


def test_a_suspect_that_took_the_choices_over_is_found() -> None:
    found = phrasings_test(KEY, suspect(1, 0.8, slots=150))
    rank, tail = found.p_values
    assert rank.exactness is Exactness.EXACT
    assert rank.value == rank.floor == 1 / 1000
    assert tail.exactness is Exactness.CONDITIONAL
    assert tail.value < 1e-5
    assert found.effects[0].low is not None
    assert found.effects[0].low > 0.1


def test_both_p_values_hold_their_level_under_the_null() -> None:
    """Random keys against one suspect that leans to some phrasings but knows no key."""
    slots = suspect(2, 0.0, slots=6)
    rng = np.random.default_rng(9)
    tails, ranks = [], []
    for seed in range(12):
        found = phrasings_test(rng.bytes(32), slots, seed=seed)
        ranks.append(found.p_values[0].value)
        tails.append(found.p_values[1].value)
    for values in (ranks, tails):
        assert np.mean(np.array(values) <= 0.1) <= 0.3
        assert 0.25 < np.mean(values) < 0.75
    assert np.abs(np.array(ranks) - np.array(tails)).max() < 0.08


@pytest.mark.slow
def test_the_tail_holds_over_a_million_random_choices() -> None:
    """Given what the suspect says, random choices give p <= .1, .01, 1e-3 and 1e-4 as they may."""
    slots = suspect(3, 0.0, slots=40)
    rng = np.random.default_rng(1)
    draws = 1_000_000
    totals = np.zeros(draws, dtype=np.int64)
    for slot in slots:
        totals += np.array(slot.counts)[rng.integers(len(slot.counts), size=draws)]
    values, places = np.unique(totals, return_inverse=True)
    parts = _null_parts(slots)
    p = np.array([upper_tail(parts, int(value)).value for value in values])[places]
    for level in (0.1, 0.01, 1e-3, 1e-4):
        attained = max((v for v in np.unique(p) if v <= level), default=0.0)
        low, high = binom.ppf([1e-6, 1 - 1e-6], draws, attained)
        assert low <= (p <= level).sum() <= high
        assert (p <= level).sum() <= binom.ppf(1 - 1e-6, draws, level)


@pytest.mark.parametrize(("followed", "width"), [(0.3, 2), (0.5, 3)])
def test_the_slots_that_are_needed(followed: float, width: int) -> None:
    n = slots_needed(followed, width, alpha=0.01, power=0.9)
    rng = np.random.default_rng(4)
    chance = followed + (1 - followed) / width
    hits = rng.binomial(n, chance, size=20_000)
    critical = binom.isf(0.01, n, 1 / width) + 1
    assert 0.82 < (hits >= critical).mean() < 0.97
    with pytest.raises(ValueError, match="share"):
        slots_needed(0.0)


def test_accounts_are_told_apart_and_words_on_power() -> None:
    mine = suspect(1, 0.8, slots=60)
    other = [Slot("other", slot.name, slot.counts) for slot in mine]
    found = phrasings_test(KEY, [*mine, *other])
    accounts = found.details["accounts"]
    assert accounts["acct"]["holm"] < 1e-3 < accounts["other"]["holm"]
    assert found.power is not None
    assert found.power.detectable is not None
    one = phrasings_test(KEY, mine[:1])
    assert one.power is not None
    assert one.power.detectable is None
    assert one.effects[0].low is None
    few = phrasings_test(KEY, mine, alpha=1e-4)
    assert few.standing is Standing.REFUSED
    assert "9,999 keys" in few.reasons[0]


def test_choices_are_even_and_keyed() -> None:
    picks = [choose_phrasing(KEY, "a", f"{i}", 3) for i in range(3000)]
    assert all(abs(picks.count(v) - 1000) < 130 for v in range(3))
    assert choose_phrasing(KEY, "ab", "c", 1 << 40) != choose_phrasing(KEY, "a", "bc", 1 << 40)
    assert len(new_key()) == 32
    assert key_commitment(KEY, b"1") != key_commitment(KEY, b"2")


def test_default_keys_and_nonsense_are_refused() -> None:
    slots = suspect(1, 0.5, slots=5)
    for key in (b"", b"secret", bytes(32), b"a default key that is long enough", b"0" * 64,
                b"0123456789abcdef"):  # fmt: skip
        with pytest.raises(DataError, match="key"):
            phrasings_test(key, slots)
    hexed = phrasings_test(KEY.hex().encode(), slots)
    assert hexed.standing is Standing.DONE
    with pytest.raises(DataError, match="twice"):
        phrasings_test(KEY, [slots[0], slots[0]])
    with pytest.raises(ValueError, match="floor"):
        phrasings_test(KEY, slots, alternates=99)
    with pytest.raises(ValueError, match="phrasings"):
        Slot("a", "s", (3,))
    with pytest.raises(ValueError, match="two phrasings"):
        choose_phrasing(KEY, "a", "s", 1)
    nothing = phrasings_test(KEY, [Slot("a", "s", (0, 0))])
    assert nothing.standing is Standing.REFUSED
    assert nothing.p is None


@LONG[0]
@LONG[1]
def test_what_went_out_does_not_choose_the_slots() -> None:
    """An innocent suspect likes the common phrasing; the rare one fails to go out half the time.

    Tested at served slots alone, most of these audits convict; the slots that were assigned do not.
    """
    only_served, assigned = [], []
    for seed in range(12):
        rng = np.random.default_rng(700 + seed)
        key = rng.bytes(32)
        slots, served = [], set()
        for i in range(200):
            common = rng.random() < 0.8
            slots.append(Slot("acct", f"s{i}", (int(common), int(not common))))
            if choose_phrasing(key, "acct", f"s{i}", 2) == 0 or rng.random() < 0.5:
                served.add(("acct", f"s{i}"))
        kept = [slot for slot in slots if (slot.account, slot.name) in served]
        only_served.append(phrasings_test(key, kept, seed=seed).p)
        assigned.append(phrasings_test(key, slots, seed=seed).p)
        told = describe_served(key, slots, served)
        assert (told["assigned"], told["served"]) == (200, len(served))
        assert told["match_rate"] > 0.5  # type: ignore[operator]
    assert np.mean(np.array(only_served, float) <= 0.01) >= 0.4  # what it was
    assert np.mean(np.array(assigned, float) <= 0.1) <= 0.35
    assert min(each for each in assigned if each is not None) > 0.002


def test_a_description_of_what_went_out() -> None:
    slots = suspect(1, 1.0, slots=30)
    none = describe_served(KEY, slots, set())
    assert (none["served"], none["match_rate"]) == (0, None)
    every = describe_served(KEY, slots, {(slot.account, slot.name) for slot in slots})
    assert every["match_rate_elsewhere"] is None
    assert every["match_rate"] == none["match_rate_elsewhere"]
    assert "p-value" in str(every["note"])
