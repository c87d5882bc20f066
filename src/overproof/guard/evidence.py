"""What all looks at an account amount to, with an error rate over all of them together.

The account is the exchangeable unit, never the request and never the look: an honest account's
looks resemble each other, and its signals too, so that nothing here is multiplied. Two rules, both
valid at the preset looks and claimed for no other time:

* *trajectory conformal*: the largest score over the looks so far, against the largest
  over whole honest trajectories. An honest account's largest so far never exceeds its largest in
  the end, so that the chance of ever falling to ``p <= alpha`` is at most ``alpha``;
* *e-average*: the e-values of the J looks, weighted 1/J each and summed as they come; an alarm at
  ``1/alpha`` (Markov; stats/e_values.py). It needs no pool of whole trajectories and is far weaker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from overproof.config.guard import LooksConfig
from overproof.errors import ConfigError
from overproof.guard.calibration import ALL, Calibration, Conformal
from overproof.guard.parts import Family, Finding, Signal, Vector
from overproof.guard.scorer import Scorer
from overproof.guard.strata import band_part, plan_part
from overproof.records.traffic import Evidence
from overproof.stats.conformal import p_floor
from overproof.stats.e_values import rank_e

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["AccountEvidence", "Rule", "belong", "strongest"]

MOST_EVIDENCE = 6
NOTHING = float("-inf")


class Rule(StrEnum):
    """How looks are put together."""

    TRAJECTORY = "trajectory conformal"
    E_AVERAGE = "e-average"


class AccountEvidence:
    """Remembers of each account what its looks came to so far; some 250 bytes an account.

    Args:
        signals: the S account signals, in the order of a vector.
        scorer: frozen, of these signals.
        calibration: frozen, of this scorer.
        config: the preset ages.
        rule: which p-value findings carry; both are computed.
        steepness: how e-values are spread over ranks, see `rank_e`.

    Raises:
        ConfigError: signals, scorer, calibration or ages do not belong together.
    """

    def __init__(
        self,
        signals: Sequence[Signal],
        scorer: Scorer,
        calibration: Calibration,
        config: LooksConfig,
        *,
        rule: Rule = Rule.TRAJECTORY,
        steepness: float = 2.0,
    ) -> None:
        belong([signal.name for signal in signals], scorer, calibration.scorer)
        judged = len(calibration.ages_h)
        if calibration.ages_h != config.ages_h[:judged]:
            raise ConfigError(
                "looks.ages_h",
                f"begins otherwise than the calibration's {calibration.ages_h}",
                "calibrate again at these ages, or set the calibration's",
            )
        self.signals = tuple(signals)
        self.scorer = scorer
        self.calibration = calibration
        self.rule = rule
        self.steepness = steepness
        self._assumption = calibration.assumption
        # By account: the plan of its first look, the largest score in each band it
        # passed through, the sum of e, looks as bits.
        self._past: dict[int, tuple[str, dict[str, float], float, int]] = {}

    def look(
        self, index: int, look: int, at: float, stratum: str, x: Sequence[float] | Vector
    ) -> Finding:
        """Take one look into account; the same look again changes nothing.

        An account keeps the plan of its first look, as those of the pool do, and is judged in
        every band of requests that it passes through (strata.py): its largest score there against
        the largest that honest accounts of the plan reached there, those that never got into the
        band ranking lowest. The smallest of these p-values counts, times the number of bands
        (Bonferroni), so that each band may wrong as many accounts as any other. The families'
        sub-scores are set against everybody's at that look: they corroborate, and no rate rests on
        them. Looks beyond the calibration's last age add nothing: ``p_value`` stays what it was,
        ``p_now`` is 1.

        Args:
            index: of the account.
            look: which of the preset ages, from 0.
            at: event time of the look, seconds since the epoch.
            stratum: the account's plan and band (`stratum_of`).
            x: S signals, NaN where there was nothing to measure.
        """
        score, parts = self.scorer.at(stratum).one(x)
        plan, largest, total, taken = self._past.get(index, (plan_part(stratum), {}, 0.0, 0))
        band = band_part(stratum)
        stratum = plan + band
        here = self.calibration.stratum(stratum)
        now = self.calibration.p_value(look, stratum, score)
        if now.n and not taken >> look & 1:
            largest = largest | {band: max(largest.get(band, NOTHING), score)}
            total += rank_e(now.p, now.n, self.steepness) / len(here.looks)
            self._past[index] = (plan, largest, total, taken | 1 << look)
        whole = self._whole(plan, largest)
        p = whole.p if self.rule is Rule.TRAJECTORY else min(1.0, 1.0 / total if total else 1.0)
        return Finding(
            kind="account",
            members=(index,),
            at=at,
            score=score,
            p_value=p,
            e_value=total,
            n=int(whole.n),
            families=self._families(look, parts),
            stratum=here.name,
            p_now=now.p,
            floor=min(1.0, self.calibration.tests(plan) * p_floor(whole.n)),
            assumption=self._assumption,
        )

    def apart(
        self, index: int, age_h: float, stratum: str, x: Sequence[float] | Vector
    ) -> tuple[float, dict[Family, float]]:
        """How far an account stands out by itself at any moment, as p-values without a promise.

        The smaller of its trajectory's p-value so far and of what the last preset age before says
        of its conduct now; then the families' at that age, as in `look`. It is looked at whenever
        its community is, so that no error rate holds for it: it may spare a member, and never
        accuses one.
        """
        score, parts = self.scorer.at(stratum).one(x)
        ages = self.calibration.ages_h
        look = max(sum(age <= age_h for age in ages) - 1, 0)
        plan = self._past[index][0] if index in self._past else plan_part(stratum)
        now = self.calibration.p_value(look, plan + band_part(stratum), score).p
        return min(now, self.so_far(index)), self._families(look, parts)

    def so_far(self, index: int) -> float:
        """The p-value of an account's looks so far, with the promise of `look`; 1 before any."""
        plan, largest, _, _ = self._past.get(index, ("", {}, 0.0, 0))
        return self._whole(plan, largest).p if largest else 1.0

    def _families(self, look: int, parts: Mapping[Family, float]) -> dict[Family, float]:
        return {
            family: self.calibration.p_value(look, ALL, value, family).p
            for family, value in parts.items()
        }

    def _whole(self, plan: str, largest: Mapping[str, float]) -> Conformal:
        """The p-value of a trajectory so far, over all bands it passed through."""
        by_stratum: dict[str, tuple[str, float]] = {}
        for band, value in largest.items():
            name = self.calibration.stratum(plan + band).name
            known = by_stratum.get(name, (band, NOTHING))
            by_stratum[name] = (band, max(value, known[1]))
        found = [
            self.calibration.trajectory_p(plan + band, value) for band, value in by_stratum.values()
        ]
        if not found:
            return self.calibration.trajectory_p(plan, NOTHING)
        least = min(found, key=lambda one: (one.p, one.stratum))
        return least._replace(p=min(1.0, least.p * self.calibration.tests(plan)))

    def explain(
        self, finding: Finding, state: AccountState, stratum: str, x: Sequence[float] | Vector
    ) -> Finding:
        """The finding with its strongest signals in words; for the few that are acted on."""
        details = {signal.name: signal.detail for signal in self.signals}
        scorer = self.scorer.at(stratum)
        evidence = [
            Evidence(name, str(family), details[name](state, finding.at), p)
            for name, family, p in strongest(scorer, x, finding.families)
        ]
        return replace(finding, evidence=tuple(evidence))

    def forget(self, indices: Iterable[int]) -> None:
        """Accounts that are known no more."""
        for index in indices:
            self._past.pop(index, None)

    def state(self) -> Any:
        """Plain values for a snapshot."""
        return [[index, *past] for index, past in self._past.items()]

    def restore(self, state: Any) -> None:
        """Take a snapshot's values."""
        self._past = {
            int(index): (
                str(plan),
                {str(band): float(value) for band, value in largest.items()},
                float(total),
                int(taken),
            )
            for index, plan, largest, total, taken in state
        }


