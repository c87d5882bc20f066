"""Deferral: a student that answers what it is sure of and passes the rest on to the teacher.

*Confidence* is told by the log-probs of the student's answer. *Agreement* is the share of requests
whose answer says what the teacher says: a request that is passed on is answered by the teacher, so
it agrees. The threshold is calibrated on the tune split by conformal risk control (arXiv
2208.02814): over draws of the tune split, the expected agreement on requests like those is at least
the one stated. Shapes: N prompts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from overproof.records.certificate import Interval
from overproof.records.exchange import Completion, Outcome
from overproof.records.text_certificate import DeferralCurve, DeferralPoint
from overproof.stats.intervals import wilson
from overproof.stats.risk_control import RiskControl, control_selective_risk

__all__ = [
    "DEFAULT_SCORE",
    "ConfidenceScore",
    "Observed",
    "calibrate",
    "calibrated",
    "choose_score",
    "confidence_of",
    "confidences",
    "deferral_curve",
    "discrimination",
    "fewest_tune",
    "of_logprobs",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
ConfidenceScore = Literal["mean", "min", "first", "product"]
# Fixed, not chosen by the data: nothing of the tune split is spent on choosing it.
DEFAULT_SCORE: ConfidenceScore = "mean"
STEPS = 20  # points of a curve between nothing and everything


@dataclass(frozen=True)
class Observed:
    """A student on N prompts of a split.

    ``confidence`` in [0, 1]; ``agrees`` says whether its answer is the teacher's; costs are what a
    request costs if the student, or the teacher, answers it, both in one unit of any kind.
    """

    confidence: Floats
    agrees: Bools
    student_cost: Floats
    teacher_cost: Floats

    @classmethod
    def of(cls, confidence: npt.ArrayLike, agrees: npt.ArrayLike, costs: npt.ArrayLike) -> Observed:
        """From plain arrays.

        Args:
            confidence: N.
            agrees: N booleans.
            costs: N x 2, of student and teacher; or N, the student's as a share of what the
                teacher's costs on average.

        Raises:
            ValueError: shapes that do not fit, or values outside of their ranges.
        """
        sure = np.asarray(confidence, dtype=np.float64)
        same = np.asarray(agrees).astype(np.bool_)
        paid = np.asarray(costs, dtype=np.float64)
        if paid.ndim == 1:
            paid = np.stack([paid, np.ones_like(paid)], axis=1)
        if sure.ndim != 1 or not len(sure) or same.shape != sure.shape:
            raise ValueError(f"shapes do not fit: {sure.shape} confidences, {same.shape} agrees")
        if paid.shape != (len(sure), 2):
            raise ValueError(f"shapes do not fit: {len(sure)} prompts, {paid.shape} costs")
        if not ((sure >= 0) & (sure <= 1)).all():
            raise ValueError("confidences must lie in [0, 1]")
        if not (np.isfinite(paid) & (paid >= 0)).all() or paid[:, 1].sum() <= 0:
            raise ValueError("costs must be numbers of at least 0, the teacher's above it")
        return cls(sure, same, paid[:, 0], paid[:, 1])

    def at(self, threshold: float) -> DeferralPoint:
        """What the threshold gives on these prompts."""
        deferred = self.confidence <= threshold
        paid = self.student_cost.sum() + self.teacher_cost[deferred].sum()
        return DeferralPoint(
            threshold=threshold,
            deferred=float(deferred.mean()),
            agreement=float((deferred | self.agrees).mean()),
            cost=float(paid / self.teacher_cost.sum()),
        )


Observations = Observed | tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike]


def confidence_of(completion: Completion, score: ConfidenceScore = DEFAULT_SCORE) -> float:
    """How sure a student was of its answer: a probability in [0, 1].

    ``mean`` is the geometric mean of the probabilities of its tokens, ``min`` the least of them,
    ``first`` that of the first, ``product`` that of the whole answer. The token that ends the
    answer counts where the server tells it. Zero, which no threshold lets pass, for what is no
    whole answer: a failure, or one that ran into the limit of tokens (loops are sure of
    themselves); and where no log-probs are known.
    """
    if completion.outcome not in (Outcome.ANSWERED, Outcome.REFUSED) or not completion.logprobs:
        return 0.0
    return of_logprobs([token.logprob for token in completion.logprobs], score)


def of_logprobs(logprobs: Sequence[float], score: ConfidenceScore = DEFAULT_SCORE) -> float:
    """The confidence in tokens of these log-probs, in nats."""
    if not logprobs or any(math.isnan(value) for value in logprobs):
        return 0.0
    told = {
        "mean": lambda: math.fsum(logprobs) / len(logprobs),
        "min": lambda: min(logprobs),
        "first": lambda: logprobs[0],
        "product": lambda: math.fsum(logprobs),
    }
    return math.exp(min(told[score](), 0.0))


def confidences(
    completions: Sequence[Completion], score: ConfidenceScore = DEFAULT_SCORE
) -> Floats:
    """``confidence_of`` each of N completions."""
    return np.array([confidence_of(each, score) for each in completions], dtype=np.float64)


def calibrate(confidence: npt.ArrayLike, agrees: npt.ArrayLike, stated: float) -> float:
    """The threshold, above which the student answers, for the agreement ``stated``."""
    return calibrated(confidence, agrees, stated).threshold


def calibrated(
    confidence: npt.ArrayLike,
    agrees: npt.ArrayLike,
    stated: float,
    *,
    delta: float | None = None,
) -> RiskControl:
    """The threshold with what is promised of it.

    Args:
        confidence: of N answers to tune prompts.
        agrees: whether each says what the teacher says.
        stated: the agreement wanted, in (0, 1).
        delta: with it, the promise is one about this very threshold, wrong in a share ``delta`` of
            tune splits, instead of one on average over tune splits.

    Returns:
        Where ``suffices`` is false, the threshold is 1: everything is passed on, since so few
        prompts cannot promise more. It takes ``1 / (1 - stated) - 1`` of them at the very least.
    """
    wrong = ~np.asarray(agrees).astype(np.bool_)
    return control_selective_risk(confidence, wrong, 1.0 - stated, delta=delta)


def fewest_tune(stated: float) -> int:
    """The fewest tune prompts that can promise an agreement: ``1 / (1 - stated) - 1``, rounded up.

    With fewer, even a student that agreed on all of them passes everything on.
    """
    return math.ceil(1.0 / (1.0 - stated) - 1e-9) - 1


def deferral_curve(
    student: str,
    tune: Observations,
    test: Observations,
    stated: float,
    *,
    score: ConfidenceScore = DEFAULT_SCORE,
    level: float = 0.95,
) -> DeferralCurve:
    """Cost against agreement on the test split, and the point that the tune split chose.

    Args:
        student: its name.
        tune: what the threshold is calibrated on: an ``Observed``, or what ``Observed.of`` takes.
        test: what is reported; untouched by the choice.
        stated: the agreement wanted.
        score: which confidence these are.
        level: of the interval of the agreement (Wilson's).
    """
    seen, held_out = _observed(tune), _observed(test)
    threshold = calibrated(seen.confidence, seen.agrees, stated).threshold
    chosen = held_out.at(threshold)
    n = len(held_out.confidence)
    found = wilson(round(chosen.agreement * n), n, level)
    steps = np.quantile(held_out.confidence, np.linspace(0, 1, STEPS + 1), method="lower")
    places = sorted({0.0, 1.0, threshold, *map(float, steps)})
    return DeferralCurve(
        student=student,
        stated=stated,
        threshold=threshold,
        n_tune=len(seen.confidence),
        chosen=chosen,
        agreement=Interval(
            estimate=found.estimate,
            low=found.low,
            high=found.high,
            confidence=level,
            method=found.method,
            n=n,
        ),
        points=tuple(held_out.at(place) for place in places),
        confidence_score=score,
    )


def discrimination(confidence: npt.ArrayLike, agrees: npt.ArrayLike) -> float:
    """The area under the ROC curve: how often an agreeing answer has more confidence than another.

    Equal ones count half; one half where there are no two kinds.
    """
    sure, same = np.asarray(confidence, dtype=np.float64), np.asarray(agrees).astype(np.bool_)
    right, wrong = np.sort(sure[same]), sure[~same]
    if not len(right) or not len(wrong):
        return 0.5
    below = np.searchsorted(right, wrong, side="left")
    up_to = np.searchsorted(right, wrong, side="right")
    return float(np.mean(1 - (below + up_to) / (2 * len(right))))


def choose_score(
    by_score: Mapping[ConfidenceScore, npt.ArrayLike], agrees: npt.ArrayLike
) -> tuple[ConfidenceScore, Bools]:
    """The score that tells agreeing answers apart best, and which prompts are left to calibrate on.

    It is chosen on every third prompt; calibrating on those again would break the promise, so they
    are left out. Prompts are split by content hash, so that their order is of no account.

    Returns:
        The score, and N booleans: true for prompts to calibrate on.
    """
    same = np.asarray(agrees).astype(np.bool_)
    spent = np.arange(len(same)) % 3 == 0
    best = max(
        get_args(ConfidenceScore),
        key=lambda name: (
            discrimination(np.asarray(by_score[name])[spent], same[spent])
            if name in by_score
            else -1.0
        ),
    )
    return best, ~spent


def _observed(given: Observations) -> Observed:
    return given if isinstance(given, Observed) else Observed.of(*given)
