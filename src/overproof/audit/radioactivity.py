"""Does a suspect's text lean towards a watermark that only the teacher's answers carried?

Radioactivity (Sander et al., arXiv 2402.14904): a student of watermarked answers keeps a trace of
the watermark. Two p-values stand side by side, since they rest on different things: the rank of the
real key among alternates assumes that the key was secret, and nothing else; the tail under the
keyed function's model reaches far smaller numbers and assumes that model besides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from overproof.audit.alternate_keys import (
    AlternateKeyRank,
    alternate_key_rank,
    alternates_needed,
    cohort_ranks,
)
from overproof.audit.watermarks.pairs import Pairs, densest_contexts, unique_pairs
from overproof.audit.watermarks.schemes import Key, Progress, Scheme
from overproof.records.audit import Effect, Exactness, Power, PValue, Standing, TestFinding
from overproof.stats.intervals import ratio_bootstrap
from overproof.stats.multiple import holm_adjusted_p

__all__ = [
    "Plan",
    "assess_pairs",
    "cohort_test",
    "detectable_shift",
    "excess_rate",
    "tokens_needed",
    "watermark_test",
]

Floats = npt.NDArray[np.float64]
FEW = 200
HYPOTHESIS = (
    "The suspect's texts do not depend on the teacher's watermark key: neither it nor anything it "
    "was trained on saw text marked with that key."
)
NOT_PROVED = (
    "Intent: marked text that leaked onto the public web leaves the same trace.",
    "A direct path: a model trained on the teacher's answers may stand in between.",
    "How much was used: a trace grows with dose, strength of the mark and recipe alike.",
)
KEY_IS_A_DRAW = (
    "The key was drawn at random from the distribution of the alternates, and nobody but the "
    "teacher knew it. Nothing is assumed of the text."
)


@dataclass(frozen=True)
class Plan:
    """What is fixed before any text is seen.

    Attributes:
        alpha: the level.
        share: the part of it that the test has for itself, at which its power is stated; all of it
            where it is None.
        alternates: how many alternate keys; None for the fewest that give the rank a floor of a
            tenth of ``alpha``, and at least 999.
        seed: of alternates and bootstrap.
        power: the probability for which the detectable shift is stated.
        resamples: of the bootstrap over prompts.
        max_contexts: score only the contexts with the most unique pairs; None for all.
        drop_prompt_windows: drop pairs whose window stands in the prompt.
        first_places: where the suspect's probabilities are asked along a text, score the first
            place of each window alone; False only for texts that cannot carry the mark.
    """

    alpha: float = 0.01
    alternates: int | None = None
    seed: int = 0
    power: float = 0.9
    resamples: int = 2000
    max_contexts: int | None = None
    drop_prompt_windows: bool = True
    first_places: bool = True
    share: float | None = None

    @property
    def power_alpha(self) -> float:
        """The level at which the power is stated."""
        return self.alpha if self.share is None else self.share

    def __post_init__(self) -> None:
        if self.share is not None and not 0 < self.share <= self.alpha:
            raise ValueError("a share of alpha lies above 0, and not above alpha")
        if not 0 < self.alpha < 1 or not 0 < self.power < 1 or self.resamples < 100:
            raise ValueError("alpha and power lie between 0 and 1, resamples are 100 or more")

    def alternates_for(self, hypotheses: int = 1) -> int:
        """How many alternates to take."""
        if self.alternates is not None:
            return self.alternates
        return max(999, alternates_needed(self.alpha / 10, hypotheses))


def tokens_needed(shift: float, share: float, *, alpha: float = 0.01, power: float = 0.9) -> int:
    """Scored pairs needed to find a green rate of ``share + shift``.

    n = (z_alpha + z_beta)^2 gamma (1 - gamma) / shift^2, the normal approximation of the binomial.

    Raises:
        ValueError: a shift that is not above 0, or shares outside of (0, 1).
    """
    if not shift > 0 or not 0 < share < 1 or not 0 < alpha < 1 or not 0 < power < 1:
        raise ValueError("shift is above 0; share, alpha and power lie between 0 and 1")
    z = float(ndtri(1 - alpha) + ndtri(power))
    return int(np.ceil(z**2 * share * (1 - share) / shift**2))


def detectable_shift(n: float, spread: float, *, alpha: float = 0.01, power: float = 0.9) -> float:
    """The shift in the mean hit that ``n`` pairs find with probability ``power``."""
    return float((ndtri(1 - alpha) + ndtri(power)) * spread / np.sqrt(n))


def excess_rate(
    scheme: Scheme, pairs: Pairs, key: Key, *, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean hit minus its expectation, with a 95 % percentile bootstrap over prompts.

    Returns:
        (estimate, low, high); the ends are nan where there are fewer than two prompts.
    """
    weights = np.ones(len(pairs)) if pairs.weights is None else pairs.weights
    hits = scheme.hits(pairs, key) * weights
    _, owner = np.unique(pairs.prompts, return_inverse=True)
    rate = ratio_bootstrap(
        np.bincount(owner, hits), np.bincount(owner, weights), resamples=resamples,
        seed=[0x626F6F74, seed],
    )  # fmt: skip
    unmarked = scheme.expected
    return rate.estimate - unmarked, rate.low - unmarked, rate.high - unmarked


