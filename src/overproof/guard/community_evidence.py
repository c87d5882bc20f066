"""Which communities to report, so that few of the reports are of honest ones.

Every community is one hypothesis, tested over its whole life: its largest score in a band of sizes
against the largest that honest communities of that band ever reached, so that being looked at every
few hours gives an honest one no further chances. At each pass Benjamini and Hochberg choose among
*all* communities known, with their number never below what an honest log of this length holds.

What that guarantees: an honest community's chance of *ever* falling to ``p <= x`` within a band is
at most x. At each pass the false-discovery rate among those that then stand out is at most
``alpha`` (PRDS; stats/multiple.py). Over all passes together, what was ever reported errs at most
``alpha * sum of 1/m`` over honest communities, m being the number that Benjamini and Hochberg
divided by when it was first reported: ``alpha`` where no more communities turn up than expected,
``alpha (1 + ln r)`` where r times as many do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from overproof.config.guard import CommunityConfig
from overproof.guard.community_calibration import CommunityCalibration
from overproof.guard.evidence import belong, strongest
from overproof.guard.parts import Community, CommunitySignal, Finding, Vector
from overproof.guard.scorer import Scorer
from overproof.records.traffic import Evidence
from overproof.stats.conformal import p_floor
from overproof.stats.e_values import rank_e
from overproof.stats.multiple import benjamini_hochberg

__all__ = ["CommunityEvidence", "Pass"]

HOUR_S = 3600.0


@dataclass(frozen=True)
class Pass:
    """What one pass came to.

    Attributes:
        findings: one a community, in the order given; evidence in words for those reported.
        reported: names of those that stand out at the nominal false-discovery rate.
        m: how many hypotheses they were chosen among.
    """

    findings: tuple[Finding, ...]
    reported: frozenset[str]
    m: int


@dataclass
class _Life:
    """One community so far: when it was last found, its largest score by band, its p-value."""

    seen: float
    largest: dict[int, float]
    p: float = 1.0


class CommunityEvidence:
    """Remembers the communities of a window, judges those of a pass.

    Args:
        signals: the S community signals, in the order of a vector.
        scorer: frozen, of these signals.
        calibration: frozen, of this scorer.
        config: the nominal false-discovery rate and the window.
        expected: how many communities to reckon with in a window; the calibration's if None. Set
            it in proportion where the traffic is much larger than the calibration's.

    Raises:
        ConfigError: signals, scorer and calibration do not belong together.
    """

    def __init__(
        self,
        signals: Sequence[CommunitySignal],
        scorer: Scorer,
        calibration: CommunityCalibration,
        config: CommunityConfig,
        *,
        expected: int | None = None,
    ) -> None:
        belong([signal.name for signal in signals], scorer, calibration.scorer)
        self.signals = tuple(signals)
        self.scorer = scorer
        self.calibration = calibration
        self.alpha = config.false_discovery_rate
        self.window_s = config.window_h * HOUR_S
        self.expected = calibration.expected if expected is None else expected
        self._assumption = calibration.assumption
        self._lives: dict[str, _Life] = {}

    def judge(
        self,
        names: Sequence[str],
        communities: Sequence[Community],
        vectors: Sequence[Sequence[float] | Vector],
        at: float,
    ) -> Pass:
        """Judge the communities of one pass.

        Args:
            names: one that lasts from pass to pass for each.
            communities: as the graph found them.
            vectors: S signals of each.
            at: event time of the pass.
        """
        self._lives = {
            name: life for name, life in self._lives.items() if at - life.seen <= self.window_s
        }
        findings = [
            self._judge_one(name, community, vector, at)
            for name, community, vector in zip(names, communities, vectors, strict=True)
        ]
        known = list(self._lives)
        m = max(len(known), self.expected)
        stands = benjamini_hochberg([self._lives[name].p for name in known], self.alpha, m=m)
        out = {name for name, stand in zip(known, stands.tolist(), strict=True) if stand}
        reported = frozenset(out & set(names))
        said = tuple(
            self._explain(finding, community, vector) if name in reported else finding
            for name, finding, community, vector in zip(
                names, findings, communities, vectors, strict=True
            )
        )
        return Pass(said, reported, m)

    def _judge_one(
        self, name: str, community: Community, x: Sequence[float] | Vector, at: float
    ) -> Finding:
        score, parts = self.scorer.one(x)
        band = self.calibration.band(len(community.members))
        life = self._lives.setdefault(name, _Life(at, {}))
        life.seen = at
        life.largest[band] = max(score, life.largest.get(band, score))
        worst = self.calibration.p_value(band, life.largest[band])
        life.p = worst.p
        return Finding(
            kind="community",
            members=tuple(member.index for member in community.members),
            at=at,
            score=score,
            p_value=worst.p,
            e_value=rank_e(worst.p, worst.n),
            n=int(worst.n),
            families={
                family: self.calibration.p_value(band, value, family).p
                for family, value in parts.items()
            },
            stratum=worst.stratum,
            p_now=self.calibration.p_value(band, score).p,
            floor=p_floor(worst.n),
            subject=name,
            assumption=self._assumption,
        )

    def _explain(
        self, finding: Finding, community: Community, x: Sequence[float] | Vector
    ) -> Finding:
        details = {signal.name: signal.detail for signal in self.signals}
        evidence = [
            Evidence(name, str(family), details[name](community), p)
            for name, family, p in strongest(self.scorer, x, finding.families)
        ]
        return replace(finding, evidence=tuple(evidence))

    def state(self) -> Any:
        """Plain values for a snapshot."""
        return [
            [name, life.seen, [[band, score] for band, score in life.largest.items()], life.p]
            for name, life in self._lives.items()
        ]

    def restore(self, state: Any) -> None:
        """Take a snapshot's values."""
        self._lives = {
            str(name): _Life(float(seen), {int(b): float(s) for b, s in largest}, float(p))
            for name, seen, largest, p in state
        }
