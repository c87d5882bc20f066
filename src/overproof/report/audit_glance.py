"""The verdict at a glance: three figures in plain words, for those who read no further."""

from __future__ import annotations

from dataclasses import dataclass

from overproof.records.audit import Effect
from overproof.report.audit_view import KEPT, AuditView, TestView
from overproof.report.audit_words import (
    BADGES,
    NOT_IDENTIFIABLE,
    SHARE,
    effect_interval,
    effect_value,
    odds,
    p_said,
    p_words,
)
from overproof.report.formats import capitalised, count

__all__ = ["Cell", "glance", "identifiable", "what_decided"]

NEGLIGIBLE = 1e-9  # below it the assumption is likelier to fail than chance to do this
BEYOND = " What doubt remains is about the assumption."


@dataclass(frozen=True)
class Cell:
    """One figure: its question, the answer in large type, and what that means."""

    title: str
    big: str
    small: str


def identifiable(effect: Effect) -> bool:
    """Whether there is a number, be it one end of an interval."""
    return not (effect.value is None and effect.low is None and effect.high is None)


def what_decided(view: AuditView) -> str:
    """The tests that the verdict rests on, in words."""
    names = [one.name for one in view.rejected]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)


def glance(view: AuditView) -> tuple[Cell, Cell, Cell]:
    """How sure, how much, and what it rests on or would have seen."""
    return _sure(view), _much(view), _rests(view)


def _sure(view: AuditView) -> Cell:
    title, one = "How sure?", view.deciding
    if one is not None and one.adjusted is not None:
        return Cell(
            title,
            f"p = {p_words(one.adjusted)}",
            f"Were the suspect innocent of this and the test's assumption true, chance would give "
            f"so strong a result in at most {odds(one.adjusted)} such audits. The limit set "
            f"beforehand: {odds(view.alpha)}.{BEYOND if one.adjusted < NEGLIGIBLE else ''}",
        )
    counted = [(one, p) for one in view.tests if one.adjusted is not None and (p := one.counting)]
    if not counted:
        return Cell(title, "no p-value", "No planned test gave one that may count.")
    test, p = min(counted, key=lambda pair: pair[0].strength)
    of = "the only test" if len(counted) == 1 else f"the strongest of {len(counted)} tests"
    return Cell(
        title,
        p_said(p),
        f"From {test.name}, {of}; for the whole plan {p_words(test.adjusted or 0.0)}. Chance alone "
        f"gives such results; the planned limit was {view.alpha:g}.",
    )


def _much(view: AuditView) -> Cell:
    title = "How much?"
    known = next((effect for effect in view.how_much if identifiable(effect)), None)
    if known is None:
        if not view.how_much:
            return Cell(title, "not asked", "No quantity was estimated.")
        return Cell(title, NOT_IDENTIFIABLE, "None of the quantities below is determined by this.")
    big = effect_value(known)
    if known.value is None:
        big = effect_interval(known)
        return Cell(title, big, f"{capitalised(known.name)}.")
    interval = effect_interval(known)
    of_log = known is view.how_much[0] and known.unit == SHARE
    apart = " Of the log, that is: not of the suspect's training data." if of_log else ""
    return Cell(
        title, big, f"{capitalised(known.name)}{'; ' if interval else ''}{interval}.{apart}"
    )


def _rests(view: AuditView) -> Cell:
    one = view.deciding
    if one is not None and one.finding is not None and one.counting is not None:
        badge = BADGES[one.counting.exactness].word
        return Cell(
            "On what?",
            f"{count(one.finding.n)} {one.finding.unit}",
            f"{one.about.title}: {badge} p-value, {one.counting.method}.",
        )
    sensitive = view.sensitive
    if sensitive is not None and sensitive.finding is not None and sensitive.finding.power:
        words = sensitive.finding.power.words
        return Cell(
            "What would have been seen?",
            _number(sensitive),
            f"{capitalised(sensitive.name)}: {words[:1].lower()}{words[1:].rstrip('.')}.",
        )
    tests = [one for one in view.tests if one.name in view.plan.names()]
    fates = "; ".join(f"{one.name}: {one.decision}" for one in tests)
    kept = sum(one.decision == KEPT and one.could_reject for one in tests)
    return Cell("Who could decide?", f"{kept} of {len(tests)} tests", f"{capitalised(fates)}.")


def _number(one: TestView) -> str:
    detectable = one.finding.power.detectable if one.finding and one.finding.power else None
    if detectable is None:
        return "unknown"
    return f"≥ {100 * detectable:.2g} %" if one.about.share else f"≥ {detectable:.2g}"
