"""How the tests did: power, false positives and coverage, each with an exact interval.

Intervals of shares are those of Clopper and Pearson at 95 %, over *models* where models are what
was drawn. Redraws of served answers and of keys within one model are not independent models, and
stand apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

from overproof.audit.dose import ShadowStudent, dose_equivalent
from overproof.proving.audit.cast import Arm
from overproof.proving.audit.mark_stage import MARK_TESTS
from overproof.proving.audit.plan import StudyPlan
from overproof.stats.intervals import clopper_pearson

__all__ = ["TESTS", "make_tables", "share"]

TESTS = ("ghosts", *MARK_TESTS, "references", "base shift")
DOSED = MARK_TESTS[3]
NULLS = frozenset(arm.value for arm in Arm if arm.null)
Row = dict[str, Any]


def share(k: int, n: int) -> Row:
    """K of n with its interval; no interval of nothing."""
    if n == 0:
        return {"k": 0, "n": 0, "share": None, "low": None, "high": None}
    found = clopper_pearson(k, n)
    return {"k": k, "n": n, "share": found.estimate, "low": found.low, "high": found.high}


def p_of(finding: Row | None) -> float | None:
    """The p-value that counts; None where the test was refused or not made."""
    if not finding or not finding["p_values"] or finding["standing"] == "refused":
        return None
    return float(finding["p_values"][0]["value"])


def _finding(test: str, entry: Row, shared: Row) -> Row | None:
    found = entry.get(test) or shared.get(test, {}).get(entry["name"])
    return dict(found) if found else None


def _level(plan: StudyPlan, test: str) -> float:
    return plan.alpha_references if test in {"references", "base shift"} else plan.alpha


def _rejections(plan: StudyPlan, test: str, entries: Iterable[Row], shared: Row) -> Row:
    values = [p_of(_finding(test, entry, shared)) for entry in entries]
    given = [p for p in values if p is not None]
    level = _level(plan, test)
    # A hair's breadth: 1/20 is .05, and a rank that reaches its floor must count.
    row = share(sum(p <= level * (1 + 1e-9) for p in given), len(given))
    return {
        **row,
        "test": test,
        "alpha": level,
        "refused": len(values) - len(given),
        "median_p": median(given) if given else None,
    }


def _groups(
    entries: Sequence[Row], keep: Callable[[Row], bool]
) -> dict[tuple[str, float], list[Row]]:
    groups: dict[tuple[str, float], list[Row]] = {}
    for entry in entries:
        if keep(entry):
            groups.setdefault((entry["arm"], entry["dose"]), []).append(entry)
    return groups


def _power(plan: StudyPlan, suspects: Sequence[Row], shared: Row) -> list[Row]:
    """By kind of student and dose: how many each test found. Nulls stand in their own table."""
    groups = _groups(suspects, lambda entry: entry["arm"] not in NULLS)
    return [
        {"arm": arm, "dose": dose, **_rejections(plan, test, members, shared)}
        for (arm, dose), members in groups.items()
        for test in TESTS
    ]


def _false_positives(plan: StudyPlan, suspects: Sequence[Row], shared: Row) -> list[Row]:
    nulls = [entry for entry in suspects if entry["arm"] in NULLS]
    rows: list[Row] = []
    for arm, members in [("all that never saw A", nulls)] + [
        (arm, members) for (arm, _), members in _groups(nulls, lambda _: True).items()
    ]:
        for test in TESTS:
            made = [entry for entry in members if _finding(test, entry, shared)]
            if made:
                rows.append({"arm": arm, **_rejections(plan, test, made, shared)})
    return rows


def _redraws(suspects: Sequence[Row], plan: StudyPlan) -> list[Row]:
    """Within null models: other served answers, other keys; and the plain z-test beside them."""
    nulls = [entry for entry in suspects if entry["arm"] in NULLS]
    drawn = [entry["truth"]["redraws"] for entry in nulls]
    keys = [entry["null keys"] for entry in nulls]
    names = (
        ("ghosts, served answers drawn anew", [(d["rejected"], d["redraws"]) for d in drawn]),
        ("watermark, tail under random keys", [(k["tail"], k["keys"]) for k in keys]),
        ("plain z-test under random keys (must fail)", [(k["plain_z"], k["keys"]) for k in keys]),
    )
    return [
        {"test": name, "alpha": plan.alpha, "models": len(nulls),
         **share(sum(k for k, _ in pairs), sum(n for _, n in pairs))}
        for name, pairs in names
    ]  # fmt: skip


def _shares(suspects: Sequence[Row]) -> list[Row]:
    """The bound on the share of the log against the truth, and the list of prompts."""
    rows = []
    for (arm, dose), members in _groups(suspects, lambda _: True).items():
        made = [entry for entry in members if entry["ghosts"]["effects"]]
        lows = [float(entry["ghosts"]["effects"][1]["low"]) for entry in made]
        truths = [float(entry["truth"]["share"]) for entry in made]
        covered = sum(low <= truth + 1e-12 for low, truth in zip(lows, truths, strict=True))
        rows.append({
            "arm": arm, "dose": dose, "true_share": median(truths) if truths else None,
            "median_bound": median(lows) if lows else None, "covered": share(covered, len(made)),
            "auc": median(entry["ghosts"]["effects"][0]["value"] for entry in made)
            if made else None,
            "reported": sum(entry["truth"]["reported"] for entry in made),
            "reported_wrongly": sum(entry["truth"]["reported_wrongly"] for entry in made),
        })  # fmt: skip
    return rows


def _doses(entries: Sequence[Row]) -> list[Row]:
    """Dose equivalents of the students of marked answers, by the shadow students' curve."""
    shadows = [
        ShadowStudent(entry["recipe"], 100 * entry["dose"], 0, _effect(entry)[0])
        for entry in entries
        if entry["arm"] == Arm.SHADOW.value and entry[DOSED]["effects"]
    ]
    rows = []
    for entry in entries:
        if entry["arm"] != Arm.MARKED.value or not entry[DOSED]["effects"]:
            continue
        effect, error = _effect(entry)
        found = dose_equivalent(effect, shadows, error=error)
        truth = 100 * entry["dose"]
        known = found.low is not None and found.high is not None
        rows.append({
            "name": entry["name"], "dose": truth, "effect": effect, "estimate": found.value,
            "low": found.low, "high": found.high, "why": found.why,
            "covered": bool(found.low <= truth <= found.high) if known else None,
        })  # fmt: skip
    return rows


