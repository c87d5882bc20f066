"""The trace of a watermark beyond what a reference expects."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from overproof.audit.contrast import contrast_of, contrast_test
from overproof.audit.green_mass import green_mass_test
from overproof.audit.radioactivity import Plan, watermark_test
from overproof.audit.watermarks.gumbel import Gumbel
from overproof.audit.watermarks.kgw import Kgw
from overproof.audit.watermarks.pairs import Pairs, group_rows
from overproof.audit.watermarks.schemes import Scheme
from overproof.audit.watermarks.synthid import SynthId
from overproof.audit.watermarks.tails import bound_of_lists
from overproof.audit.watermarks.unigram import Unigram
from overproof.errors import ConfigError, DataError
from overproof.records.audit import Exactness, Standing
from overproof.stats.intervals import clopper_pearson

Floats = npt.NDArray[np.float64]
V = 64
KEY = 0x7F3A_11D5
SCHEME = Kgw(V, share=0.25)


def laws(seed: int, sharp: float = 2.0) -> Floats:
    """A bigram model: the next token's law after each token, (V, V)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(V, V)) * sharp
    p = np.exp(logits)
    return np.asarray(p / p.sum(1, keepdims=True))


def marked(p: Floats, key: int, bias: float = 2.0) -> Floats:
    """The same model with its green lists raised."""
    q = p.copy()
    for context in range(V):
        q[context, SCHEME.greenlist((context,), key)] *= np.exp(bias)
    return np.asarray(q / q.sum(1, keepdims=True))