def watermark_test(
    texts: Sequence[Sequence[int]],
    scheme: Scheme,
    key: Key,
    *,
    prompts: Sequence[Sequence[int]] | None = None,
    plan: Plan | None = None,
    tokenizer: str | None = None,
    teacher_tokenizer: str | None = None,
    progress: Progress | None = None,
) -> TestFinding:
    """Radioactivity from the suspect's text alone.

    Args:
        texts: the suspect's answers, sampled at temperature 1, as ids of the *teacher's* tokenizer.
        scheme: the teacher's watermark.
        key: the key that it served with.
        prompts: ids of each answer's prompt; windows that stand in it are dropped.
        plan: alternates, level and the rest.
        tokenizer: hash of the vocabulary that the texts were tokenised with.
        teacher_tokenizer: hash of the teacher's; see `vocabulary_hash`.
        progress: called with what is done and what there is.

    Raises:
        ConfigError: a default, published or short key.
        DataError: ids that are not of the vocabulary.
    """
    plan = plan or Plan()
    scheme.check_key(key)
    pairs = _pairs(texts, prompts, scheme, plan)
    finding = assess_pairs(pairs, scheme, key, plan=plan, progress=progress)
    return _with_tokenizer(finding, tokenizer, teacher_tokenizer, prompts is None)


def _pairs(
    texts: Sequence[Sequence[int]],
    prompts: Sequence[Sequence[int]] | None,
    scheme: Scheme,
    plan: Plan,
) -> Pairs:
    pairs = unique_pairs(
        texts,
        prompts,
        width=scheme.width,
        pad=scheme.pad,
        vocabulary=scheme.vocabulary,
        drop_prompt_windows=plan.drop_prompt_windows,
    )
    return pairs if plan.max_contexts is None else densest_contexts(pairs, plan.max_contexts)


def _with_tokenizer(
    finding: TestFinding, tokenizer: str | None, teachers: str | None, no_prompts: bool
) -> TestFinding:
    reasons = list(finding.reasons)
    if tokenizer is None or teachers is None:
        reasons.append("It was not checked that the texts were tokenised as the teacher's are.")
    elif tokenizer != teachers:
        reasons.append(
            "The texts were tokenised by another vocabulary than the teacher's: the p-values hold, "
            "but a trace cannot be seen, so no evidence here means nothing."
        )
    if no_prompts:
        reasons.append("No prompts were given: marked text in a prompt may have been copied.")
    standing = finding.standing
    if standing is Standing.DONE and (tokenizer is None or tokenizer != teachers):
        standing = Standing.FLAGGED
    return replace(finding, standing=standing, reasons=tuple(reasons))


def _refusal(pairs: Pairs, floor: float, plan: Plan) -> str:
    if not len(pairs):
        return "No pair is left to score: the texts are empty, or all windows stand in the prompts."
    if floor > plan.alpha:
        return (
            f"The rank cannot go below {floor:.3g}, above the level {plan.alpha:g}: "
            f"take {alternates_needed(plan.alpha)} alternate keys or more."
        )
    return ""


def assess_pairs(
    pairs: Pairs,
    scheme: Scheme,
    key: Key,
    *,
    plan: Plan,
    progress: Progress | None = None,
    unit: str = "unique (context, token) pairs",
    n: int | None = None,
    name: str = "watermark",
    measured: Callable[[AlternateKeyRank], tuple[Effect, Power]] | None = None,
) -> TestFinding:
    """The test on pairs that are at hand.

    Args:
        pairs: scored ones.
        scheme: the teacher's watermark.
        key: the key that it served with.
        plan: alternates, level and the rest.
        progress: called with what is done and what there is.
        unit: what ``n`` counts.
        n: how many units, where pairs are not the unit.
        name: of the test.
        measured: effect and power from the rank; None for the excess of the mean hit.

    Raises:
        ConfigError: a guessable key, or a scheme without a tail for such weights.
    """
    alternates = plan.alternates_for()
    count = len(pairs) if n is None else n
    reason = _refusal(pairs, 1 / (alternates + 1), plan)
    if reason:
        return TestFinding(name, Standing.REFUSED, HYPOTHESIS, count, unit, reasons=(reason,))
    rank = alternate_key_rank(
        scheme, pairs, key, alternates=alternates, seed=plan.seed, progress=progress
    )
    tail = scheme.tail(pairs, key, rank.score)
    if measured is None:
        effect, power = _effect(scheme, pairs, key, plan), _power(scheme, pairs, plan)
    else:
        effect, power = measured(rank)
    few = count < FEW
    return TestFinding(
        name,
        Standing.FLAGGED if few else Standing.DONE,
        HYPOTHESIS,
        count,
        unit,
        (_rank_value(rank), tail),
        (effect,),
        power,
        NOT_PROVED,
        (f"Only {count} {unit}: too few to see anything but a strong trace.",) if few else (),
        _details(scheme, pairs, rank),
    )


