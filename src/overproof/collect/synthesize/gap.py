"""The synthetic-versus-real gap: what sets prompts that were made apart from those of people.

None of it says whether made prompts are good, only whether they are like the real ones: a student
meets the real ones.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from overproof.records.exchange import Outcome
from overproof.records.gap import AnswerCounts, AnswerGap, GapReport, Interval, TextFigures
from overproof.records.text_dataset import TextExample
from overproof.stats.intervals import Estimate, wilson
from overproof.stats.shingles import fold, jaccard_pairs
from overproof.stats.two_sample import classifier_two_sample

__all__ = ["answer_gap", "count_answers", "gap", "ngram_features"]

FEWEST = 20
LONGEST = 2000  # characters of a text that the classifier reads
BUCKETS = 1 << 13
SIZES = (2, 3, 4)
_WORD = re.compile(r"\w+")


def gap(
    real: Sequence[str],
    synthetic: Sequence[str],
    seed: int = 0,
    *,
    near_duplicate: float = 0.8,
    most: int = 500,
    permutations: int = 999,
) -> GapReport:
    """Compare prompts that people wrote with prompts that were made.

    Args:
        real: texts of real prompts, distinct.
        synthetic: texts of made prompts, distinct.
        seed: of the samples and permutations.
        near_duplicate: Jaccard similarity of character 5-grams from which two are near-duplicates.
        most: texts of each side that the classifier sees; more are sampled.
        permutations: of the classifier's p-value.

    Raises:
        ValueError: a side is empty: there is no gap to nothing.
    """
    if not real or not synthetic:
        raise ValueError(f"no gap between {len(real)} real and {len(synthetic)} synthetic prompts")
    rng = random.Random(seed)
    words = [_words(texts, rng) for texts in (real, synthetic)]
    common = min(map(len, words))
    copies = {i for i, _, _ in jaccard_pairs(synthetic, real, threshold=near_duplicate)}
    compared = min(len(real), len(synthetic), most)
    told: Interval | None = None
    p_value: float | None = None
    if compared >= FEWEST:
        sides = [rng.sample(list(texts), compared) for texts in (real, synthetic)]
        features = ngram_features([*sides[0], *sides[1]])
        test = classifier_two_sample(
            features[:compared], features[compared:], permutations=permutations, seed=seed
        )
        told, p_value = _interval(test.auc), test.p_value
    return GapReport(
        real=_figures(real, words[0][:common]),
        synthetic=_figures(synthetic, words[1][:common]),
        near_duplicate=near_duplicate,
        near_duplicates=_interval(wilson(len(copies), len(synthetic))),
        compared=compared,
        auc=told,
        p_value=p_value,
        p_floor=None if p_value is None else 1 / (permutations + 1),
    )


def count_answers(examples: Iterable[TextExample], *, synthetic: bool) -> AnswerCounts:
    """Counts over the examples of one origin; see ``answer_gap``."""
    asked = answered = characters = squares = 0
    for example in examples:
        if example.origin.synthetic is not synthetic:
            continue
        asked += 1
        if example.outcome is Outcome.ANSWERED:
            answered += 1
            characters += len(example.answer)
            squares += len(example.answer) ** 2
    return AnswerCounts(
        asked=asked, answered=answered, characters=characters, squared_characters=squares
    )


def answer_gap(real: AnswerCounts, synthetic: AnswerCounts) -> AnswerGap:
    """What the teacher made of real and of made prompts, side by side.

    Shares have Wilson's interval, mean lengths the normal one.

    Raises:
        ValueError: nothing was asked on one side.
    """
    if not real.asked or not synthetic.asked:
        raise ValueError(f"nothing to compare: {real.asked} real and {synthetic.asked} synthetic")
    return AnswerGap(
        real=real,
        synthetic=synthetic,
        real_answered=_interval(wilson(real.answered, real.asked)),
        synthetic_answered=_interval(wilson(synthetic.answered, synthetic.asked)),
        real_length=_mean_length(real),
        synthetic_length=_mean_length(synthetic),
    )


def ngram_features(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Hashed character n-grams of n texts: n x 8192, square roots of counts, rows of length 1.

    What is left of a text's length in them is little: lengths are compared by themselves.
    """
    features = np.zeros((len(texts), BUCKETS), dtype=np.float32)
    for row, text in enumerate(texts):
        points = np.frombuffer(
            f" {fold(text[:LONGEST])} ".encode("utf-32-le", "surrogatepass"), dtype=np.uint32
        ).astype(np.uint64)
        for size in SIZES:
            if len(points) < size:
                continue
            code = np.full(len(points) - size + 1, size, dtype=np.uint64)
            for shift in range(size):
                # Fibonacci hashing, mixed at every step; overflow is meant.
                code = (code ^ points[shift : shift + len(code)]) * np.uint64(11400714819323198485)
                code ^= code >> np.uint64(29)
            np.add.at(features[row], (code % np.uint64(BUCKETS)).astype(np.int64), 1.0)
    features = np.sqrt(features)
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return features


def _words(texts: Sequence[str], rng: random.Random) -> list[str]:
    """All words, text after text in a random order."""
    order = rng.sample(range(len(texts)), len(texts))
    return [word for i in order for word in _WORD.findall(fold(texts[i]))]


def _figures(texts: Sequence[str], words: Sequence[str]) -> TextFigures:
    low, middle, high = np.quantile([len(text) for text in texts], [0.25, 0.5, 0.75])
    pairs = list(pairwise(words))
    return TextFigures(
        n=len(texts),
        length_median=float(middle),
        length_quartiles=(float(low), float(high)),
        words=len(words),
        distinct_1=len(set(words)) / len(words) if words else None,
        distinct_2=len(set(pairs)) / len(pairs) if pairs else None,
    )


def _mean_length(counts: AnswerCounts) -> Interval | None:
    n = counts.answered
    if n < 2:
        return None
    mean = counts.characters / n
    variance = max(0.0, (counts.squared_characters - n * mean * mean) / (n - 1))
    reach = 1.959964 * math.sqrt(variance / n)
    return Interval(estimate=mean, low=max(0.0, mean - reach), high=mean + reach)


def _interval(estimate: Estimate) -> Interval:
    return Interval(estimate=estimate.estimate, low=estimate.low, high=estimate.high)
