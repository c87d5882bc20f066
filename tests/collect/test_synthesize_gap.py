from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.stats import binom
from synthesizing import WORDS

from overproof.collect.synthesize.gap import answer_gap, count_answers, gap, ngram_features
from overproof.records.exchange import Message, Outcome
from overproof.records.gap import AnswerCounts, GapReport
from overproof.records.text_dataset import Origin, TextExample


def texts(n: int, seed: int, words: list[str] = WORDS, length: int = 8) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=rng.randint(length // 2, length))) for _ in range(n)]


def test_texts_of_one_kind_are_told_apart_no_oftener_than_they_should() -> None:
    small = 0
    for run in range(80):
        pool = texts(60, run)
        report = gap(pool[:30], pool[30:], seed=run, permutations=39)
        assert report.p_value is not None
        small += report.p_value <= 0.05
    low, high = binom.ppf([0.0005, 0.9995], 80, 0.05)
    assert low <= small <= high


def test_a_real_gap_is_found_and_said() -> None:
    real = texts(80, 1)
    made = [f"Please tell me of the {text}" for text in texts(60, 2, WORDS[:12], 20)]
    made[:6] = [text + "." for text in real[:6]]
    report = gap(real, made, seed=3)
    assert report.p_value == report.p_floor == 1 / 1000
    assert report.auc is not None
    assert report.auc.low > 0.7
    assert report.near_duplicates.estimate == pytest.approx(0.1)
    assert report.compared == 60
    assert report.real.distinct_1 is not None
    assert report.synthetic.distinct_1 is not None
    assert report.real.words == report.synthetic.words
    assert report.real.distinct_2 > report.synthetic.distinct_2  # type: ignore[operator]
    lines = report.lines()
    assert lines[0].startswith("real: 80 prompts")
    assert "10.0% [4.7%, 20.1%] of the synthetic" in lines[2]
    assert "p <= 0.001 (60 of each; 0.5 is chance)" in lines[-1]
    assert gap(real, made, seed=3) == report
    assert GapReport.model_validate_json(report.model_dump_json()) == report


def test_what_too_few_prompts_cannot_tell() -> None:
    report = gap(texts(19, 1), texts(100, 2))
    assert report.auc is report.p_value is report.p_floor is None
    assert "too few to tell apart: 19 real, 100 synthetic" in report.lines()[-1]
    with pytest.raises(ValueError, match="0 real and 5 synthetic"):
        gap([], texts(5, 1))
    blank = gap(["…"], ["!"])
    assert blank.real.distinct_1 is None
    assert len(blank.lines()) == 4
    alike = gap(texts(40, 1), texts(40, 2))
    assert alike.p_value is not None
    assert alike.p_value > 0.05
    assert "which does not show that there is none" in alike.lines()[-1]


def test_features_see_spelling_not_length() -> None:
    rows = ngram_features(["abc abc", "ABC  abc abc abc abc", "xyz", "", "日本語 🙂"])
    assert rows.shape == (5, 8192)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(5))
    assert rows[0] @ rows[1] > 0.9
    assert rows[0] @ rows[2] < 0.2


def example(kind: str, outcome: Outcome, answer: str = "") -> TextExample:
    return TextExample(
        item="sha256:0", sample=0, split="train", outcome=outcome, answer=answer,
        messages=(Message(role="user", content="?"),), origin=Origin(kind=kind, source="s"),
    )  # fmt: skip


def test_answers_are_compared_by_origin() -> None:
    examples = [
        *(example("file", Outcome.ANSWERED, "x" * n) for n in (10, 20, 30)),
        example("ledger", Outcome.REFUSED, "x" * 500),
        *(example("expand", Outcome.ANSWERED, "x" * 5) for _ in range(2)),
        *(example("expand", Outcome.TRUNCATED, "x" * 900) for _ in range(2)),
    ]
    real = count_answers(examples, synthetic=False)
    made = count_answers(examples, synthetic=True)
    assert real == AnswerCounts(asked=4, answered=3, characters=60, squared_characters=1400)
    report = answer_gap(real, made)
    assert report.real_answered.estimate == 0.75
    assert report.synthetic_answered.estimate == 0.5
    assert report.real_length is not None
    assert report.real_length.estimate == 20
    assert report.real_length.low == pytest.approx(20 - 1.96 * 10 / 3**0.5, abs=0.01)
    assert report.synthetic_length is not None
    assert report.synthetic_length.low == report.synthetic_length.high == 5
    assert len(report.lines()) == 2
    nothing = answer_gap(real, AnswerCounts(asked=3, answered=1, characters=4))
    assert nothing.synthetic_length is None
    assert len(nothing.lines()) == 1
    with pytest.raises(ValueError, match="nothing to compare"):
        answer_gap(real, AnswerCounts(asked=0, answered=0))
