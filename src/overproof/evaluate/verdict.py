"""The verdict: which student is recommended, whether it passed, and what that rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from overproof.evaluate.heldout import TEACHER
from overproof.evaluate.wording import p_value, percent, points, signed_points, span
from overproof.records.certificate import Candidate, Comparison, Interval, Power
from overproof.records.student import StudentCard

__all__ = ["Verdict", "decide", "recommend"]

Word = Literal["certified", "not certified", "underpowered", "cannot say"]


@dataclass(frozen=True)
class Verdict:
    """The verdict on the recommended student, in a word and in a sentence or two."""

    word: Word
    text: str
    certified: tuple[str, ...]


def recommend(cards: Mapping[str, StudentCard]) -> str | None:
    """The student with the highest agreement on the tune split; ties go to the probe.

    Test results play no part in the choice, so the verdict is one test at one level.
    """
    order = sorted(
        cards, key=lambda name: (-cards[name].tune_agreement, cards[name].kind != "probe", name)
    )
    return order[0] if order else None


def decide(
    recommended: str | None,
    candidates: Mapping[str, Candidate],
    comparisons: Mapping[str, Comparison],
    power: tuple[Power, Power],
    self_agreement: Interval | None,
) -> Verdict:
    """Decide.

    A test planned with too little power certifies nothing, whatever it shows. One that turned out
    to have too little, since more pairs were discordant than the recipe assumed, keeps what it
    shows (the error of its first kind is what it was); but if it shows nothing, that was no "no".

    Args:
        recommended: the student that the verdict is about.
        candidates: scored candidates by name.
        comparisons: student against teacher, by student; empty where it cannot be had.
        power: of the test at the margin, as planned and at the observed discordance.
        self_agreement: the teacher's with itself; the yardstick without gold.
    """
    if recommended is None:
        return Verdict("cannot say", "There is no finished student to certify.", ())
    comparison = comparisons.get(recommended)
    if comparison is None:
        return Verdict("cannot say", _why_not(recommended, candidates[recommended]), ())
    planned, had = power
    passed = tuple(
        name
        for name, each in comparisons.items()
        if each.verdict == "non-inferior" and not planned.underpowered
    )
    short = had if comparison.verdict == "inconclusive" else planned
    word = _word(comparison, short)
    figures = _figures(recommended, candidates, comparison, self_agreement)
    return Verdict(word, f"{_claim(word, comparison, short)} {figures}", passed)


def _word(comparison: Comparison, power: Power) -> Word:
    if comparison.verdict == "inferior":
        return "not certified"
    if power.underpowered:
        return "underpowered"
    return "certified" if comparison.verdict == "non-inferior" else "not certified"


def _claim(word: Word, comparison: Comparison, power: Power) -> str:
    name, margin = comparison.first, points(comparison.margin)
    if word == "certified":
        better = "; it is better" if comparison.superior else ""
        return f"The {name} is not worse than its teacher by {margin} or more{better}."
    if word == "underpowered":
        seen = (
            f"That the {name} is not worse than its teacher by {margin} was seen, but"
            if comparison.verdict == "non-inferior"
            else f"Whether the {name} is worse than its teacher by {margin} stays open:"
        )
        return (
            f"{seen} the test was too small: its power was {percent(power.power)}, and about "
            f"{power.n_needed:,} test inputs are needed instead of {power.n_test:,}."
        )
    if comparison.verdict == "inferior":
        return f"The {name} is worse than its teacher by more than {margin}."
    return f"That the {name} is worse than its teacher by {margin} or more cannot be excluded."


def _figures(
    name: str,
    candidates: Mapping[str, Candidate],
    comparison: Comparison,
    self_agreement: Interval | None,
) -> str:
    student, teacher = candidates[name], candidates[TEACHER]
    gap = comparison.difference
    tail = (
        f"difference {signed_points(gap.estimate)} points ({span(gap)}; one-sided "
        f"{p_value(comparison.p_value)} against a loss of {points(comparison.margin)})."
    )
    if student.accuracy is not None and teacher.accuracy is not None:
        return (
            f"Of {student.accuracy.n:,} test inputs it gets {percent(student.accuracy.estimate)} "
            f"right, the teacher {percent(teacher.accuracy.estimate)}; {tail}"
        )
    assert student.agreement is not None
    assert self_agreement is not None
    return (
        f"It agrees with the teacher on {percent(student.agreement.estimate)} of "
        f"{student.agreement.n:,} test inputs; the teacher, asked again on "
        f"{self_agreement.n:,} of them, agrees with itself on "
        f"{percent(self_agreement.estimate)}; {tail} There is no gold: this says nothing of "
        "how often either is right."
    )


def _why_not(name: str, student: Candidate) -> str:
    if student.agreement is None:
        return (
            "The teacher gave no valid answer on the test split, so there is nothing to compare "
            f"the {name} with."
        )
    return (
        f"There is no gold, and the teacher was not asked twice: that the {name} agrees with it on "
        f"{percent(student.agreement.estimate)} of {student.agreement.n:,} test inputs cannot be "
        "told from how well the teacher agrees with itself. Set task.repeats, or name a "
        "column of true labels in data.gold."
    )
