"""Would more data help? Read off the learning curve on the tune split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum

from overproof.evaluate.wording import signed_points
from overproof.records.student import LearningPoint, StudentCard

__all__ = ["learning_verdict"]

Z = 1.645  # one-sided 95 %


class Help(StrEnum):
    """Would more data help a student?"""

    YES = "still learning"
    HARDLY = "hardly anything left to gain"
    NOISE = "cannot be told from the noise"
    UNKNOWN = "no learning curve was drawn"


ADVICE = {
    Help.YES: "More training data would probably help.",
    Help.HARDLY: "More training data would hardly help.",
    Help.NOISE: "Whether more training data would help, a larger tune split can tell.",
    Help.UNKNOWN: "Set learning_curve in the recipe to see whether more data would help.",
}


def learning_verdict(cards: Mapping[str, StudentCard], order: list[str], margin: float) -> str:
    """A short sentence a student, in the order given, and one piece of advice.

    Args:
        cards: students by name.
        order: the names, the recommended one first: the advice is for the first student whose
            curve was drawn.
        margin: a gain smaller than this is not worth more data.
    """
    if not order:
        return ""
    told = [(name, *_verdict(cards[name], margin)) for name in order]
    helps = [verdict for _, verdict, _ in told if verdict is not Help.UNKNOWN]
    sentences = [
        f"{name[:1].upper()}{name[1:]}: {verdict}{numbers}." for name, verdict, numbers in told
    ]
    return " ".join([*sentences, ADVICE[helps[0] if helps else Help.UNKNOWN]])


def _verdict(card: StudentCard, margin: float) -> tuple[Help, str]:
    """Whether the last doubling of the data brought anything, and the figures behind it."""
    last = LearningPoint(
        n_train=card.n_train, tune_agreement=card.tune_agreement, tune_loss=card.tune_loss
    )
    known = [p for p in card.learning_curve if p.n_train == card.n_train]
    last = known[-1] if known else last
    earlier = [p for p in card.learning_curve if 0 < p.n_train < last.n_train]
    if not earlier or card.n_tune < 1:
        return Help.UNKNOWN, ""
    half = min(earlier, key=lambda p: abs(math.log2(2 * p.n_train / last.n_train)))
    doublings = math.log2(last.n_train / half.n_train)
    gain = (last.tune_agreement - half.tune_agreement) / doublings
    noise = Z * _standard_error(half, last, card.n_tune) / doublings
    each = "" if abs(doublings - 1) < 0.05 else " a doubling"
    numbers = (
        f": {100 * half.tune_agreement:.1f} → {100 * last.tune_agreement:.1f} % agreement from "
        f"{half.n_train:,} to {last.n_train:,} examples, {signed_points(gain)} points{each}, "
        f"give or take {100 * noise:.1f}"
    )
    if gain > noise:
        return Help.YES, numbers
    return (Help.HARDLY if gain + noise < margin else Help.NOISE), numbers


def _standard_error(first: LearningPoint, second: LearningPoint, n: int) -> float:
    """Of the difference of two agreements on the same n inputs, taken as independent.

    That is an upper bound: two students of one teacher are mostly wrong on the same inputs.
    """
    variances = [p.tune_agreement * (1 - p.tune_agreement) / n for p in (first, second)]
    return math.sqrt(sum(variances))
