"""What stages cost and save: exact power of a staged ghosts test, and how soon it ends.

The boundaries are those of `sequential`; under use, the rank of a prompt follows the binormal model
of `planning`, and the probability of crossing at each look is convolved on with the same absorbing
boundaries. A staged test needs a few more prompts at the most than one at the end, and far fewer on
average where the log was used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from overproof.audit.lattice import uniform_lattice
from overproof.audit.planning import prompts_needed, used_rank_lattice
from overproof.audit.sequential import SequentialPlan, Spending, boundaries, crossings
from overproof.records.audit import Power

__all__ = [
    "StagedPower",
    "detectable_in_stages",
    "even_looks",
    "staged_power",
    "staged_power_words",
    "staged_prompts_needed",
]


@dataclass(frozen=True)
class StagedPower:
    """What a staged test does if a share of the prompts was used.

    Attributes:
        power: probability of rejecting at any look.
        by_look: probability of rejecting first at each.
        expected_prompts: seen on average until it ends.
        expected_if_unused: the same where nothing was used.
        boundaries: the smallest sum of ranks that rejects at each look; None where none can.
        spent: the exact level used up by each look.
    """

    power: float
    by_look: tuple[float, ...]
    expected_prompts: float
    expected_if_unused: float
    boundaries: tuple[int | None, ...]
    spent: tuple[float, ...]


def even_looks(prompts: int, looks: int) -> tuple[int, ...]:
    """``looks`` evenly spaced numbers of prompts, the last one all of them.

    Raises:
        ValueError: fewer prompts than looks.
    """
    if not 1 <= looks <= prompts:
        raise ValueError(f"{looks} looks at {prompts} prompts")
    return tuple(math.ceil(prompts * (i + 1) / looks) for i in range(looks))


def _expected(looks: Sequence[int], by_look: Sequence[float]) -> float:
    stopped = sum(n * p for n, p in zip(looks[:-1], by_look, strict=False))
    return stopped + looks[-1] * (1 - sum(by_look[:-1]))


def staged_power(plan: SequentialPlan, share: float, auc: float) -> StagedPower:
    """The exact power of a plan, under the binormal model.

    Args:
        plan: looks, ghosts and level.
        share: of the prompts that was used.
        auc: chance that a used answer outranks a ghost.

    Raises:
        ValueError: a share outside of [0, 1], or an AUC outside of (1/2, 1].
    """
    if not 0 <= share <= 1 or not 0.5 < auc <= 1:
        raise ValueError(f"a share of {share} and an AUC of {auc}: [0, 1] and (1/2, 1] are needed")
    looks = boundaries(plan)
    used = crossings(plan, looks, used_rank_lattice(plan.ghosts, share, auc))
    unused = crossings(plan, looks, uniform_lattice(plan.ghosts))
    return StagedPower(
        power=min(1.0, sum(used)),
        by_look=tuple(used),
        expected_prompts=_expected(plan.looks, used),
        expected_if_unused=_expected(plan.looks, unused),
        boundaries=tuple(look.boundary for look in looks),
        spent=tuple(look.spent for look in looks),
    )


def staged_prompts_needed(
    share: float,
    auc: float,
    *,
    looks: int,
    ghosts: int = 3,
    alpha: float = 1e-3,
    power: float = 0.9,
    spending: Spending = Spending.OBRIEN_FLEMING,
) -> int:
    """The smallest total N at which even looks have the wished power, to within 0.5 %.

    Raises:
        ValueError: as `planning.prompts_needed`, or no look.
    """
    if looks < 1:
        raise ValueError(f"{looks} looks")
    guess = prompts_needed(share, auc, ghosts=ghosts, alpha=alpha, power=power)

    def enough(n: int) -> bool:
        plan = SequentialPlan(even_looks(n, min(n, looks)), ghosts, alpha, spending)
        return staged_power(plan, share, auc).power >= power

    low, high = max(1, guess // 2), max(looks, guess)
    while not enough(high):
        low, high = high, math.ceil(high * 1.1) + 1
    while low > 1 and enough(low):
        low //= 2
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return max(high, looks)


def detectable_in_stages(plan: SequentialPlan, auc: float, power: float = 0.9) -> float | None:
    """The smallest share of use that a plan detects with ``power``; None where even 1 is not."""
    looks = boundaries(plan)

    def found(share: float) -> float:
        return sum(crossings(plan, looks, used_rank_lattice(plan.ghosts, share, auc)))

    if found(1.0) < power:
        return None
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) >= power else (middle, high)
    return high


def staged_power_words(plan: SequentialPlan, auc: float, power: float = 0.9) -> Power:
    """What all looks together would have detected, as a sentence."""
    share = detectable_in_stages(plan, auc, power)
    over = f"over {len(plan.looks)} looks at up to {plan.looks[-1]:,} prompts"
    if share is None:
        words = (
            f"at α = {plan.alpha:g} {over}, the test would have missed even use of the whole log "
            f"more often than {1 - power:.0%} of the time, if a used answer outranks a ghost with "
            f"probability {auc:g}"
        )
    else:
        words = (
            f"would have detected use of ≥ {100 * share:.2g} % of the prompts with probability "
            f"{power:.0%} at α = {plan.alpha:g} {over}, if a used answer outranks a ghost with "
            f"probability {auc:g}"
        )
    return Power(share, power, plan.alpha, words)
