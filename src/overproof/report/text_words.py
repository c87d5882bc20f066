"""What the faces of a text task's certificate say in the same words."""

from __future__ import annotations

from overproof.records.certificate import Interval
from overproof.records.text_certificate import Contestant, DeferralCurve, TextCertificate
from overproof.report.facts import title_of
from overproof.report.formats import percent

__all__ = ["SCORERS", "dearer", "degenerate", "number_interval", "scored", "tokens"]

SCORERS = {
    "exact": "right answers, compared after normalisation",
    "numeric": "right numbers",
    "reasoning_gym": "scores of the tasks' own verifiers",
    "json": "field-level F1 of the extracted objects",
    "teacher": "answers that say what the teacher said",
}


def scored(certificate: TextCertificate) -> list[tuple[str, str, dict[str, Interval]]]:
    """Further measures as (key, title, value by contestant), in the order they first occur."""
    keys = list(dict.fromkeys(key for c in certificate.contestants for key in c.details))
    return [
        (
            key,
            title_of(key),
            {c.name: c.details[key] for c in certificate.contestants if key in c.details},
        )
        for key in keys
    ]


def number_interval(value: Interval | None, missing: str = "not measured") -> str:
    """A plain number with its interval: ``12.3 [11.0, 13.9]``."""
    if value is None:
        return missing
    return f"{value.estimate:,.2f} [{value.low:,.2f}, {value.high:,.2f}]"


def tokens(value: float | None) -> str:
    """The mean number of tokens of an answer."""
    return "unknown" if value is None else f"{value:,.1f}"


def dearer(curve: DeferralCurve) -> str:
    """A word on a cascade that costs more than the teacher does by itself."""
    return ": dearer than the teacher alone" if curve.chosen.cost > 1.0 else ""


def degenerate(contestant: Contestant) -> str:
    """The three ways in which answers were broken, as shares."""
    d = contestant.degeneration
    return (
        f"loops {percent(d.loops.estimate)}, never stopped {percent(d.unstopped.estimate)}, "
        f"empty {percent(d.empty.estimate)}"
    )
