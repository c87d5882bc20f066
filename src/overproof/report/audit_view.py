"""An attestation with its findings, checked for agreement and arranged for the verdict page.

The attestation comes as plain values, as its ``to_json`` gives them or a JSON file holds them.
What does not fit together is refused: a page that shows other numbers than the verdict rests on
would be worse than none. All text from outside is made showable here, once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any, TypeVar, cast

from overproof.config.audit import AuditPlan
from overproof.errors import DataError
from overproof.records.audit import AuditVerdict, Effect, PValue, TestFinding
from overproof.report.audit_words import KINDS, VERDICTS, Kind, Wording, seen
from overproof.report.formats import capitalised
from overproof.report.guard_words import ODD

__all__ = [
    "DECISIONS",
    "KEPT",
    "NOT_RUN",
    "REJECTED",
    "AuditView",
    "Digest",
    "TestView",
    "shown",
    "view_of",
]

REJECTED, KEPT, NOT_RUN = "null hypothesis rejected", "not rejected", "planned and not run"
DECISIONS = {  # the class of each decision's colour
    REJECTED: "rejected",
    KEPT: "kept",
    "refused": "refused",
    NOT_RUN: "absent",
    "approximate, decides nothing": "idle",
    "not decided yet, a later look is planned": "idle",
    "not planned, decides nothing": "idle",
}
LONGEST = 4_000
MOST = 40  # entries of a list within the details
Any_ = TypeVar("Any_")


@dataclass(frozen=True)
class Digest:
    """One file that a test was run on."""

    test: str
    at: str
    file: str
    sha256: str


@dataclass(frozen=True)
class TestView:
    """One test of the plan, or beside it.

    Attributes:
        name: in the plan.
        kind: of test.
        decision: what became of it, in words.
        p: its own p-value.
        adjusted: for the family.
        could_reject: whether its floor let it.
        finding: None where it was not run.
        settings: as planned; empty where it was not.
    """

    __test__ = False

    name: str
    kind: str
    decision: str
    p: float | None
    adjusted: float | None
    could_reject: bool
    finding: TestFinding | None
    settings: Mapping[str, Any]

    @property
    def about(self) -> Kind:
        """The kind in plain words; its bare name where it is not known."""
        return KINDS.get(self.kind) or Kind(self.kind, "")

    @property
    def style(self) -> str:
        """The class of the decision's colour."""
        return DECISIONS.get(self.decision, "idle")

    @property
    def counting(self) -> PValue | None:
        """The p-value that counts."""
        return self.finding.p_values[0] if self.finding and self.finding.p_values else None

    @property
    def strength(self) -> tuple[float, float]:
        """By which tests are compared, the strongest first, below what a float holds too."""
        adjusted = 1.0 if self.adjusted is None else self.adjusted
        own = self.counting.log10 if self.counting else None
        return adjusted, 0.0 if own is None else own

    @property
    def seen(self) -> str:
        """What it would have found, in words; empty where unknown."""
        power = self.finding.power if self.finding else None
        return seen(self.kind, power.detectable) if power else ""

    @cached_property
    def details(self) -> dict[str, Any]:
        """Further numbers; long lists cut, for ``verdict.json`` has them whole."""
        given = self.finding.details if self.finding else {}
        return {key: _short(value) for key, value in given.items() if not _empty(value)}