def _effect(entry: Row) -> tuple[float, float]:
    """The excess of the mark over the teacher's expectation, and its standard error."""
    first = entry[DOSED]["effects"][0]
    wide = 0.0 if first["low"] is None else first["high"] - first["low"]
    return float(first["value"]), wide / (2 * 1.959964)


def _descent(plan: StudyPlan, entries: dict[str, Row], weights: Row) -> list[Row]:
    groups: dict[str, list[Row]] = {}
    for name, finding in weights.items():
        arm = entries[name]["arm"] if name in entries else "another base"
        groups.setdefault(arm, []).append(finding)
    rows = []
    for arm, findings in groups.items():
        values = [p for p in map(p_of, findings) if p is not None]
        other = arm in {"another base", Arm.OTHER_BASE.value}
        rows.append({
            "arm": arm, "descends": not other, "median_p": median(values) if values else None,
            **share(sum(p <= plan.alpha for p in values), len(values)),
        })  # fmt: skip
    return rows


def make_tables(
    plan: StudyPlan,
    found: dict[str, Row],
    shared: Row,
    coverage: Sequence[Row],
    costs: dict[str, float],
) -> dict[str, Any]:
    """All tables.

    Args:
        plan: the study's.
        found: of each suspect and shadow student what ``judge`` kept.
        shared: what was found of all at once.
        coverage: of `overproof.proving.audit.ghost_stage.bound_coverage`.
        costs: CPU seconds by stage.
    """
    suspects = [entry for entry in found.values() if entry["arm"] != Arm.SHADOW.value]
    return {
        "plan": plan.to_json(),
        "fingerprint": plan.fingerprint,
        "power": _power(plan, suspects, shared),
        "false_positives": _false_positives(plan, suspects, shared),
        "redraws": _redraws(suspects, plan),
        "shares": _shares(suspects),
        "coverage": [
            {**row, "interval": share(row["covered"], row["replicates"])} for row in coverage
        ],
        "doses": _doses(list(found.values())),
        "weights": _descent(plan, found, shared["weights"]),
        "controls": shared["controls"],
        "cpu_s": costs,
    }
