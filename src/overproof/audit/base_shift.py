"""Open weights with log-probs: did the suspect move from its base towards this teacher's answers?

``Delta_S(y) = [log p_S(y|x) - log p_B(y|x)] / |y|`` is how much likelier, per token, the suspect
makes an answer than its public base B does. The statistic is the mean over prompts of
``Delta_S(y_T) - mean_j Delta_S(y_Dj)``: what makes *any* good answer likelier cancels against the
decoys'. Its p-value is the rank among innocent fine-tunes of the same base, with the floor
1/(R + 1): prompts make the statistic steadier, not the p-value smaller. Without a known base there
is an effect with an interval over prompts and no p-value, for a model that always liked the
teacher's style looks the same as one that learned it.

All log-probs are sums over an answer's tokens, natural logarithm, in each model's own tokenisation
of the same bytes; ``|y|`` is one length for all models (the base's tokens), so that a tokenizer
that cuts finer does not shift the mean.

Shapes: N prompts, J decoys, R innocents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from overproof.audit.reference_power import detectable_shift, fewest_references
from overproof.errors import DataError
from overproof.records.audit import Effect, Exactness, Power, PValue, Standing, TestFinding
from overproof.stats.conformal import p_floor, rank_p
from overproof.stats.intervals import bootstrap_rows

__all__ = ["AnswerScores", "base_shift_test", "shift_by_prompt"]

Floats = npt.NDArray[np.float64]

FEWEST_PROMPTS = 300
PROBABILITY = 0.8
TIE = 1e-12

HYPOTHESIS = (
    "Fine-tuning moved the suspect from its base no further towards this teacher's answers than "
    "it moves an innocent fine-tune of the same base."
)
NOT_PROVED = (
    "That the suspect was trained on this teacher's own answers: a third source with its style "
    "moves a model the same way.",
    "That nobody stood between: public leakage and a model in between look the same.",
)


@dataclass(frozen=True)
class AnswerScores:
    """What one model says of the answers.

    Attributes:
        model: its name.
        teacher_n: log-probability of the teacher's answer to each prompt, in nats.
        decoys_nj: the same of each decoy's.
    """

    model: str
    teacher_n: npt.ArrayLike
    decoys_nj: npt.ArrayLike


def _arrays(scores: AnswerScores, shape: tuple[int, int] | None) -> tuple[Floats, Floats]:
    teacher = np.asarray(scores.teacher_n, dtype=np.float64)
    decoys = np.asarray(scores.decoys_nj, dtype=np.float64)
    if teacher.ndim != 1 or decoys.ndim != 2 or len(teacher) != len(decoys) or not decoys.size:
        raise DataError(
            f"log-probs of {scores.model!r}",
            f"have the shapes {teacher.shape} and {decoys.shape}",
            "give N of the teacher's answers and N x J of the decoys'",
        )
    if shape is not None and decoys.shape != shape:
        raise DataError(
            f"log-probs of {scores.model!r}",
            f"are for {decoys.shape[0]} prompts and {decoys.shape[1]} decoys, not {shape[0]} and "
            f"{shape[1]}",
            "score the same answers with every model",
        )
    for name, values in (("teacher", teacher[:, None]), ("decoy", decoys)):
        bad = np.argwhere(~(np.isfinite(values) & (values <= 0)))
        if len(bad):
            row, column = (int(x) for x in bad[0])
            raise DataError(
                f"log-probs of {scores.model!r}, prompt {row}, {name} answer {column}",
                f"is {values[row, column]}, which is no log-probability",
                "sum the natural logarithms of the answer's token probabilities",
            )
    return teacher, decoys


def _lengths(lengths: npt.ArrayLike, shape: tuple[int, ...], what: str) -> Floats:
    values = np.asarray(lengths, dtype=np.float64)
    if values.shape != shape or not (np.isfinite(values) & (values > 0)).all():
        raise DataError(
            f"lengths of the {what} answers",
            f"are not {shape} counts above zero",
            "leave empty answers out",
        )
    return values


def shift_by_prompt(
    suspect: AnswerScores,
    base: AnswerScores | None,
    teacher_tokens_n: npt.ArrayLike,
    decoy_tokens_nj: npt.ArrayLike,
) -> Floats:
    """``Delta_S(y_T) - mean_j Delta_S(y_Dj)`` for each prompt, nats a token; N values.

    Args:
        suspect: its log-probs.
        base: the base's; None where it is not known, then ``Delta_S = log p_S / |y|``.
        teacher_tokens_n: tokens of the teacher's answers.
        decoy_tokens_nj: tokens of the decoys'.

    Raises:
        DataError: shapes that do not fit, a value that is no log-probability.
    """
    teacher, decoys = _arrays(suspect, None)
    tokens = _lengths(teacher_tokens_n, teacher.shape, "teacher's")
    others = _lengths(decoy_tokens_nj, decoys.shape, "decoys'")
    if base is not None:
        base_teacher, base_decoys = _arrays(base, decoys.shape)
        teacher, decoys = teacher - base_teacher, decoys - base_decoys
    return np.asarray(teacher / tokens - (decoys / others).mean(axis=1))


def base_shift_test(
    suspect: AnswerScores,
    base: AnswerScores | None,
    innocents: Sequence[AnswerScores],
    teacher_tokens_n: npt.ArrayLike,
    decoy_tokens_nj: npt.ArrayLike,
    *,
    alpha: float = 0.05,
    share: float | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> TestFinding:
    """Rank the suspect's shift among those of innocent fine-tunes of the same base.

    Args:
        suspect: its log-probs of the teacher's and the decoys' answers.
        base: its base's; None where that is not known.
        innocents: fine-tunes of the same base that never saw the teacher.
        teacher_tokens_n: tokens of the teacher's answers, in the base's tokenizer.
        decoy_tokens_nj: tokens of the decoys'.
        alpha: level; no p-value where the floor lies above, an effect all the same.
        share: the part of it that the test has for itself, at which its power is stated; all of it
            where it is None.
        confidence: of the effect's interval over prompts.
        seed: of the bootstrap.

    Raises:
        DataError: log-probs missing or of other answers.
    """
    lengths = (teacher_tokens_n, decoy_tokens_nj)
    own = shift_by_prompt(suspect, base, *lengths)
    if len(own) < 2:
        raise DataError("base shift", f"rests on {len(own)} prompts", "score at least two")
    shape = np.asarray(suspect.decoys_nj).shape
    for innocent in innocents:
        _arrays(innocent, (shape[0], shape[1]))
    others = [shift_by_prompt(innocent, base, *lengths) for innocent in innocents]
    means = np.array([each.mean() for each in others])
    needed, refs = fewest_references(alpha), len(innocents)
    reasons: list[str] = []
    p_values: tuple[PValue, ...] = ()
    power = None
    if base is None:
        reasons.append("the suspect's base is not known: an effect, no p-value")
    elif refs < needed:
        reasons.append(
            f"{refs} innocent fine-tunes: the floor of p is {p_floor(refs):.3g}, above alpha = "
            f"{alpha:g}; at least {needed} are needed"
        )
    else:
        p_values = (_p(rank_p(int((means >= own.mean() - TIE).sum()), refs), refs),)
        power = _power(means, alpha if share is None else share)
    if not reasons and len(own) < FEWEST_PROMPTS:
        reasons.append(f"{len(own)} prompts; at least {FEWEST_PROMPTS} are advised")
        standing = Standing.FLAGGED
    else:
        standing = Standing.REFUSED if reasons else Standing.DONE
    return TestFinding(
        test="base-shift",
        standing=standing,
        hypothesis=HYPOTHESIS,
        n=refs if p_values else len(own),
        unit="innocent fine-tunes" if p_values else "prompts",
        p_values=p_values,
        effects=_effects(own, others, base is not None, confidence, seed),
        power=power,
        not_proved=NOT_PROVED,
        reasons=tuple(reasons),
        details={
            "prompts": len(own),
            "decoys": shape[1],
            "innocents": refs,
            "floor": p_floor(refs),
            "shift": float(own.mean()),
            "innocent_shifts": means.tolist(),
        },
    )


def _p(value: float, refs: int) -> PValue:
    return PValue(
        value,
        Exactness.RANK,
        f"rank of the shift among {refs} innocent fine-tunes of the same base",
        "Were it innocent, the suspect would be exchangeable with the innocents: fine-tuned from "
        "the same base, with like data and effort, and never on this teacher.",
        p_floor(refs),
    )


def _effects(
    own: Floats, others: list[Floats], known: bool, confidence: float, seed: int
) -> tuple[Effect, ...]:
    def effect(name: str, values: Floats, why: str) -> Effect:
        found = bootstrap_rows(
            lambda rows: values[rows].mean(axis=1), len(values), seed=seed, confidence=confidence
        )
        return Effect(name, found.estimate, found.low, found.high, confidence, why, "nats a token")

    over = "interval over prompts, this model given"
    if not known:
        why = f"not a shift, for the base is not known; {over}"
        return (effect("preference for the teacher's answers over the decoys'", own, why),)
    effects = [effect("shift from the base towards the teacher's answers", own, over)]
    if others:
        excess = own - np.mean(others, axis=0)
        name = "the same beyond that of innocent fine-tunes"
        effects.append(effect(name, excess, f"{over}; these innocents given"))
    return tuple(effects)


def _power(means: Floats, alpha: float) -> Power:
    shift = detectable_shift(len(means), alpha, PROBABILITY)
    spread = float(np.std(means, ddof=1))
    if shift is None:
        words = f"With so few references nothing would be seen at the level {alpha:g}."
        return Power(None, PROBABILITY, alpha, words)
    words = (
        f"At the level {alpha:g} it would have seen a shift {shift * spread:.3g} nats a token "
        f"beyond the innocents' mean ({shift:.1f} of their standard deviations) with "
        f"probability {PROBABILITY:g}, were theirs normal."
    )
    return Power(shift * spread, PROBABILITY, alpha, words)