def _rank_value(rank: AlternateKeyRank) -> PValue:
    return PValue(
        rank.p,
        Exactness.EXACT,
        f"rank among {len(rank.alternates):,} alternate keys, {rank.at_least} at least as high",
        KEY_IS_A_DRAW,
        floor=rank.floor,
    )


def _effect(scheme: Scheme, pairs: Pairs, key: Key, plan: Plan) -> Effect:
    value, low, high = excess_rate(scheme, pairs, key, resamples=plan.resamples, seed=plan.seed)
    bounded = not np.isnan(low)
    names = {
        "gumbel": "mean score above 1, that of unmarked text",
        "synthid": "mean g-value above that of unmarked text",
    }
    return Effect(
        names.get(scheme.name, f"green rate above {scheme.expected:.4g}, that of unmarked text"),
        value,
        low if bounded else None,
        high if bounded else None,
        0.95 if bounded else None,
        "Percentile bootstrap over prompts."
        if bounded
        else "No interval: there are fewer than two prompts.",
        unit="score" if scheme.name in names else "share",
    )


def _power(scheme: Scheme, pairs: Pairs, plan: Plan) -> Power:
    weights = getattr(scheme, "weights", lambda p: p.weights)(pairs)
    n = len(pairs) if weights is None else float(weights.sum() ** 2 / (weights**2).sum())
    shift = detectable_shift(n, scheme.spread, alpha=plan.power_alpha, power=plan.power)
    return Power(
        shift,
        plan.power,
        plan.power_alpha,
        f"A mean hit of {scheme.expected + shift:.4f} in place of {scheme.expected:.4f} would have "
        f"been found with probability {plan.power:g} at the level {plan.power_alpha:g}.",
    )


def _details(scheme: Scheme, pairs: Pairs, rank: AlternateKeyRank) -> dict[str, object]:
    spread = float(rank.alternates.std())
    return {
        "scheme": scheme.name,
        "score": rank.score,
        "alternate_mean": float(rank.alternates.mean()),
        "alternate_sd": spread,
        "sds_above": (rank.score - float(rank.alternates.mean())) / spread if spread else 0.0,
        "alternates": len(rank.alternates),
        "tokens_scored": pairs.scored,
        "dropped_in_prompt": pairs.in_prompt,
        "texts": pairs.texts,
    }


def cohort_test(
    texts: Sequence[Sequence[int]],
    scheme: Scheme,
    keys: Mapping[str, Key],
    *,
    prompts: Sequence[Sequence[int]] | None = None,
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> TestFinding:
    """One key a cohort of accounts: which cohort's answers was the suspect trained on?

    The p-value is the smallest of Holm's adjusted ranks; ``details["cohorts"]`` holds each one's.
    Single accounts are too thin for a key each (a campaign's average 670 exchanges).
    """
    plan = plan or Plan()
    for key in keys.values():
        scheme.check_key(key)
    pairs = _pairs(texts, prompts, scheme, plan)
    alternates, unit = plan.alternates_for(len(keys)), "unique (context, token) pairs"
    floor = len(keys) / (alternates + 1)
    reason = _refusal(pairs, floor, plan)
    if reason:
        return TestFinding("watermark", Standing.REFUSED, HYPOTHESIS, len(pairs), unit, (), (),
                           reasons=(reason,))  # fmt: skip
    ranks = cohort_ranks(
        scheme, pairs, keys, alternates=alternates, seed=plan.seed, progress=progress
    )
    adjusted = holm_adjusted_p([rank.p for rank in ranks.values()])
    best = list(keys)[int(np.argmin(adjusted))]
    method = f"smallest of {len(keys)} ranks among {alternates:,} alternate keys, Holm's procedure"
    return TestFinding(
        "watermark",
        Standing.FLAGGED if len(pairs) < FEW else Standing.DONE,
        HYPOTHESIS.replace("key", "keys", 1),
        len(pairs),
        unit,
        (
            PValue(
                float(adjusted.min()), Exactness.EXACT, method, KEY_IS_A_DRAW, floor=min(1.0, floor)
            ),
        ),
        (_effect(scheme, pairs, keys[best], plan),),
        _power(scheme, pairs, replace(plan, share=plan.power_alpha / len(keys))),
        NOT_PROVED,
        (),
        {
            **_details(scheme, pairs, ranks[best]),
            "cohorts": {
                name: {"p": rank.p, "holm": float(each)}
                for (name, rank), each in zip(ranks.items(), adjusted, strict=True)
            },
        },
    )
