"""From findings and a plan to one verdict, and what would change it.

The plan's level is shared among *all* planned tests: Holm's step-down (Scandinavian Journal of
Statistics 1979) or, where the plan says so, one test after another in the order written, each at
the full level until one does not reject (Maurer, Hothorn and Lehmacher 1995). A planned test that
was refused or never run stays in the family with p = 1; leaving it out would let the data choose
the family. A finding that was not planned is shown and decides nothing.

What a rejection may be called follows from what was random:

* *descends from the weights*: the weights test, whose initialisation was random.
* *trained on these outputs*: ghosts, watermark or phrasings, where the provider randomised which
  answer was served or which key was used. Their p-value is exact, an upper bound, a rank among the
  provider's own random keys, or conditional on the pseudo-random function.
* *stylistically close*: references and base shift, however small their p-value. It is the rank of
  one model among others that nobody assigned at random: it holds under an exchangeability that
  can be made plausible and never shown, and even then it says "nearer to this teacher than
  comparable models are". A common third source gives the same. So no number of references turns
  it into "trained on these outputs"; 99 of each make the closeness surer, not the cause.

A test that was run on k different sets of data or settings has its p-value multiplied by k
(Bonferroni): whichever of the k findings is kept, and for whatever reason, the chance of a wrong
rejection stays at its level. The looks of a staged test are one run, for its boundaries account for
them; so is the same data with the same settings again, which gives the same p-value.

An approximate p-value decides nothing. "No evidence" is said only where a test was run that could
have rejected at its share of the level and says what it would have seen, and no planned p-value is
below alpha by itself; else "cannot say".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from overproof.audit.preregistration import DataDigest, SealedPlan, runs_of
from overproof.config.audit import AuditPlan, GhostsPlan, Multiplicity, PlannedTest
from overproof.errors import ConfigError
from overproof.records.audit import AuditVerdict, Effect, Exactness, Standing, TestFinding
from overproof.stats.multiple import holm_adjusted_p

__all__ = ["Attestation", "Decision", "Judged", "adjusted_p_values", "attest"]

SPEAKS_FOR = {
    "weights": AuditVerdict.DESCENDS,
    "ghosts": AuditVerdict.TRAINED,
    "watermark": AuditVerdict.TRAINED,
    "phrasings": AuditVerdict.TRAINED,
    "references": AuditVerdict.CLOSE,
    "base-shift": AuditVerdict.CLOSE,
}
STRENGTH = (AuditVerdict.DESCENDS, AuditVerdict.TRAINED, AuditVerdict.CLOSE)
RULES = {
    Multiplicity.HOLM: "Holm over all planned tests",
    Multiplicity.FIXED_SEQUENCE: "planned tests in their order, until one does not reject",
}


class Decision(StrEnum):
    """What became of a test within the plan."""

    REJECTED = "null hypothesis rejected"
    KEPT = "not rejected"
    REFUSED = "refused"
    NOT_RUN = "planned and not run"
    APPROXIMATE = "approximate, decides nothing"
    UNDECIDED = "not decided yet, a later look is planned"
    UNPLANNED = "not planned, decides nothing"


@dataclass(frozen=True)
class Judged:
    """A test within the plan.

    Attributes:
        name: in the plan.
        kind: of test.
        decision: what became of it.
        p: its own p-value.
        adjusted: its p-value adjusted for the family; rejected where it is at most alpha.
        could_reject: whether its floor let it reject at its share of the level.
        reasons: its warnings, or why it was refused.
        runs: on how many different sets of data or settings it was run; ``p`` counts so often.
    """

    name: str
    kind: str
    decision: Decision
    p: float | None
    adjusted: float | None
    could_reject: bool
    reasons: tuple[str, ...] = ()
    runs: int = 1


@dataclass(frozen=True)
class Attestation:
    """One verdict with everything it rests on.

    Attributes:
        verdict: the strongest that stands.
        words: one sentence for the reader.
        alpha: the level of all planned tests together.
        rule: how it was shared.
        tests: each planned test, then the unplanned.
        would_change: what would change the conclusion.
        not_proved: what it does not prove.
        caveats: about the plan and the data.
        how_much: the four quantities, each with an interval or "not identifiable".
        plan_sha256: hash of the plan.
        sealed_at: when it was sealed.
        attested: whether the plan's hash was compared with one given away before.
    """

    verdict: AuditVerdict
    words: str
    alpha: float
    rule: str
    tests: tuple[Judged, ...]
    would_change: tuple[str, ...]
    not_proved: tuple[str, ...]
    caveats: tuple[str, ...]
    how_much: tuple[Effect, ...]
    plan_sha256: str
    sealed_at: str
    attested: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def adjusted_p_values(p_values: list[float], rule: Multiplicity) -> list[float]:
    """P-values adjusted for the family, in the order given; rejected where at most alpha."""
    if rule is Multiplicity.FIXED_SEQUENCE:
        return [max(p_values[: i + 1]) for i in range(len(p_values))]
    return [float(p) for p in holm_adjusted_p(p_values)]


def attest(
    sealed: SealedPlan,
    findings: Mapping[str, TestFinding],
    *,
    how_much: tuple[Effect, ...] = (),
    data: tuple[DataDigest, ...] = (),
) -> Attestation:
    """Join findings under a sealed plan into one verdict.

    Args:
        sealed: the plan.
        findings: by the test's name in the plan; further ones count as unplanned.
        how_much: the four quantities.
        data: what was tested, from `read_data_digests`.

    Raises:
        ConfigError: a finding of another kind than the plan has under its name.
    """
    plan = sealed.plan
    judged = _judged(plan, findings, data)
    rejected = [each for each in judged if each.decision is Decision.REJECTED]
    verdict = next(
        (v for v in STRENGTH if any(SPEAKS_FOR[each.kind] is v for each in rejected)), None
    )
    seen = [
        power.words
        for each in judged
        if each.decision is Decision.KEPT and each.could_reject
        if (power := findings[each.name].power) is not None and power.detectable is not None
    ]
    if verdict is None:
        # A small p-value that the plan does not let count is not evidence, nor its absence.
        short = any(_fell_short(each, plan.alpha) for each in judged)
        verdict = AuditVerdict.NO_EVIDENCE if seen and not short else AuditVerdict.CANNOT_SAY
    not_proved = dict.fromkeys(line for each in rejected for line in findings[each.name].not_proved)
    return Attestation(
        verdict=verdict,
        words=_words(verdict, judged, seen, plan.alpha),
        alpha=plan.alpha,
        rule=RULES[plan.multiplicity],
        tests=judged,
        would_change=_would_change(verdict, judged, plan),
        not_proved=tuple(not_proved),
        caveats=_caveats(sealed, judged, findings, data),
        how_much=how_much,
        plan_sha256=sealed.sha256,
        sealed_at=sealed.sealed_at,
        attested=sealed.attested,
    )


def _judged(
    plan: AuditPlan, findings: Mapping[str, TestFinding], data: Sequence[DataDigest]
) -> tuple[Judged, ...]:
    names, kinds = plan.names(), [test.kind for test in plan.tests]
    found = [findings.get(name) for name in names]
    for name, kind, finding in zip(names, kinds, found, strict=True):
        if finding is not None and finding.test != kind:
            raise ConfigError(name, f"is a {kind} test in the plan, a {finding.test} test here")
    runs = [_runs(test, name, data) for name, test in zip(names, plan.tests, strict=True)]
    own = [_counting_p(finding) for finding in found]
    counted = [1.0 if p is None else min(1.0, k * p) for p, k in zip(own, runs, strict=True)]
    adjusted = adjusted_p_values(counted, plan.multiplicity)
    out: list[Judged] = []
    for i, (name, kind, finding) in enumerate(zip(names, kinds, found, strict=True)):
        if finding is None:
            out.append(Judged(name, kind, Decision.NOT_RUN, None, None, False, runs=runs[i]))
            continue
        decides = own[i] is not None
        floor = finding.p_values[0].floor if finding.p_values else 1.0
        out.append(Judged(
            name, kind, _decision(finding, adjusted[i] if decides else None, plan.alpha),
            finding.p, adjusted[i] if decides else None, decides and floor * runs[i] <= plan.share,
            finding.reasons, runs[i],
        ))  # fmt: skip
    out += [
        Judged(name, f.test, Decision.UNPLANNED, f.p, None, False, f.reasons)
        for name, f in findings.items()
        if name not in names
    ]
    return tuple(out)


def _runs(test: PlannedTest, name: str, data: Sequence[DataDigest]) -> int:
    """On how many sets of data or settings a test was run; all looks of a staged one are one.

    A look can be taken once and on the data of the looks before alone, see `looks`: nothing is
    left there to choose from.
    """
    if isinstance(test, GhostsPlan) and test.is_staged:
        return 1
    return max(1, runs_of(name, data))


def _decision(finding: TestFinding, adjusted: float | None, alpha: float) -> Decision:
    """What became of a planned test; ``adjusted`` is None where its p-value may not decide."""
    if adjusted is not None:
        return Decision.REJECTED if adjusted <= alpha else Decision.KEPT
    if finding.standing is Standing.INTERIM:
        return Decision.UNDECIDED
    if finding.standing is Standing.REFUSED or not finding.p_values:
        return Decision.REFUSED
    return Decision.APPROXIMATE


def _counting_p(finding: TestFinding | None) -> float | None:
    """The p-value that may decide: of a test that is at its end, and not an approximation."""
    if finding is None or not finding.p_values:
        return None
    if finding.standing in (Standing.REFUSED, Standing.INTERIM):
        return None
    first = finding.p_values[0]
    if first.exactness is Exactness.APPROXIMATE or not 0 <= first.value <= 1:
        return None
    return first.value


def _words(verdict: AuditVerdict, judged: Sequence[Judged], seen: list[str], alpha: float) -> str:
    rejected = [each for each in judged if each.decision is Decision.REJECTED]
    again = "".join(
        f" {_counted(each)}." for each in judged if each.runs > 1 and each.adjusted is not None
    )
    speaking = [each for each in rejected if SPEAKS_FOR[each.kind] is verdict]
    names = ", ".join(each.name for each in speaking)
    others = ", ".join(each.name for each in rejected if each not in speaking)
    if verdict is AuditVerdict.NO_EVIDENCE:
        less = " What it would have seen is stated for a single run." if again else ""
        return "No evidence. " + " ".join(seen) + again + less
    if verdict is AuditVerdict.CANNOT_SAY:
        return "Cannot say: no planned test was able to decide." + again
    claim = {
        AuditVerdict.DESCENDS: "The suspect and this model share an origin of their weights",
        AuditVerdict.TRAINED: "The suspect was trained, directly or through another, on these "
        "outputs",
        AuditVerdict.CLOSE: "The suspect is closer in style to this teacher than comparable models "
        "are; of what it was trained on this says nothing",
    }[verdict]
    beside = f" Beside it, {others} rejected, for what each of them says." if others else ""
    rate = f"chance of any wrong rejection in the plan at most {alpha:g}"
    return f"{claim} ({names}; {rate}).{beside}{again}"


def _counted(each: Judged) -> str:
    """How often a test was run, and what that costs."""
    times = {2: "twice", 3: "three times", 4: "four times"}.get(each.runs, f"{each.runs:,} times")
    return (
        f"{each.name} was run on {each.runs:,} different sets of data or settings, so its p-value "
        f"counts {times}"
    )


def _fell_short(each: Judged, alpha: float) -> bool:
    """Small enough by itself, too large within the plan."""
    return each.decision is Decision.KEPT and each.p is not None and each.p <= alpha


def _open_end(each: Judged, alpha: float) -> str:
    """What a test that did not reject leaves open; empty for nothing."""
    if each.decision is Decision.REFUSED:
        why = f": {each.reasons[0]}" if each.reasons else ""
        return f"{each.name} was refused{why}. Mended, it could still decide."
    if each.decision is Decision.NOT_RUN:
        return f"{each.name} was planned and not run; it counts as p = 1."
    if each.decision is Decision.UNDECIDED:
        return (
            f"{each.name} has looks left; until one of them decides it counts as p = 1, and what "
            "was seen so far is not evidence of absence."
        )
    if each.decision is Decision.APPROXIMATE:
        return f"{each.name} gave an approximate p-value only; an exact one could decide."
    if _fell_short(each, alpha):
        return (
            f"{each.name} has p = {each.p:.3g} by itself, which the plan's rule does not let "
            "count; new data under a plan of this one test could decide."
        )
    if each.decision is Decision.KEPT and not each.could_reject:
        return (
            f"{each.name} could not have rejected at its share of the level: more keys or "
            "reference models lower its floor."
        )
    return ""


def _would_change(
    verdict: AuditVerdict, judged: tuple[Judged, ...], plan: AuditPlan
) -> tuple[str, ...]:
    out = [line for each in judged if (line := _open_end(each, plan.alpha))]
    strongest = [each for each in judged if each.decision is Decision.REJECTED]
    if len(strongest) == 1:
        only = strongest[0].name
        out.append(f"The verdict rests on {only} alone: it falls if its assumption fails.")
    if verdict is AuditVerdict.CLOSE:
        out.append(
            "A log of served and unserved answers, or a watermark, could turn closeness into "
            "proof of training; a third source that both learned from would explain it away."
        )
    if verdict is AuditVerdict.TRAINED:
        out.append("A public leak of these outputs, or a model in between, would explain it too.")
    if verdict is AuditVerdict.DESCENDS:
        out.append("A common public ancestor of both models would explain it too.")
    is_over = all(each.decision is not Decision.UNDECIDED for each in judged)
    if is_over and verdict in (AuditVerdict.NO_EVIDENCE, AuditVerdict.CANNOT_SAY):
        out.append(f"More data under a new plan could; this plan's level {plan.alpha:g} is spent.")
    return tuple(out)


def _caveats(
    sealed: SealedPlan,
    judged: tuple[Judged, ...],
    findings: Mapping[str, TestFinding],
    data: tuple[DataDigest, ...],
) -> tuple[str, ...]:
    out: list[str] = []
    if not sealed.attested:
        out.append(
            "The plan's hash was not compared with one given away before the data were seen: that "
            "it came first rests on the auditor's word."
        )
    planned = [each for each in judged if each.decision is not Decision.UNPLANNED]
    if len(planned) < len(judged):
        out.append("Findings that were not planned are shown and decide nothing.")
    for each in planned:
        versions = runs_of(each.name, data)
        looks = findings[each.name].details.get("looks") if each.name in findings else None
        if each.runs > 1:
            out.append(f"{_counted(each)}.")
        elif versions > (len(looks) if isinstance(looks, list | tuple) and looks else 1):
            out.append(
                f"{each.name} was run on {versions} different sets of data or settings; its looks "
                "count as one run."
            )
        if data and not versions and each.decision is not Decision.NOT_RUN:
            out.append(f"No digest of the data of {each.name} was recorded.")
        if any(d.at < sealed.sealed_at for d in data if d.test == each.name):
            out.append(f"Data of {each.name} were recorded before the plan was sealed.")
        if each.decision is Decision.REJECTED and each.reasons:
            out.append(f"{each.name}: {'; '.join(each.reasons).rstrip('.')}.")
    return tuple(out)
