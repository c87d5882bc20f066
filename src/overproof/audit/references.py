"""The conformal test at model level: is the suspect nearer to this teacher than chance allows?

Nobody randomised anything here, so nothing is exact: the suspect is ranked among R innocent
models, and the teacher among J decoys, and the larger of the two p-values counts. ``p_model`` asks
whether the suspect is unusually near to the teacher *for a model*, ``p_teacher`` whether the
teacher is unusually near to the suspect *for a teacher*; a model that resembles every teacher, or a
teacher that every model resembles, passes one but not both. The number of prompts makes scores
steadier and p-values no smaller: their floors are ``1/(R + 1)`` and ``1/(J + 1)``.

With ``k`` the likeness of `overproof.audit.likeness`, the score of candidate c for model x is
``B(x, c) = mean_i [k(x_i, c_i) - mean over the other candidates c' of k(x_i, c'_i)]``: the
leave-one-out form, in which teacher and decoys can be swapped and the scores swap with them
(symmetry is what the rank among decoys rests on). ``A(x) = B(x, teacher)``. Centred on innocents,
``B(S, c) - mean_r B(R_r, c)``, a teacher that everybody resembles loses its advantage.

What a positive means: *stylistically close*, beyond what these references show. That is not yet
"trained on its outputs": both may have learned from the same third source.

Shapes: N prompts, X models (suspect first, then R innocents), C candidates (teacher first, then J
decoys).
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from overproof.audit.likeness import BUCKETS, likeness
from overproof.audit.reference_answers import Answers, ModelCard
from overproof.audit.reference_power import detectable_shift, fewest_references
from overproof.records.audit import Effect, Exactness, Power, PValue, Standing, TestFinding
from overproof.stats.conformal import p_floor, rank_p
from overproof.stats.intervals import bootstrap_rows

__all__ = [
    "FreeNulls",
    "ReferenceRanks",
    "centred_contrasts",
    "contrasts",
    "free_nulls",
    "kernel_of",
    "reference_ranks",
    "references_test",
]

Floats = npt.NDArray[np.float64]

FEWEST_PROMPTS = 300
FEWEST_SAMPLES = 5
PROBABILITY = 0.8  # with which the stated effect would have been seen
TIE = 1e-12  # sums of the same numbers in another order are ties, and ties count against a finding

HYPOTHESIS = (
    "The suspect is no nearer to this teacher than an innocent model of its kind, and this teacher "
    "no nearer to the suspect than a decoy teacher."
)
NOT_PROVED = (
    "That the suspect was trained on this teacher's outputs: only closeness of style.",
    "That the closeness does not come from a third source both learned from, public leakage, or a "
    "model in between.",
)


@dataclass(frozen=True)
class ReferenceRanks:
    """Both ranks.

    Attributes:
        score: A(S).
        innocent_scores: A of each innocent.
        p_model: rank of the suspect among innocents.
        p_teacher: rank of the teacher among decoys.
    """

    score: float
    innocent_scores: Floats
    p_model: float
    p_teacher: float


@dataclass(frozen=True)
class FreeNulls:
    """Pairs that are innocent by date: the one was released before the other.

    Attributes:
        pairs: how many there are.
        at_floor: in how many the older one ranked first among innocents all the same.
        expected: how many that should be.
    """

    pairs: int
    at_floor: int
    expected: float


def kernel_of(answers: Answers, buckets: int = BUCKETS) -> Floats:
    """Likeness of suspect and innocents to teacher and decoys, N x X x C."""
    j = len(answers.decoys)
    judged = [0, *range(2 + j, len(answers.models))]
    candidates = list(range(1, 2 + j))
    kept = [likeness(groups, buckets)[np.ix_(judged, candidates)] for groups in answers.texts]
    return np.stack(kept)


def contrasts(kernel_nxc: Floats) -> Floats:
    """``B(x, c)`` a prompt, N x X x C: likeness to c less the mean likeness to the others."""
    candidates = kernel_nxc.shape[2]
    if candidates < 2:
        raise ValueError("a contrast needs a decoy")
    total = kernel_nxc.sum(axis=2, keepdims=True)
    return np.asarray(kernel_nxc - (total - kernel_nxc) / (candidates - 1))


def centred_contrasts(contrasts_xc: Floats) -> Floats:
    """The suspect's ``B(S, c)`` less the innocents' mean, C values; teacher first."""
    return np.asarray(contrasts_xc[0] - contrasts_xc[1:].mean(axis=0))


def reference_ranks(kernel_nxc: Floats) -> ReferenceRanks:
    """Rank the suspect among innocents and the teacher among decoys; ties count against both."""
    means = contrasts(kernel_nxc).mean(axis=0)
    own, innocents = float(means[0, 0]), means[1:, 0]
    centred = centred_contrasts(means)
    return ReferenceRanks(
        own,
        innocents,
        rank_p(int((innocents >= own - TIE).sum()), len(innocents)),
        rank_p(int((centred[1:] >= centred[0] - TIE).sum()), len(centred) - 1),
    )


def free_nulls(answers: Answers, kernel_nxc: Floats) -> FreeNulls:
    """How the test does on innocents older than a candidate, which cannot have learned from it."""
    means = contrasts(kernel_nxc).mean(axis=0)[1:]
    candidates = (answers.teacher, *answers.decoys)
    pairs = first = 0
    for x, innocent in enumerate(answers.innocents):
        born = _released(answers, innocent)
        for c, candidate in enumerate(candidates):
            other = _released(answers, candidate)
            if born is None or other is None or born >= other or len(means) < 2:
                continue
            pairs += 1
            first += int((np.delete(means[:, c], x) < means[x, c] - TIE).all())
    return FreeNulls(pairs, first, pairs / max(1, len(means)))


def _released(answers: Answers, model: str) -> datetime.date | None:
    return _card(answers, model).released


def _card(answers: Answers, model: str) -> ModelCard:
    return answers.cards.get(model, ModelCard(model))


def references_test(
    answers: Answers,
    *,
    alpha: float = 0.05,
    share: float | None = None,
    kernel: Floats | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> TestFinding:
    """Rank the suspect among innocents and the teacher among decoys.

    Args:
        answers: see `overproof.audit.reference_answers.read_answers`.
        alpha: level; the test is refused where its floor lies above.
        share: the part of it that the test has for itself, at which its power is stated; all of it
            where it is None.
        kernel: N x X x C where it was computed before; else from the texts.
        confidence: of the effect's interval.
        seed: of the bootstrap over prompts.
    """
    refusal = _refusal(answers, alpha)
    if refusal:
        return _refused(answers, refusal)
    kernel = kernel_of(answers) if kernel is None else kernel
    ranks = reference_ranks(kernel)
    warnings = _warnings(answers)
    nulls = free_nulls(answers, kernel)
    spread = float(np.std(ranks.innocent_scores, ddof=1))
    return TestFinding(
        test="references",
        standing=Standing.FLAGGED if warnings else Standing.DONE,
        hypothesis=HYPOTHESIS,
        n=len(answers.innocents) + len(answers.decoys),
        unit="reference models",
        p_values=_p_values(answers, ranks),
        effects=_effects(kernel, spread, confidence, seed),
        power=_power(answers, alpha if share is None else share, spread),
        not_proved=NOT_PROVED,
        reasons=warnings,
        details={
            "prompts": len(answers.prompts),
            "samples": answers.samples,
            "innocents": len(answers.innocents),
            "decoys": len(answers.decoys),
            "floor_model": p_floor(len(answers.innocents)),
            "floor_teacher": p_floor(len(answers.decoys)),
            "score": ranks.score,
            "innocent_scores": ranks.innocent_scores.tolist(),
            "exchangeability": _exchangeability(answers),
            "free_nulls": {
                "pairs": nulls.pairs,
                "ranked_first": nulls.at_floor,
                "expected": nulls.expected,
            },
        },
    )


def _refusal(answers: Answers, alpha: float) -> str:
    needed = fewest_references(alpha)
    r, j = len(answers.innocents), len(answers.decoys)
    if r < needed or j < needed:
        return (
            f"{r} innocents and {j} decoys: the floor of p is "
            f"{max(p_floor(r), p_floor(j)):.3g}, above alpha = {alpha:g}; "
            f"at least {needed} of each are needed"
        )
    suspect, teacher = _card(answers, answers.suspect), _card(answers, answers.teacher)
    if suspect.released and teacher.released and suspect.released < teacher.released:
        return (
            f"the suspect was released on {suspect.released}, before the teacher on "
            f"{teacher.released}: it cannot have learned from it, and serves only as a null"
        )
    return ""


def _refused(answers: Answers, reason: str) -> TestFinding:
    return TestFinding(
        test="references",
        standing=Standing.REFUSED,
        hypothesis=HYPOTHESIS,
        n=len(answers.innocents) + len(answers.decoys),
        unit="reference models",
        not_proved=NOT_PROVED,
        reasons=(reason,),
        details={
            "floor_model": p_floor(len(answers.innocents)),
            "floor_teacher": p_floor(len(answers.decoys)),
        },
    )


def _p_values(answers: Answers, ranks: ReferenceRanks) -> tuple[PValue, ...]:
    r, j = len(answers.innocents), len(answers.decoys)
    model = PValue(
        ranks.p_model,
        Exactness.RANK,
        f"rank of the suspect among {r} innocents",
        "Were it innocent, the suspect would be exchangeable with the innocents: of like date, "
        "size and base, and none of them trained on this teacher.",
        p_floor(r),
    )
    teacher = PValue(
        ranks.p_teacher,
        Exactness.RANK,
        f"rank of the teacher among {j} decoys, centred on the innocents",
        "Were it not a source, the teacher would be exchangeable with the decoys: chosen as they "
        "were, and none of them a source of the suspect.",
        p_floor(j),
    )
    both = PValue(
        max(model.value, teacher.value),
        Exactness.RANK,
        "the larger of both ranks",
        f"{model.assumption} {teacher.assumption}",
        max(model.floor, teacher.floor),
    )
    return (both, model, teacher)


def _effects(kernel: Floats, spread: float, confidence: float, seed: int) -> tuple[Effect, ...]:
    each = contrasts(kernel)[:, :, 0]
    excess = each[:, 0] - each[:, 1:].mean(axis=1)
    why = "interval over prompts, these reference models given"
    name = "likeness to the teacher beyond that of innocents"
    if len(excess) < 2:
        low = high = level = None
    else:
        found = bootstrap_rows(
            lambda rows: excess[rows].mean(axis=1), len(excess), seed=seed, confidence=confidence
        )
        low, high, level = found.low, found.high, confidence
    gap = float(excess.mean())
    effects = [Effect(name, gap, low, high, level, why, "cosine")]
    if spread > 0:
        why = "over that of the innocents' scores; with few innocents it is itself uncertain"
        effects.append(Effect("the same in standard deviations", gap / spread, why=why, unit="sd"))
    return tuple(effects)


def _power(answers: Answers, alpha: float, spread: float) -> Power:
    fewest = min(len(answers.innocents), len(answers.decoys))
    shift = detectable_shift(fewest, alpha, PROBABILITY)
    if shift is None:
        words = f"With so few references nothing would be seen at the level {alpha:g}."
        return Power(None, PROBABILITY, alpha, words)
    words = (
        f"At the level {alpha:g} either rank would have seen a likeness {shift:.1f} standard "
        f"deviations of the references above their mean ({shift * spread:.3g} in cosine) with "
        f"probability {PROBABILITY:g}, were their scores normal; both together see less."
    )
    return Power(shift * spread, PROBABILITY, alpha, words)


def _warnings(answers: Answers) -> tuple[str, ...]:
    found: list[str] = []
    if len(answers.prompts) < FEWEST_PROMPTS:
        found.append(f"{len(answers.prompts)} prompts; at least {FEWEST_PROMPTS} are advised")
    if answers.samples < FEWEST_SAMPLES:
        found.append(f"{answers.samples} samples a prompt; at least {FEWEST_SAMPLES} are advised")
    if answers.dropped:
        found.append(f"{answers.dropped} prompts left out, because not every model answered them")
    born = _card(answers, answers.suspect).released
    for innocent in answers.innocents:
        card = _card(answers, innocent)
        if born and card.released and card.released > born:
            found.append(f"innocent {innocent!r} is newer than the suspect: not of like date")
        if _family(innocent) == _family(answers.teacher):
            name = f"shares a name with the teacher {answers.teacher!r}"
            found.append(f"innocent {innocent!r} {name}: it may have learned from it")
    for decoy in answers.decoys:
        if _family(decoy) == _family(answers.teacher):
            found.append(f"decoy {decoy!r} shares a name with the teacher: it may be a source too")
    return tuple(found)


def _family(model: str) -> str:
    """``Qwen2.5-7B-Instruct`` and ``org/qwen-2`` are both ``qwen``."""
    name = model.rsplit("/", 1)[-1].casefold()
    found = re.match(r"[^\W\d_]+", name)
    return found[0] if found else name


def _exchangeability(answers: Answers) -> list[str]:
    """What the table of models says of date, size and base, in sentences."""
    suspect = _card(answers, answers.suspect)
    cards = [_card(answers, name) for name in answers.innocents]
    out: list[str] = []
    dates = sorted(card.released for card in cards if card.released)
    if suspect.released and dates:
        out.append(
            f"Date: suspect {suspect.released}, {len(dates)} of {len(cards)} innocents known, "
            f"{dates[0]} to {dates[-1]}."
        )
    else:
        out.append("Date: not given, so likeness of date is assumed, not checked.")
    sizes = sorted(card.parameters for card in cards if card.parameters)
    if suspect.parameters and sizes:
        inside = sizes[0] <= suspect.parameters <= sizes[-1]
        out.append(
            f"Size: suspect {suspect.parameters:.3g} parameters, innocents {sizes[0]:.3g} to "
            f"{sizes[-1]:.3g}{'' if inside else ': the suspect lies outside'}."
        )
    else:
        out.append("Size: not given, so likeness of size is assumed, not checked.")
    bases = [card.base for card in cards if card.base]
    if suspect.base and bases:
        same = sum(base == suspect.base for base in bases)
        out.append(f"Base: {same} of {len(cards)} innocents share the suspect's base.")
    else:
        out.append("Base: not given, so likeness of base is assumed, not checked.")
    return out