@dataclass(frozen=True)
class AuditView:
    """Everything that the page shows."""

    verdict: AuditVerdict
    words: str
    plan: AuditPlan
    rule: str
    tests: tuple[TestView, ...]
    would_change: tuple[str, ...]
    not_proved: tuple[str, ...]
    caveats: tuple[str, ...]
    how_much: tuple[Effect, ...]
    plan_sha256: str
    sealed_at: str
    attested: bool | None
    data: tuple[Digest, ...]
    made_at: str
    version: str

    @property
    def wording(self) -> Wording:
        """The verdict for the reader."""
        return VERDICTS[self.verdict]

    @property
    def alpha(self) -> float:
        """Level of the whole plan."""
        return self.plan.alpha

    @property
    def attested_words(self) -> str:
        """Whether the plan's hash was compared with one given away before."""
        if self.attested:
            return "compared with the one given away before the data were seen"
        if self.attested is None:
            return "not recorded here; see the caveats"
        return "not compared with one given away: that the plan came first rests on a word"

    @property
    def rejected(self) -> list[TestView]:
        """Tests on which the verdict rests."""
        return [
            one
            for one in self.tests
            if one.decision == REJECTED and one.about.speaks_for is self.verdict
        ]

    @property
    def anything_rejected(self) -> bool:
        """Whether any planned hypothesis fell."""
        return any(one.decision == REJECTED for one in self.tests)

    @property
    def deciding(self) -> TestView | None:
        """Of these the one with the smallest p-value."""
        return min(self.rejected, key=lambda one: one.strength, default=None)

    @property
    def sensitive(self) -> TestView | None:
        """The first test that kept its hypothesis, could have rejected, and says what it saw."""
        able = [one for one in self.tests if one.decision == KEPT and one.could_reject]
        return next((one for one in able if one.seen), None)

    @property
    def said(self) -> str:
        """The verdict in a sentence; of no evidence, what each able test would have seen."""
        if self.verdict is not AuditVerdict.NO_EVIDENCE:
            return self.words
        able = [one for one in self.tests if one.decision == KEPT and one.could_reject]
        powers = [(one.name, one.finding.power) for one in able if one.finding]
        seen_by = [
            f"{capitalised(name)}: {power.words.rstrip('.')}."
            for name, power in powers
            if power is not None and power.detectable is not None
        ]
        return " ".join(["No evidence.", *seen_by])

    @property
    def subline(self) -> str:
        """The second line: what else was found, or, of no evidence, what would have been seen."""
        if self.verdict is AuditVerdict.NO_EVIDENCE and self.sensitive is not None:
            return f"would have seen {self.sensitive.seen}"
        found = {one.about.speaks_for for one in self.tests if one.decision == REJECTED}
        also = [verdict.value for verdict in AuditVerdict if verdict in found - {self.verdict}]
        return f"and {' and '.join(also)}" if also else ""


def shown(text: str) -> str:
    """A text from outside as it can be shown: nothing invisible, nothing turned round."""
    flat = ODD.sub("\N{REPLACEMENT CHARACTER}", " ".join(text.split()))
    return flat if len(flat) <= LONGEST else flat[: LONGEST - 1] + "…"


def _clean(value: Any_) -> Any_:
    """``value`` with every text in it made showable."""
    found: Any = value
    if isinstance(value, Enum):
        return value
    if isinstance(value, str):
        found = shown(value)
    elif is_dataclass(value) and not isinstance(value, type):
        found = replace(value, **{f.name: _clean(getattr(value, f.name)) for f in fields(value)})
    elif isinstance(value, Mapping):
        found = {shown(str(key)): _clean(inner) for key, inner in value.items()}
    elif isinstance(value, list | tuple):
        found = type(value)(_clean(inner) for inner in value)
    elif hasattr(value, "tolist"):  # numpy's scalars and arrays
        found = _clean(cast(Any, value).tolist())
    return cast(Any_, found)


def _empty(value: Any) -> bool:
    return value is None or value in ("", [], {}, ())


def _short(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _short(inner) for key, inner in value.items() if not _empty(inner)}
    if isinstance(value, list | tuple):
        cut = [_short(inner) for inner in value[:MOST]]
        return cut if len(value) <= MOST else [*cut, f"… {len(value):,} in all, in verdict.json"]
    return value


def _need(row: Mapping[str, Any], name: str, kinds: type | tuple[type, ...], where: str) -> Any:
    value = row.get(name)
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        kind = "is not given" if name not in row else f"is {value!r}"
        raise DataError(f"{where}: {name}", kind, "give what `attest` returned, unchanged")
    return value


def _number(row: Mapping[str, Any], name: str, where: str) -> float | None:
    return None if row.get(name) is None else float(_need(row, name, (int, float), where))


