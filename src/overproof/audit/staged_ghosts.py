"""The ghosts test in planned stages: one finding a look, and one p-value that accounts for all.

A look at n requests uses the first n of the log, in its order (that of the commitment, where there
is one), and adds to what earlier looks saw; the boundaries and the p-value are `sequential`'s. What
is new at a look is pooled by itself: a request whose prompt came at an earlier look is left out,
whatever was answered, and so is a pool whose very answers came at one, since the pools of different
looks must be independent.

Everything beside the p-value is read at a moment that the data chose, so it holds for all looks at
once: intervals and the share bound at 1 - (1 - confidence) / L, the list of prompts at FDR / L
(the false share at the look that stopped is at most the sum of those at all), and the checks of the
log at level / L. An interim look gives no p-value and no effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from overproof.audit.commitments import CommitmentCheck
from overproof.audit.ghost_checks import check_pools
from overproof.audit.ghost_reasons import commitment_details, log_refusals
from overproof.audit.ghost_scores import reference_in, score_pools
from overproof.audit.ghosts import DRAWN_ALIKE, HYPOTHESIS, GhostSettings, ghosts_test
from overproof.audit.ranks import ScoredPool
from overproof.audit.sequential import Decision, Look, SequentialPlan, Spending, monitor_pools
from overproof.audit.served import Pooling, ServedRequest, pool_key, pools_of
from overproof.audit.staged_planning import staged_power_words
from overproof.config.audit import GhostsPlan
from overproof.config.audit import Spending as PlannedSpending
from overproof.records.audit import Effect, Exactness, PValue, Standing, TestFinding

__all__ = ["batches_of", "joined", "refused_early", "sequential_plan", "staged_ghosts_test"]

SPENDINGS = {
    PlannedSpending.OBRIEN_FLEMING: Spending.OBRIEN_FLEMING,
    PlannedSpending.POCOCK: Spending.POCOCK,
}


def sequential_plan(planned: GhostsPlan, alpha: float) -> SequentialPlan:
    """The looks that a plan states, at its own share of the level.

    Raises:
        ValueError: the plan states no looks.
    """
    return SequentialPlan(planned.looks_at, planned.ghosts, alpha, SPENDINGS[planned.spending])


def batches_of(requests: Sequence[ServedRequest], looks: Sequence[int]) -> list[Pooling]:
    """The pools that are new at each look, in the order of the log.

    Args:
        requests: at least as many as the last of the looks.
        looks: numbers of requests.

    Raises:
        DataError: requests of one group with other prompts or other ghosts.
    """
    pools_of(requests[: looks[-1]])  # a group may span looks: its contradictions are named here
    seen: set[str] = set()
    known: set[tuple[str, ...]] = set()
    batches, start = [], 0
    for end in looks:
        new = requests[start:end]
        fresh = [request for request in new if request.prompt_key not in seen]
        pooling = pools_of(fresh)
        kept = tuple(pool for pool in pooling.pools if pool_key(pool) not in known)
        copies = sum(pool.served for pool in pooling.pools) - sum(pool.served for pool in kept)
        left_out = pooling.duplicates + len(new) - len(fresh) + copies
        batches.append(replace(pooling, pools=kept, duplicates=left_out))
        known.update(map(pool_key, kept))
        seen.update(request.prompt_key for request in new)
        start = end
    return batches


def joined(batches: Sequence[Pooling]) -> Pooling:
    """All pools so far, and all that was left out."""
    return Pooling(
        pools=tuple(pool for batch in batches for pool in batch.pools),
        cached=sum(batch.cached for batch in batches),
        duplicates=sum(batch.duplicates for batch in batches),
        retried=sum(batch.retried for batch in batches),
        cancelled=sum(batch.cancelled for batch in batches),
    )


def refused_early(
    batches: Sequence[Pooling],
    plan: SequentialPlan,
    settings: GhostSettings,
    commitment: CommitmentCheck | None,
) -> TestFinding | None:
    """A refusal that needs no look at the suspect, so that no look is used up by it."""
    pooling = joined(batches)
    level = settings.check_level / len(plan.looks)
    checks = check_pools(pooling.pools, level) if pooling.pools else []
    reasons = log_refusals(pooling, checks, commitment)
    if not reasons:
        return None
    return TestFinding(
        "ghosts", Standing.REFUSED, HYPOTHESIS, len(pooling.pools), "prompts",
        reasons=tuple(reasons),
        details={
            "look": len(batches), "looks_planned": list(plan.looks),
            **commitment_details(commitment),
        },
    )  # fmt: skip


def staged_ghosts_test(
    batches: Sequence[Pooling],
    plan: SequentialPlan,
    settings: GhostSettings,
    *,
    commitment: CommitmentCheck | None = None,
    reference: str | None = "reference",
) -> TestFinding:
    """The finding of a look: undecided, or decided with a p-value that accounts for all looks.

    Args:
        batches: the pools that are new at each look so far, with log-probs.
        plan: looks, level and spending, as sealed.
        settings: fixed before the data is seen; its alpha is the plan's.
        commitment: the log held against its Merkle root.
        reference: the name of the reference's log-probs; None for none.

    Raises:
        ValueError: more looks than planned.
    """
    early = refused_early(batches, plan, settings, commitment)
    if early is not None:
        return early
    count = len(plan.looks)
    shared = replace(
        settings,
        alpha=plan.alpha,
        confidence=1 - (1 - settings.confidence) / count,
        fdr=settings.fdr / count,
        check_level=settings.check_level / count,
    )
    full = ghosts_test(joined(batches), shared, commitment=commitment, reference=reference)
    if commitment is None:
        order = "the order of the log, by which looks are taken, rests on its keeper too"
        full = replace(full, reasons=(*full.reasons, order))
    if full.standing is Standing.REFUSED:
        return full
    scored = _scored(batches, reference)
    looks = monitor_pools(plan, scored)
    seen = [_seen(look, at) for look, at in zip(looks, plan.looks, strict=False)]
    last = looks[-1]
    if last.decision is Decision.CONTINUE:
        n, following = len(looks), plan.looks[len(looks)]
        says = (
            f"look {n} of {count}: {_place(last)}; look {n + 1} is planned at {following:,} "
            f"requests. Nothing is decided before, and nothing else may be read from this"
        )
        return TestFinding(
            "ghosts", Standing.INTERIM, HYPOTHESIS, full.n, "prompts",
            reasons=(says, *full.reasons),
            details={
                "look": n, "looks": seen, "looks_planned": list(plan.looks),
                **commitment_details(commitment),
            },
        )  # fmt: skip
    return _decided(full, plan, looks, seen, settings)


def _scored(batches: Sequence[Pooling], reference: str | None) -> list[tuple[ScoredPool, ...]]:
    """Scores by look. Whether there is a reference is asked of all looks at once."""
    known = reference_in([pool for batch in batches for pool in batch.pools], reference)
    return [score_pools(batch.pools, reference=known, is_known=True).counted for batch in batches]


def _decided(
    full: TestFinding,
    plan: SequentialPlan,
    looks: Sequence[Look],
    seen: Sequence[dict[str, Any]],
    settings: GhostSettings,
) -> TestFinding:
    last, count = looks[-1], len(plan.looks)
    assert last.p_value is not None
    floor = min(1.0, 10.0**last.floor_log10)
    method = (
        f"sum of ranks at look {len(looks)} of {count} ({_place(last)}); stage-wise tail by "
        "convolution over all looks so far, given the ties"
    )
    staged = PValue(
        value=min(1.0, max(last.p_value, floor)),
        # With pools counted at their worst it is no longer exact: full says so.
        exactness=full.p_values[0].exactness if full.p_values else Exactness.EXACT,
        method=method,
        assumption=DRAWN_ALIKE + " Looks were taken as planned, on the log in its order.",
        floor=floor,
        log10=last.log10,
    )
    details = {
        **full.details,
        "look": len(looks),
        "looks": list(seen),
        "looks_planned": list(plan.looks),
        "spending": plan.spending.value,
        "level": plan.alpha,
        "p_as_if_only_look": full.p,
    }
    return replace(
        full,
        p_values=(staged,),
        effects=tuple(
            _for_all(effect, plan.looks[: len(looks)], count, settings.confidence)
            for effect in full.effects
        ),
        power=staged_power_words(plan, settings.assumed_auc, settings.power),
        details=details,
    )


def _for_all(effect: Effect, taken: Sequence[int], looks: int, confidence: float) -> Effect:
    """An interval that holds at whichever look it is read, told with the confidence it then has."""
    if effect.confidence is None:
        return effect
    words = f"of the first {taken[-1]:,} requests; holds at all {looks} looks together"
    return replace(
        effect, confidence=confidence, why=f"{effect.why}; {words}" if effect.why else words
    )


def _place(look: Look) -> str:
    """The sum against its boundary; sums are of doubled mid-ranks, so they are halved here."""
    total = (look.statistic or 0) / 2
    if look.boundary is None:
        return f"the sum of ranks is {total:g}, and nothing could be decided at this look"
    side = "reaches" if look.decision is Decision.REJECT else "stays below"
    return f"the sum of ranks, {total:g}, {side} its boundary {look.boundary / 2:g}"


def _seen(look: Look, planned: int) -> dict[str, Any]:
    """A look in plain values."""
    return {
        "requests": planned,
        "prompts": look.prompts,
        "sum_of_ranks": (look.statistic or 0) / 2,
        "boundary": None if look.boundary is None else look.boundary / 2,
        "spent": look.spent,
        "allowed": look.allowed,
        "decision": None if look.decision is None else look.decision.value,
    }
