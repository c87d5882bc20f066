"""The gap between prompts that people wrote and prompts that were made, in figures and words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overproof.records.exchange import Record

__all__ = ["AnswerCounts", "AnswerGap", "GapReport", "Interval", "TextFigures", "gap_lines"]


class Interval(Record):
    """An estimate with its interval at 95 % confidence."""

    estimate: float
    low: float
    high: float

    def share(self) -> str:
        """As percentages."""
        return f"{self.estimate:.1%} [{self.low:.1%}, {self.high:.1%}]"


class TextFigures(Record):
    """One side's texts: how many, how long, how varied.

    Lengths are in characters. ``distinct_1`` and ``distinct_2`` are the shares of distinct words
    and pairs of words (Li et al., arXiv 1510.03055) among ``words`` words, as many on both sides:
    the share falls with the number looked at. ``None`` where there are too few words.
    """

    n: int
    length_median: float
    length_quartiles: tuple[float, float]
    words: int
    distinct_1: float | None
    distinct_2: float | None


class GapReport(Record):
    """How far made prompts are from real ones.

    ``near_duplicates`` is the share of made prompts that are near-duplicates of a real one
    (Jaccard similarity of character 5-grams of at least ``near_duplicate``). ``auc`` is how well a
    classifier tells the two apart on ``compared`` texts of each side: 0.5 is not at all, 1 always;
    ``p_value`` that it would do so well were they of one kind (classifier two-sample test,
    arXiv 1610.06545; its floor is ``p_floor``). ``None`` where a side is too small.
    """

    real: TextFigures
    synthetic: TextFigures
    near_duplicate: float
    near_duplicates: Interval
    compared: int
    auc: Interval | None
    p_value: float | None
    p_floor: float | None

    def lines(self) -> list[str]:
        """The report in words."""
        return [*self._figures(), *self._told_apart()]

    def _figures(self) -> list[str]:
        real, made = self.real, self.synthetic
        lines = [
            f"real: {_told(real)}",
            f"synthetic: {_told(made)}",
            f"near-duplicates of a real prompt: {self.near_duplicates.share()} of the synthetic",
        ]
        if real.distinct_2 is not None and made.distinct_2 is not None:
            lines.append(
                f"distinct words {real.distinct_1:.0%} real, {made.distinct_1:.0%} synthetic; "
                f"distinct pairs of words {real.distinct_2:.0%} and {made.distinct_2:.0%} "
                f"(in {real.words} words of each)"
            )
        return lines

    def _told_apart(self) -> list[str]:
        if self.auc is None or self.p_value is None or self.p_floor is None:
            return [
                f"too few to tell apart: {self.real.n} real, {self.synthetic.n} synthetic; the "
                "test needs 20 of each"
            ]
        auc = self.auc
        at_floor = self.p_value <= self.p_floor + 1e-12
        p = f"p {'<=' if at_floor else '='} {self.p_value:.2g}"
        told = (
            f"told apart with AUC {auc.estimate:.2f} [{auc.low:.2f}, {auc.high:.2f}], {p} "
            f"({self.compared} of each; 0.5 is chance)"
        )
        if self.p_value > 0.05:
            return [f"{told}: no difference shown, which does not show that there is none"]
        strength = "slightly" if auc.estimate < 0.65 else "clearly" if auc.estimate < 0.9 else "almost always"  # fmt: skip  # noqa: E501
        return [f"{told}: a reader of spelling alone can {strength} tell them apart"]


class AnswerCounts(Record):
    """What a teacher made of prompts of one origin. Lengths are sums of characters, answered."""

    asked: int
    answered: int
    characters: int = 0
    squared_characters: int = 0


class AnswerGap(Record):
    """Answers to real and to made prompts side by side."""

    real: AnswerCounts
    synthetic: AnswerCounts
    real_answered: Interval
    synthetic_answered: Interval
    real_length: Interval | None
    synthetic_length: Interval | None

    def lines(self) -> list[str]:
        """The report in words."""
        lines = [
            f"answered: {self.real_answered.share()} of {self.real.asked} real prompts, "
            f"{self.synthetic_answered.share()} of {self.synthetic.asked} synthetic"
        ]
        if self.real_length is not None and self.synthetic_length is not None:
            lines.append(
                f"mean answer: {_mean(self.real_length)} characters to real prompts, "
                f"{_mean(self.synthetic_length)} to synthetic"
            )
        return lines


def _told(figures: TextFigures) -> str:
    low, high = figures.length_quartiles
    return (
        f"{figures.n} prompts, {figures.length_median:.0f} characters in the middle "
        f"(half of them {low:.0f} to {high:.0f})"
    )


def _mean(length: Interval) -> str:
    return f"{length.estimate:.0f} [{length.low:.0f}, {length.high:.0f}]"


def gap_lines(gap: Mapping[str, Any]) -> list[str]:
    """The words of a manifest's ``gap``: of the prompts, then of the answers to them."""
    prompts = GapReport.model_validate(gap["prompts"])
    return [*prompts.lines(), *AnswerGap.model_validate(gap["answers"]).lines()]