def _lines(row: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    found = _need(row, name, (list, tuple), where)
    return tuple(str(line) for line in found)


def view_of(
    attestation: Mapping[str, Any],
    findings: Mapping[str, TestFinding],
    *,
    plan: AuditPlan,
    data: Sequence[Mapping[str, Any]] = (),
    made_at: str = "",
    version: str = "",
) -> AuditView:
    """Check that everything fits together, and arrange it.

    Raises:
        DataError: a part of the attestation is missing, or it and the findings do not agree.
    """
    where = "the attestation"
    try:
        verdict = AuditVerdict(_need(attestation, "verdict", str, where))
    except ValueError as error:
        raise DataError(f"{where}: verdict", str(error)) from None
    if not math.isclose(_need(attestation, "alpha", (int, float), where), plan.alpha):
        raise DataError(
            f"{where}: alpha",
            f"is {attestation['alpha']:g}, {plan.alpha:g} in the plan",
            "show a verdict beside the plan that it was given under",
        )
    given = plan.model_dump(mode="json")
    settings = dict(zip(plan.names(), given["tests"], strict=True))
    rows = _need(attestation, "tests", (list, tuple), where)
    tests = tuple(_test(row, findings, settings) for row in rows)
    names = {_need(row, "name", str, where) for row in rows}
    if missing := [name for name in (*settings, *findings) if name not in names]:
        raise DataError(missing[0], "is missing from the attestation", "attest all findings anew")
    return AuditView(
        verdict=verdict,
        words=shown(_need(attestation, "words", str, where)),
        plan=AuditPlan.model_validate(_clean(given)),
        rule=shown(_need(attestation, "rule", str, where)),
        tests=tests,
        would_change=_clean(_lines(attestation, "would_change", where)),
        not_proved=_clean(_lines(attestation, "not_proved", where)),
        caveats=_clean(_lines(attestation, "caveats", where)),
        how_much=tuple(
            _effect(row) for row in _need(attestation, "how_much", (list, tuple), where)
        ),
        plan_sha256=shown(_need(attestation, "plan_sha256", str, where)),
        sealed_at=shown(_need(attestation, "sealed_at", str, where)),
        attested=None if attestation.get("attested") is None else bool(attestation["attested"]),
        data=tuple(digest for row in data for digest in _digests(row)),
        made_at=shown(made_at),
        version=version,
    )


def _test(
    row: Mapping[str, Any],
    findings: Mapping[str, TestFinding],
    settings: Mapping[str, Mapping[str, Any]],
) -> TestView:
    name = _need(row, "name", str, "the attestation: tests")
    where = f"the attestation: tests: {shown(name)}"
    decision = _need(row, "decision", str, where)
    finding, p = findings.get(name), _number(row, "p", where)
    if (finding is None) != (decision == NOT_RUN):
        has = "no finding" if finding is None else "a finding"
        raise DataError(
            where, f"is {str(decision)!r} and has {has}", "give all findings, as judged"
        )
    if finding is not None and finding.p != p and not _both_undefined(finding.p, p):
        raise DataError(where, f"has p = {p}, its finding {finding.p}", "attest this finding anew")
    return TestView(
        name=shown(name),
        kind=shown(_need(row, "kind", str, where)),
        decision=shown(str(decision)),
        p=p,
        adjusted=_number(row, "adjusted", where),
        could_reject=_need(row, "could_reject", bool, where),
        finding=_clean(finding),
        settings={
            key: value
            for key, value in _clean(dict(settings.get(name, {}))).items()
            if key not in {"name", "kind"} and not _empty(value)
        },
    )


def _both_undefined(first: float | None, second: float | None) -> bool:
    """NaN does not equal itself."""
    return first is not None and second is not None and math.isnan(first) and math.isnan(second)


def _effect(row: Effect | Mapping[str, Any]) -> Effect:
    if isinstance(row, Effect):
        return _clean(row)
    try:
        return _clean(Effect(**row))
    except TypeError as error:
        raise DataError("the attestation: how_much", f"holds no effect: {error}") from error


def _digests(row: Mapping[str, Any]) -> list[Digest]:
    test, at = (_need(row, name, str, "a digest of data") for name in ("test", "at"))
    files = dict(_need(row, "files", Mapping, "a digest of data"))
    if row.get("settings"):
        files["(key, settings and models of the run)"] = row["settings"]
    return [
        Digest(shown(test), shown(at), shown(str(file)), shown(str(sha256)))
        for file, sha256 in files.items()
    ]