def said(p: Floats, texts: int, length: int, seed: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(texts):
        text = [int(rng.integers(V))]
        while len(text) < length:
            text.append(int(rng.choice(V, p=p[text[-1]])))
        out.append(text)
    return out


def tables(p: Floats, texts: list[list[int]]) -> list[Floats]:
    """The first token's law is flat: nothing stands before it."""
    return [np.vstack([np.full(V, 1 / V), p[text[:-1]]]) for text in texts]


def test_the_score_is_the_sum_of_its_definition() -> None:
    p, r = laws(1), laws(2)
    texts = said(p, 5, 30, 3)
    found = contrast_of(texts, tables(r, texts), SCHEME, suspect=tables(p, texts), top=V)
    times: dict[int, int] = {}
    for text in texts:
        for context in text[:-1]:
            times[context] = times.get(context, 0) + 1
    total = room = 0.0
    for context in times:
        beyond = p[context] - r[context]  # the same at each place: the models see one token
        spare = 1 - (r[context] ** 2).sum()
        weight = spare / ((beyond**2).sum() + 1e-3)
        total += weight * beyond[SCHEME.greenlist((context,), KEY)].sum()
        room += weight * spare
    assert float(SCHEME.scan(found.pairs, [KEY])[0]) == pytest.approx(total)
    assert float(found.room.sum()) == pytest.approx(room)
    hits = SCHEME.hits(found.pairs, KEY)
    assert found.pairs.weights is not None
    assert float(hits @ found.pairs.weights) == pytest.approx(total)


def test_equal_cells_are_added_up_in_parts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    p, r = laws(1), laws(2)
    texts = said(p, 20, 40, 3)
    whole = contrast_of(texts, tables(r, texts), SCHEME)
    monkeypatch.setattr("overproof.audit.contrast.HELD", 500)
    parts = contrast_of(texts, tables(r, texts), SCHEME)
    assert np.array_equal(whole.pairs.tokens, parts.pairs.tokens)
    assert whole.pairs.weights is not None
    assert np.allclose(whole.pairs.weights, np.asarray(parts.pairs.weights))


def test_a_small_dose_is_found_beyond_the_reference_where_plain_tests_miss_it() -> None:
    teacher = laws(5)
    rng = np.random.default_rng(6)
    noise = laws(7)
    # 8 % of what the student learned was marked; it is no perfect copy of anything.
    student = 0.92 * (0.95 * teacher + 0.05 * noise) + 0.08 * marked(teacher, KEY)
    neutral = said(teacher, 200, 30, int(rng.integers(1 << 30)))
    plan = Plan(seed=3)
    plain = green_mass_test(neutral, tables(student, neutral), SCHEME, KEY, plan=plan)
    beyond = contrast_test(
        neutral, tables(teacher, neutral), SCHEME, KEY, suspect=tables(student, neutral), plan=plan
    )
    assert plain.p_values[0].value > 0.01
    assert beyond.p_values[0].value == pytest.approx(1 / 1000)
    assert beyond.p_values[0].exactness is Exactness.EXACT
    assert beyond.p_values[1].exactness is Exactness.BOUND
    assert beyond.p_values[1].value < 0.01
    assert beyond.effects[0].low is not None
    assert beyond.effects[0].low > 0


def test_text_alone_gains_from_a_reference_too() -> None:
    teacher = laws(5)
    student = 0.5 * teacher + 0.5 * marked(teacher, KEY, 1.0)
    texts = said(student, 300, 30, 9)
    plain = watermark_test(texts, SCHEME, KEY, plan=Plan(seed=1))
    beyond = contrast_test(texts, tables(teacher, texts), SCHEME, KEY, plan=Plan(seed=1))
    assert beyond.details["sds_above"] > 1.5 * plain.details["sds_above"]


def test_without_the_mark_the_rank_is_uniform_whatever_the_reference() -> None:
    """Keys are drawn anew for one text and a reference that fits badly: p <= .1 in a tenth."""
    texts = said(laws(11), 30, 20, 1)
    pairs = contrast_of(texts, tables(laws(12, 3.0), texts), SCHEME).pairs
    rng = np.random.default_rng(13)
    keys = [SCHEME.draw(rng) for _ in range(3000)]
    scores = SCHEME.scan(pairs, keys).reshape(150, 20)
    p = (1 + (scores[:, 1:] >= scores[:, :1]).sum(1)) / 20
    interval = clopper_pearson(int((p <= 0.1 + 1e-9).sum()), len(p), confidence=0.999)
    assert interval.low <= 0.1 <= interval.high


@pytest.mark.parametrize(
    "scheme",
    [SCHEME, Unigram(V, share=0.25), Gumbel(V), SynthId(V, table_size=1 << 10)],
    ids=lambda s: str(s.name),
)
def test_the_bound_is_no_smaller_than_the_share_of_keys_it_speaks_of(scheme: Scheme) -> None:
    texts = said(laws(21), 12, 25, 2)
    pairs = contrast_of(texts, tables(laws(22), texts), scheme, top=8).pairs
    rng = np.random.default_rng(23)
    keys = [scheme.draw(rng) for _ in range(400)]
    p = np.array([
        scheme.tail(pairs, key, float(score)).value
        for key, score in zip(keys, scheme.scan(pairs, keys), strict=True)
    ])  # fmt: skip
    for level in (0.01, 0.05, 0.2):
        # At most the level, up to what 400 draws say.
        assert clopper_pearson(int((p <= level).sum()), len(p), confidence=0.999).low <= level
    assert p.min() < 0.5  # it is no idle bound


def test_hoeffdings_bound_holds_for_every_score_of_small_lists() -> None:
    rng = np.random.default_rng(31)
    weights, context_of = rng.normal(size=12), np.repeat([0, 1, 2], 4)
    draws = np.zeros(20_000)
    for context in range(3):
        w = np.concatenate([weights[context_of == context], np.zeros(4)])  # V = 8, 2 of it green
        order = np.argsort(rng.random((len(draws), 8)), axis=1)[:, :2]
        draws += w[order].sum(1)
    for score in np.quantile(draws, [0.6, 0.9, 0.99, 0.999]):
        bound = np.exp(bound_of_lists(weights, context_of, 8, 2, float(score)))
        assert bound >= (draws >= score).mean() - 3 * np.sqrt((draws >= score).mean() / len(draws))
    assert bound_of_lists(weights * 0, context_of, 8, 2, 1.0) == 0.0


def copies(texts: list[list[int]]) -> list[Floats]:
    """A model that never saw a mark, and repeats in half of the cases what followed before."""
    out = []
    for text in texts:
        rows = np.full((len(text), V), 1 / V)
        for place in range(1, len(text)):
            after = [text[i + 1] for i in range(place - 1) if text[i] == text[place - 1]]
            if after:
                rows[place] = 0.5 / V + 0.5 * np.bincount(after, minlength=V) / len(after)
        out.append(rows)
    return out


def test_a_model_that_copies_is_not_convicted_by_marked_texts() -> None:
    texts = said(marked(laws(61, 0.5), KEY), 12, 120, 6)
    flat = [np.full((len(text), V), 1 / V) for text in texts]
    fooled, held = (Plan(seed=2, first_places=each) for each in (False, True))
    told = copies(texts)
    assert green_mass_test(texts, told, SCHEME, KEY, plan=fooled).p_values[0].value < 0.01
    assert green_mass_test(texts, told, SCHEME, KEY, plan=held).p_values[0].value > 0.01
    beyond = contrast_test(texts, flat, SCHEME, KEY, suspect=told, plan=fooled)
    assert beyond.p_values[0].value < 0.01
    beyond = contrast_test(texts, flat, SCHEME, KEY, suspect=told, plan=held)
    assert beyond.p_values[0].value > 0.01


def test_a_list_that_no_key_changes_says_nothing() -> None:
    """Token 0 seeds the same list under every key."""
    contexts = np.array([[0], [0], [3]])
    pairs = Pairs(contexts, np.array([1, 2, 5]), np.zeros(3, np.int64), np.ones(3, np.int64),
                  np.array([4.0, -1.0, 0.5]))  # fmt: skip
    score = float(SCHEME.scan(pairs, [KEY])[0])
    alone = pairs.take(np.array([2]))
    rest = float(SCHEME.scan(alone, [KEY])[0])
    assert SCHEME.tail(pairs, KEY, score).value == pytest.approx(
        SCHEME.tail(alone, KEY, rest).value
    )


def test_a_suspect_that_is_the_reference_shows_nothing() -> None:
    p = laws(41)
    texts = said(p, 80, 12, 4)
    same = tables(p, texts)
    finding = contrast_test(texts, same, SCHEME, KEY, suspect=same)
    assert finding.p_values[0].value > 0.01
    assert abs(finding.effects[0].value or 0) < 1e-9


def test_wrong_input_is_named() -> None:
    p = laws(51)
    texts = said(p, 3, 10, 5)
    with pytest.raises(DataError, match="the reference's text 2"):
        contrast_of(texts, [tables(p, texts)[0], np.zeros((10, 3)), np.ones((1, 1))], SCHEME)
    with pytest.raises(DataError, match="too few"):
        contrast_of(texts, tables(p, texts)[:2], SCHEME)
    with pytest.raises(DataError, match="the suspect's text 1"):
        contrast_of(texts, tables(p, texts), SCHEME, suspect=[np.ones((10, V))] * 3)
    with pytest.raises(DataError, match="top"):
        contrast_of(texts, tables(p, texts), SCHEME, top=0)
    with pytest.raises(ConfigError, match="selfhash"):
        contrast_test(
            texts, tables(p, texts), Kgw(V, seeding="selfhash"), KEY, plan=Plan(alternates=99)
        )
    certain = [np.eye(V)[text] for text in texts]
    sure = contrast_test(texts, certain, SCHEME, KEY, suspect=tables(p, texts))
    assert sure.standing is Standing.REFUSED
    empty = contrast_test([[]], [np.zeros((0, V))], SCHEME, KEY)
    assert empty.standing is Standing.REFUSED
    coarse = contrast_test(texts, tables(p, texts), SCHEME, KEY, plan=Plan(alternates=19))
    assert coarse.standing is Standing.REFUSED
    assert "alternate keys" in coarse.reasons[0]
    rows = contrast_of(texts, tables(p, texts), SCHEME).pairs
    assert group_rows(rows.contexts)[2].sum() == len(rows)
