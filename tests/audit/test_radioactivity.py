"""The watermark test: valid on templates where the z-test is not, and it sees a trace."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from overproof.audit.alternate_keys import (
    alternate_key_rank,
    alternate_keys,
    alternates_needed,
    rank_p,
)
from overproof.audit.green_mass import green_mass_test
from overproof.audit.radioactivity import (
    Plan,
    cohort_test,
    detectable_shift,
    excess_rate,
    tokens_needed,
    watermark_test,
)
from overproof.audit.watermarks.gumbel import Gumbel, uniforms
from overproof.audit.watermarks.kgw import Kgw
from overproof.audit.watermarks.pairs import (
    Pairs,
    densest_contexts,
    unique_pairs,
    vocabulary_hash,
)
from overproof.audit.watermarks.unigram import Unigram
from overproof.errors import ConfigError, DataError
from overproof.records.audit import Exactness, Standing

V = 64
SCHEME = Kgw(V)


def template_texts(rng: np.random.Generator, count: int = 200) -> list[list[int]]:
    """Texts that repeat one of three frames: what breaks a z-test."""
    frames = [rng.integers(1, V, 40) for _ in range(3)]
    return [
        [*frames[int(rng.integers(3))].tolist(), *rng.integers(1, V, 5).tolist()]
        for _ in range(count)
    ]


def marked(rng: np.random.Generator, key: int, count: int, strength: float) -> list[list[int]]:
    """Texts over all tokens, green ones ``exp(strength)`` times as likely."""
    tilt = np.ones((V, V))
    for context in range(V):
        tilt[context, SCHEME.greenlist([context], key)] = np.exp(strength)
    tilt /= tilt.sum(axis=1, keepdims=True)
    texts = []
    for _ in range(count):
        text = [int(rng.integers(V))]
        for _ in range(29):
            text.append(int(rng.choice(V, p=tilt[text[-1]])))
        texts.append(text)
    return texts


def test_false_positives_on_templates_beside_the_z_test() -> None:
    rng = np.random.default_rng(1)
    texts = template_texts(rng)
    pairs = unique_pairs(texts, None, width=1, pad=None, vocabulary=V)
    repeated = Pairs(pairs.contexts, pairs.tokens, pairs.prompts, pairs.counts,
                     pairs.counts.astype(np.float64))  # fmt: skip
    scores = SCHEME.scan(repeated, alternate_keys(SCHEME, 600, 3))
    # Each key in turn is the real one, among 99 others of its group of a hundred.
    groups = scores.reshape(-1, 100)
    ranks = np.array([rank_p(g[i], np.delete(g, i)) for g in groups for i in range(100)])
    rejected = int((ranks <= 0.01).sum())
    assert binomtest(rejected, len(ranks), 0.01).pvalue > 0.01
    n, share = repeated.weights.sum(), SCHEME.expected  # type: ignore[union-attr]
    z = (scores - share * n) / np.sqrt(n * share * (1 - share))
    assert (z > norm.isf(0.01)).mean() > 0.15  # the negative control: it must fail


def test_a_trace_is_found_and_both_numbers_are_labelled() -> None:
    rng = np.random.default_rng(2)
    key = int(SCHEME.draw(rng))  # type: ignore[arg-type]
    # Unique pairs saturate where every pair occurs at last, so the texts are few.
    texts = marked(rng, key, 30, 1.0)
    finding = watermark_test(texts, SCHEME, key, prompts=[[]] * 30, tokenizer="a",
                             teacher_tokenizer="a", plan=Plan(alternates=499))  # fmt: skip
    assert finding.standing is Standing.DONE
    rank, tail = finding.p_values
    assert rank.value == rank.floor == 1 / 500
    assert rank.exactness is Exactness.EXACT
    assert "alternate" in rank.method
    assert tail.exactness is Exactness.CONDITIONAL
    assert tail.value < 1e-4
    effect = finding.effects[0]
    assert effect.low is not None
    assert effect.value is not None
    assert 0 < effect.low < effect.value
    assert finding.power is not None
    assert "would have been found" in finding.power.words
    assert len(finding.not_proved) == 3
    other = watermark_test(texts, SCHEME, SCHEME.draw(rng), plan=Plan(alternates=99))
    assert other.p is not None
    assert other.p > 0.01
    assert other.standing is Standing.FLAGGED  # nobody vouched for the tokenizer


def test_a_foreign_tokenizer_is_flagged() -> None:
    finding = watermark_test(
        template_texts(np.random.default_rng(0)), SCHEME, 2**31 + 11, tokenizer="a",
        teacher_tokenizer="b", plan=Plan(alternates=99),
    )  # fmt: skip
    assert finding.standing is Standing.FLAGGED
    assert any("another vocabulary" in reason for reason in finding.reasons)
    assert vocabulary_hash({"a": 0, "b": 1}) != vocabulary_hash({"b": 0, "a": 1})
    assert vocabulary_hash({"b": 1, "a": 0}) == vocabulary_hash({"a": 0, "b": 1})


def test_refusals() -> None:
    texts = template_texts(np.random.default_rng(0), 5)
    low = watermark_test(texts, SCHEME, 2**31 + 11, plan=Plan(alpha=0.001, alternates=99))
    assert low.standing is Standing.REFUSED
    assert low.p is None
    assert "999" in low.reasons[0]
    none = watermark_test([[], [3]], SCHEME, 2**31 + 11)
    assert none.standing is Standing.REFUSED
    with pytest.raises(ConfigError, match="default"):
        watermark_test(texts, SCHEME, 15485863)
    for wrong in ([[1, V]], [[-1]], [[1.5]], [["a"]]):
        with pytest.raises(DataError, match="text 1"):
            watermark_test(wrong, SCHEME, 2**31 + 11)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="prompts"):
        watermark_test(texts, SCHEME, 2**31 + 11, prompts=[[1]])
    with pytest.raises(ConfigError, match="alternate"):
        alternate_keys(SCHEME, 5, 0)


def test_windows_of_the_prompt_and_repetitions_are_dropped() -> None:
    pairs = unique_pairs(
        [[1, 2, 3, 1, 2, 9], [1, 2, 3]], [[7, 2, 3], []], width=2, pad=-1, vocabulary=V
    )
    found = [(*c, t) for c, t in zip(pairs.contexts.tolist(), pairs.tokens.tolist(), strict=True)]
    assert found == [(-1, -1, 1), (-1, 1, 2), (1, 2, 3), (3, 1, 2), (1, 2, 9)]
    assert pairs.counts.tolist() == [2, 2, 2, 1, 1]
    assert (pairs.scored, pairs.in_prompt, pairs.texts) == (9, 1, 2)
    assert len(densest_contexts(pairs, 1)) == 2


def test_the_figures_of_planning() -> None:
    assert tokens_needed(0.0088, 0.25, alpha=1e-6, power=0.9) == pytest.approx(88_000, rel=0.01)
    assert detectable_shift(88_170, 0.25**0.5 * 0.75**0.5, alpha=1e-6) == pytest.approx(
        0.0088, rel=1e-3
    )
    assert alternates_needed(0.001) == 999
    assert alternates_needed(1e-5) == 99_999
    assert Plan(alpha=1e-4).alternates_for() == 99_999
    with pytest.raises(ValueError, match="shift"):
        tokens_needed(0.0, 0.25)


def test_cohorts_with_holm() -> None:
    rng = np.random.default_rng(6)
    keys = {f"cohort {i}": int(SCHEME.draw(rng)) for i in range(3)}  # type: ignore[arg-type]
    plan = Plan(alpha=0.05, alternates=299)
    finding = cohort_test(marked(rng, keys["cohort 1"], 30, 1.0), SCHEME, keys, plan=plan)
    cohorts = finding.details["cohorts"]
    assert finding.p == cohorts["cohort 1"]["holm"] == 3 / 300
    assert cohorts["cohort 0"]["holm"] > 0.01
    assert cohorts["cohort 2"]["holm"] > 0.01
    with pytest.raises(ConfigError, match="same"):
        cohort_test([[1, 2, 3]], SCHEME, {"a": 2**31 + 11, "b": 2**31 + 11})


def test_green_mass_sees_more_than_samples() -> None:
    rng = np.random.default_rng(7)
    key = int(SCHEME.draw(rng))  # type: ignore[arg-type]
    table = np.full((V, V), 1.0)
    for context in range(V):
        table[context, SCHEME.greenlist([context], key)] = np.exp(0.1)
    table /= table.sum(axis=1, keepdims=True)
    texts = [rng.integers(0, V, 60).tolist() for _ in range(10)]

    def probabilities(prompt: object, text: object) -> np.ndarray:
        ids = [0, *text[:-1]]  # type: ignore[index]
        return table[ids]

    plan = Plan(alternates=99)
    finding = green_mass_test(texts, probabilities, SCHEME, key, plan=plan)
    assert finding.p == 1 / 100
    assert finding.unit == "unique contexts"
    assert finding.n <= V
    arrays = [probabilities(None, text) for text in texts]
    assert green_mass_test(texts, arrays, SCHEME, key, plan=plan).p == finding.p
    sampled = watermark_test(texts, SCHEME, key, plan=plan)
    assert sampled.p is not None
    assert sampled.p > 1 / 100
    for wrong in (arrays[:3], [np.log(a) for a in arrays], [a[:, :9] for a in arrays]):
        with pytest.raises(DataError, match="text"):
            green_mass_test(texts, wrong, SCHEME, key, plan=plan)


def test_gumbel_and_unigram_traces() -> None:
    rng = np.random.default_rng(8)
    scheme = Gumbel(V, width=1)
    key = int(scheme.draw(rng))  # type: ignore[arg-type]
    vocabulary = np.arange(V)
    texts = []
    for _ in range(40):
        text: list[int] = [int(rng.integers(V))]
        for _ in range(20):
            u = uniforms(np.full((V, 1), text[-1]), vocabulary, key)
            text.append(int(u.argmax() if rng.random() < 0.3 else rng.integers(V)))
        texts.append(text)
    finding = watermark_test(texts, scheme, key, plan=Plan(alternates=99))
    assert finding.p == 1 / 100
    one = Unigram(400)
    secret = one.draw(rng)
    chance = np.where(one.mask(secret), 2.0, 1.0)
    words = rng.choice(400, size=4000, p=chance / chance.sum()).tolist()
    pairs = unique_pairs([words], None, width=0, pad=None, vocabulary=400)
    assert alternate_key_rank(one, pairs, secret, alternates=99).p == 1 / 100
    value, low, _high = excess_rate(one, pairs, secret)
    assert np.isfinite(value)
    assert np.isnan(low)
