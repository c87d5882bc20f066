"""Served versus ghost: did the suspect see which of several answers was served?

The null hypothesis is that the suspect does not depend on *which* of a prompt's answers was served.
It is tested exactly, whatever else the suspect was trained on, other outputs of the same teacher
included, because the provider's own draw is the randomisation. Nearest prior art: STAMP (arXiv
2504.13416), a paired test of membership; no version for distillation is published.

One road: checks of the log that never look at the suspect → scores → the rank sum and its exact
tail → how large, how much at least, which prompts, what would have been seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from overproof.audit.commitments import CommitmentCheck
from overproof.audit.ghost_checks import check_pools
from overproof.audit.ghost_reasons import (
    commitment_details,
    commitment_words,
    refusals_of,
    warnings_of,
)
from overproof.audit.ghost_scores import Scored, score_pools
from overproof.audit.planning import power_words
from overproof.audit.ranks import ScoredPool, rank_sum_test, served_ranks
from overproof.audit.selection import used_prompts
from overproof.audit.served import Pooling
from overproof.audit.share_bound import (
    ShareBound,
    divided_bound,
    dkw_bound,
    share_bound,
    v_values,
)
from overproof.audit.weighted import CLIP, clipped, quantised_tail, tail_estimates
from overproof.records.audit import Effect, Exactness, PValue, Standing, TestFinding
from overproof.stats.intervals import bootstrap_rows

__all__ = [
    "DRAWN_ALIKE",
    "HYPOTHESIS",
    "GhostSettings",
    "Statistic",
    "ghosts_test",
]

HYPOTHESIS = (
    "the suspect does not depend on which of the teacher's answers to a prompt was served "
    "(it may have been trained on anything else, other outputs of the same teacher included)"
)
DRAWN_ALIKE = (
    "Each served answer was drawn at random among its ghosts, from the same checkpoint, prompt and "
    "parameters, and nothing selected prompts by what was served."
)
NOT_PROVED = (
    "that anyone intended it: served answers may have leaked into public data",
    "that the suspect was trained on them directly: another model may stand in between",
    "what share of the suspect's training data they were",
)


class Statistic(StrEnum):
    """Which statistic counts; chosen in the plan, before the data is seen."""

    RANKS = "sum of ranks"
    WEIGHTED = "sum of clipped scores"


@dataclass(frozen=True)
class GhostSettings:
    """What is fixed before the data is seen.

    Attributes:
        alpha: what this test alone may spend, for the words on power: its share of the level
            where a plan divides that among several.
        statistic: which p-value stands first.
        confidence: of the intervals and bounds.
        power: the probability in the words on power.
        assumed_auc: chance that a used answer outranks a ghost, for the words on power.
        fdr: false-discovery rate of the list of prompts.
        check_level: probability of refusing an honest log.
        use_was_blind: attested: use did not depend on which answer was served.
        seed: of coins and resamples.

    Raises:
        ValueError: a level outside of (0, 1).
    """

    alpha: float = 1e-3
    statistic: Statistic = Statistic.RANKS
    confidence: float = 0.95
    power: float = 0.9
    assumed_auc: float = 0.75
    fdr: float = 0.05
    check_level: float = 0.01
    use_was_blind: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        levels = (self.alpha, self.confidence, self.power, self.fdr, self.check_level)
        if not all(0 < level < 1 for level in levels):
            raise ValueError(f"levels must lie in (0, 1), not {levels}")
        if not 0.5 < self.assumed_auc <= 1 or self.confidence < 0.5:
            raise ValueError("the assumed AUC lies in (1/2, 1], the confidence in [1/2, 1)")


def ghosts_test(
    pooling: Pooling,
    settings: GhostSettings | None = None,
    *,
    commitment: CommitmentCheck | None = None,
    suspect: str = "suspect",
    reference: str | None = "reference",
) -> TestFinding:
    """Test whether the suspect saw which answers were served.

    Args:
        pooling: pools of served answers and ghosts with log-probs, of `served.pools_of`.
        settings: fixed before the data is seen.
        commitment: the log held against its Merkle root, of `commitments.verify_log`.
        suspect: the name of the suspect's log-probs.
        reference: that of the reference's; where no answer has it, the suspect's stand alone.

    Returns:
        A finding: refused with its reasons, or done, with warnings where there are any.
    """
    settings = settings or GhostSettings()
    checks = check_pools(pooling.pools, settings.check_level) if pooling.pools else []
    scored = score_pools(pooling.pools, suspect, reference)
    refusals = refusals_of(pooling, checks, commitment, scored, suspect)
    details: dict[str, Any] = {
        "checks": [
            {"name": c.name, "p": c.p, "level": c.level, "direction": c.direction, "pools": c.pools}
            for c in checks
        ],
        "left_out": {
            "cached": pooling.cached,
            "duplicates": pooling.duplicates,
        },
        "counted_lowest": len(scored.lost),
        **commitment_details(commitment),
        "score": scored.formula,
    }
    if refusals:
        return TestFinding(
            "ghosts", Standing.REFUSED, HYPOTHESIS, len(scored.pools), "prompts",
            reasons=tuple(refusals), details=details,
        )  # fmt: skip
    warnings = warnings_of(pooling, scored, commitment, checks)
    finding = _finding(scored, settings, warnings, details)
    return replace(finding, reasons=(*finding.reasons, *commitment_words(commitment)))


def _finding(
    scored: Scored, settings: GhostSettings, warnings: Sequence[str], details: dict[str, Any]
) -> TestFinding:
    pools = scored.counted
    ranks = _rank_p(pools, len(scored.lost))
    weighted = _weighted_ps(scored)
    first = settings.statistic is Statistic.RANKS
    selection = used_prompts(pools, settings.fdr, settings.seed)
    typical = round(float(np.median([pool.ghosts for pool in pools])))
    return TestFinding(
        test="ghosts",
        standing=Standing.FLAGGED if warnings else Standing.DONE,
        hypothesis=HYPOTHESIS,
        n=len(pools),
        unit="prompts",
        p_values=(ranks, *weighted) if first else (*weighted, ranks),
        effects=(
            _auc(scored.scores, [pool.cluster for pool in scored.pools], settings),
            *_shares(pools, settings),
        ),
        power=power_words(
            len(scored.scores),
            settings.assumed_auc,
            ghosts=typical,
            alpha=settings.alpha,
            power=settings.power,
        ),
        not_proved=NOT_PROVED,
        reasons=tuple(warnings),
        details={
            **details,
            "statistic": settings.statistic.value,
            "ghosts_per_prompt": typical,
            "items": [scored.pools[i].ids[0] for i in selection.reported],
            "items_fdr": selection.fdr,
            "wins": selection.wins,
        },
    )


def _counted(method: str, lost: int) -> str:
    """How, with what was done about prompts without log-probs."""
    return f"{method}; {lost} prompt(s) without log-probs counted lowest" if lost else method


def _rank_p(pools: Sequence[ScoredPool], lost: int) -> PValue:
    result = rank_sum_test(pools)
    floor = 10.0**result.floor_log10
    return PValue(
        value=min(1.0, max(result.tail.value, floor)),  # never below it by a rounding error
        exactness=Exactness.BOUND if lost else Exactness.EXACT,
        method=_counted("sum of ranks, tail by convolution, given the ties", lost),
        assumption=DRAWN_ALIKE,
        floor=floor,
        log10=max(result.tail.log10, result.floor_log10),
    )


def _weighted_ps(scored: Scored) -> tuple[PValue, ...]:
    """Of a lost pool, served answers have the lowest score there can be and ghosts the highest."""
    lost = [
        ScoredPool(np.where(np.arange(len(pool.answers)) < pool.served, -CLIP, CLIP), pool.served)
        for pool in scored.lost
    ]
    cut = [*clipped(scored.scores), *lost]
    exact = quantised_tail(cut)
    bound, approximate = tail_estimates(cut)
    ten = np.log(10.0)
    return (
        PValue(
            exact.value,
            Exactness.BOUND if lost else Exactness.EXACT,
            _counted("sum of clipped scores rounded to a lattice, tail by convolution", len(lost)),
            DRAWN_ALIKE,
            log10=exact.log10,
        ),
        PValue(
            float(np.exp(bound)),
            Exactness.BOUND,
            _counted("sum of clipped scores, Chernoff's bound", len(lost)),
            DRAWN_ALIKE,
            log10=float(bound / ten),
        ),
        PValue(
            float(np.exp(approximate)),
            Exactness.APPROXIMATE,
            "sum of clipped scores, saddle point (Lugannani and Rice)",
            DRAWN_ALIKE + " The tail is approximated: no ground for a verdict.",
            log10=float(approximate / ten),
        ),
    )


def _auc(pools: Sequence[ScoredPool], clusters: Sequence[str], settings: GhostSettings) -> Effect:
    """Mean chance that a served answer outranks a ghost, with an interval over prompts."""
    names = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    for pool, cluster in zip(pools, clusters, strict=True):
        served, ghosts = pool.scores[: pool.served, None], pool.scores[None, pool.served :]
        share = float(((served > ghosts) + 0.5 * (served == ghosts)).mean())
        sums[names[cluster]] += share
        counts[names[cluster]] += 1
    name = "chance that a served answer outranks a ghost (AUC, over used and unused prompts)"
    meaning = "1/2 where nothing was used; 1/2 + π (a - 1/2) where a share π was, with AUC a"
    point = float(sums.sum() / counts.sum())
    if len(names) < 2:
        return Effect(name, point, why=meaning, unit="probability")
    interval = bootstrap_rows(
        lambda rows: sums[rows].sum(axis=1) / counts[rows].sum(axis=1),
        len(names),
        resamples=1000,
        seed=settings.seed,
        confidence=settings.confidence,
        method="percentile",
    )
    return Effect(
        name, point, interval.low, interval.high, settings.confidence, meaning, "probability"
    )


def _shares(pools: Sequence[ScoredPool], settings: GhostSettings) -> list[Effect]:
    ranks, ghosts = served_ranks(pools, settings.seed)
    v = v_values(ranks, ghosts, settings.seed)
    alpha, cells = 1 - settings.confidence, int(ghosts.max()) + 1
    ceiling = 100 * (1 - 1 / cells)
    plain = (
        "valid whichever prompts were used, even if chosen by which answer was served; with "
        f"{cells - 1} ghost(s) this form cannot exceed about {ceiling:.3g} %, whatever was used"
    )
    name = "share of the log's prompts that was used, at least"
    effects = [
        _share(name, share_bound(v, cells, alpha), plain),
        _share(f"{name} (Dvoretzky-Kiefer-Wolfowitz, beside it)", dkw_bound(v, alpha), plain),
    ]
    stronger = f"{name}, if use did not depend on which answer was served"
    if settings.use_was_blind:
        attested = "as attested: use did not depend on which answer was served"
        effects.append(_share(stronger, divided_bound(v, cells, alpha), attested))
    else:
        why = "not given: nobody attested that use did not depend on which answer was served"
        effects.append(Effect(stronger, None, why=why))
    return effects


def _share(name: str, bound: ShareBound, why: str) -> Effect:
    return Effect(name, bound.low, bound.low, None, bound.confidence, f"{why}; {bound.method}")
