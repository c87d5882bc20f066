"""Who meets whom on the test prompts, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from overproof.config.text_certificate import TextCertificateConfig
from overproof.evaluate.candidates import as_interval
from overproof.evaluate.text.entrants import TEACHER, Entrant
from overproof.evaluate.text.measuring import Measured
from overproof.evaluate.text.scoring import Scores
from overproof.evaluate.wording import listed, p_value, points, signed_points, span
from overproof.records.text_certificate import TextComparison
from overproof.stats.means import compare_means
from overproof.stats.multiple import holm_adjusted_p

__all__ = ["certified_of", "compared", "contests", "verdict_text"]


def certified_of(comparisons: Sequence[TextComparison], alpha: float) -> tuple[str, ...]:
    """Students that are non-inferior to the teacher, corrected for how many were tested (Holm)."""
    against = [c for c in comparisons if c.second == TEACHER]
    passed = holm_adjusted_p([c.p_value for c in against]) <= alpha
    return tuple(
        c.first for c, ok in zip(against, passed, strict=True) if ok and c.verdict == "non-inferior"
    )


def contests(teacher: Entrant, measured: Measured) -> list[tuple[Entrant, Entrant]]:
    """Every student against the teacher, its untrained base, and the students of plain SFT."""
    pairs = []
    for student in measured.students:
        own = [e for base, e in measured.bases if student.name in base.students]
        sft = [e for e in measured.students if e.method == "sft" and e is not student]
        # Two students of SFT meet once.
        sft = [e for e in sft if student.method != "sft" or _after(student, e, measured)]
        pairs += [(student, other) for other in (teacher, *own, *sft)]
    return pairs


def _after(one: Entrant, other: Entrant, measured: Measured) -> bool:
    return measured.students.index(one) > measured.students.index(other)


def compared(
    first: Entrant,
    second: Entrant,
    scores: Mapping[str, Scores],
    settings: TextCertificateConfig,
) -> TextComparison:
    """Two entrants' scores on the same prompts: at the margin against the teacher."""
    found = compare_means(
        scores[first.name].values,
        scores[second.name].values,
        margin=settings.margin if second.name == TEACHER else None,
        alpha=settings.alpha,
    )
    return TextComparison(
        first=first.name,
        second=second.name,
        difference=as_interval(found.difference),
        margin=found.margin,
        alpha=found.alpha,
        p_value=found.p_value,
        verdict=found.verdict,
    )


def verdict_text(
    comparisons: Sequence[TextComparison], certified: Sequence[str], margin: float
) -> str:
    """The verdict in a sentence or two, with the figures of the student that it is about."""
    against = [c for c in comparisons if c.second == TEACHER]
    shown = next((c for c in against if c.first in certified), None)
    if shown is not None:
        others = [name for name in certified if name != shown.first]
        more = f" ({listed(others)} as well)" if others else ""
        claim = f"{shown.first} is not worse than its teacher by {points(margin)} or more{more}."
    else:
        shown = max(against, key=lambda c: c.difference.estimate)
        claim = (
            f"Every student is worse than its teacher by more than {points(margin)}; the nearest "
            f"is {shown.first}."
            if all(c.verdict == "inferior" for c in against)
            else f"That every student is worse than its teacher by {points(margin)} or more "
            f"cannot be excluded; the nearest is {shown.first}."
        )
    gap = shown.difference
    return (
        f"{claim} Its mean score differs from the teacher's by {signed_points(gap.estimate)} "
        f"points ({span(gap)}; one-sided {p_value(shown.p_value)} against a loss of "
        f"{points(margin)}) on {gap.n:,} test prompts."
    )
