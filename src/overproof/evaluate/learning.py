"""Would more data help? Read off the learning curve on the tune split."""

from __future__ import annotations

import math
from collections.abc import Mapping

from overproof.evaluate.wording import points, signed_points
from overproof.records.student import LearningPoint, StudentCard

__all__ = ["learning_verdict"]

Z = 1.645  # one-sided 95 %


def learning_verdict(cards: Mapping[str, StudentCard], order: list[str], margin: float) -> str:
    """One sentence a student, in the order given.

    Args:
        cards: students by name.
        order: the names, the recommended one first.
        margin: a gain smaller than this is not worth more data.
    """
    return " ".join(_sentence(name, cards[name], margin) for name in order)


def _sentence(name: str, card: StudentCard, margin: float) -> str:
    last = LearningPoint(
        n_train=card.n_train, tune_agreement=card.tune_agreement, tune_loss=card.tune_loss
    )
    known = [p for p in card.learning_curve if p.n_train == card.n_train]
    last = known[-1] if known else last
    earlier = [p for p in card.learning_curve if 0 < p.n_train < last.n_train]
    if not earlier or card.n_tune < 1:
        return f"No learning curve was drawn for the {name}, so this cannot be told."
    half = min(earlier, key=lambda p: abs(math.log2(2 * p.n_train / last.n_train)))
    doublings = math.log2(last.n_train / half.n_train)
    gain = (last.tune_agreement - half.tune_agreement) / doublings
    noise = Z * _standard_error(half, last, card.n_tune) / doublings
    numbers = (
        f"from {half.n_train:,} to {last.n_train:,} examples the {name}'s agreement with the "
        f"teacher went from {100 * half.tune_agreement:.1f} to {100 * last.tune_agreement:.1f} %, "
        f"{signed_points(gain)} points a doubling, give or take {100 * noise:.1f} "
        f"({card.n_tune:,} tune inputs)"
    )
    if gain > noise:
        return f"More data would probably help: {numbers}."
    if gain + noise < margin:
        return f"More data would hardly help, by less than {points(margin)}: {numbers}."
    return f"Whether more data would help cannot be told from the noise: {numbers}."


def _standard_error(first: LearningPoint, second: LearningPoint, n: int) -> float:
    """Of the difference of two agreements on the same n inputs, taken as independent.

    That is an upper bound: two students of one teacher are mostly wrong on the same inputs.
    """
    variances = [p.tune_agreement * (1 - p.tune_agreement) / n for p in (first, second)]
    return math.sqrt(sum(variances))