def strongest(
    scorer: Scorer, x: Sequence[float] | Vector, families: dict[Family, float]
) -> list[tuple[str, Family, float]]:
    """The signals that weigh most, each with the p-value of its family's sub-score.

    At least one of every family that stands out, so that a reader sees on what it rests.
    """
    values = x.tolist() if isinstance(x, np.ndarray) else list(x)
    ordered = scorer.explain(values)
    firsts: dict[Family, str] = {}
    for name, family, _ in ordered:
        firsts.setdefault(family, name)
    chosen = {name for name, _, _ in ordered[:MOST_EVIDENCE]} | set(firsts.values())
    return [
        (name, family, families.get(family, 1.0)) for name, family, _ in ordered if name in chosen
    ]


def belong(names: Sequence[str], scorer: Scorer, calibrated: str) -> None:
    """Are the signals those of the scorer, and the scorer that of the calibration?

    Raises:
        ConfigError: they are not.
    """
    if tuple(names) != scorer.names:
        odd = sorted(set(names) ^ set(scorer.names)) or ["their order"]
        raise ConfigError(
            "the frozen scorer",
            f"is of other signals than this version measures: {', '.join(odd)}",
            "fit and calibrate again",
        )
    if calibrated != scorer.hash:
        raise ConfigError(
            "the calibration",
            f"was made with the scorer {calibrated[:19]}…, not with {scorer.hash[:19]}…",
            "calibrate again with this scorer",
        )
