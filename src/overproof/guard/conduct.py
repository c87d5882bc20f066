"""What the members of a community do by themselves, beside the company that they keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from overproof.config.guard import GuardConfig
from overproof.guard.evidence import AccountEvidence
from overproof.guard.parts import Community, Family, Finding
from overproof.guard.signals.accounts import account_vector
from overproof.guard.strata import stratum_of
from overproof.records.traffic import Evidence

__all__ = ["Conduct", "conduct_of"]

HOUR_S = 3600.0


@dataclass(frozen=True)
class Conduct:
    """How far members stand out by themselves, as of one pass.

    Attributes:
        alike: do as many stand out as the rules ask?
        quiet: indices of those who do not, or have sent too little to tell: spared for now.
        families: by family of signals, the p-values of those who have sent enough, (N,) each.
    """

    alike: bool = False
    quiet: frozenset[int] = frozenset()
    families: dict[Family, list[float]] = field(default_factory=dict)

    def told(self, finding: Finding, enough: float) -> Finding:
        """The finding, with what members ask as a family, where the middle one's stands out.

        Where a community is found by its addresses, devices and payers, and what each of its
        members asks is odd as well, two families agree: it is no matter that the second was seen
        account by account. It counts beside the network alone, since no kind of work explains that
        strangers share a payer; that crowds around a benchmark are busy, and ask alike, is one
        thing and not two. No error rate rests on this: families only keep a rung from being
        reached.

        Args:
            finding: about the community; its own p-value stays.
            enough: at most this p-value counts as standing out.
        """
        asked = self.families.get(Family.TEXT, [])
        before = finding.families.get(Family.TEXT, 1.0)
        if not self.alike or not asked or finding.families.get(Family.NETWORK, 1.0) > enough:
            return finding
        middle = median(asked)
        if middle > enough or middle >= before:
            return finding
        low = sum(p <= enough for p in asked)
        detail = f"what {low} of {len(asked)} members ask stands out by itself as well"
        said = Evidence("own_text", str(Family.TEXT), detail, middle)
        families = finding.families | {Family.TEXT: middle}
        return replace(finding, families=families, evidence=(*finding.evidence, said))


def conduct_of(
    community: Community, at: float, evidence: AccountEvidence, config: GuardConfig
) -> Conduct:
    """Whether enough members stand out by themselves too, in what, and who does not.

    Those who have sent too little to tell count on neither side; they are spared for now. Who
    is tied by little, as one who happens to ask what a campaign asks, has to stand out more,
    and at the preset looks.
    """
    rules, spared, judged, alike = config.ladder, [], 0, 0
    families: dict[Family, list[float]] = {}
    ties: Sequence[float] = community.ties()
    enough = rules.ties * median(ties)
    for one, shares in zip(community.members, ties, strict=True):
        if one.requests < config.looks.least_requests:
            spared.append(one.index)
            continue
        judged += 1
        age_h = (at - one.first_seen) / HOUR_S
        stratum = stratum_of(one.plan, one.requests)
        p, parts = evidence.apart(one.index, age_h, stratum, account_vector(one, at))
        alike += p <= rules.member_p
        for family, value in parts.items():
            families.setdefault(family, []).append(value)
        # Asked at every pass, a busy member would come to a small p-value sooner or later.
        loose = shares < enough and evidence.so_far(one.index) > rules.loose_p
        if loose or p > rules.member_p:
            spared.append(one.index)
    return Conduct(alike >= max(2.0, rules.member_share * judged), frozenset(spared), families)
