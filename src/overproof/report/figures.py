"""The certificate's charts: records in, SVG markup out, each at a wide and at a narrow size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from markupsafe import Markup

from overproof.records.certificate import Candidate, Certificate, Comparison, Interval
from overproof.report.dots import Dot, DotRow, Guide, dot_chart, span
from overproof.report.formats import interval, percent, points_interval
from overproof.report.formats import points as in_points
from overproof.report.plots import Curve, learning_chart, reliability_chart
from overproof.report.seal import seal
from overproof.report.svg import markup

__all__ = ["Figures", "score", "teacher_of", "to_teacher"]

WIDE, NARROW = 780.0, 335.0


def teacher_of(certificate: Certificate) -> Candidate | None:
    """The teacher among the candidates, if it was measured."""
    return next((c for c in certificate.candidates if c.role == "teacher"), None)


def to_teacher(certificate: Certificate) -> list[Comparison]:
    """The comparisons whose second side is the teacher."""
    teacher = teacher_of(certificate)
    if teacher is None:
        return []
    return [c for c in certificate.comparisons if c.second == teacher.name]


def score(candidate: Candidate) -> Interval | None:
    """Accuracy where there is gold, else agreement with the teacher."""
    return candidate.accuracy or candidate.agreement


def _kinds(certificate: Certificate) -> dict[str, str]:
    """The mark of each candidate; the recommended student has the first one."""
    kinds: dict[str, str] = {}
    for role, most in (("teacher", 2), ("student", 3), ("baseline", 1)):
        names = [c.name for c in certificate.candidates if c.role == role]
        names.sort(key=lambda name: name != certificate.recommended)
        for index, name in enumerate(names):
            number = min(index + 1, most)
            kinds[name] = role if number == 1 else f"{role}-{number}"
    return kinds


def _dot(value: Interval, kind: str) -> Dot:
    return Dot(value.estimate, value.low, value.high, kind)


def _both(key: str, draw: Callable[[str, float], str]) -> Markup:
    """One chart at two sizes; the page shows the one that fits, and the other to nobody."""
    wide, narrow = draw(f"{key}-wide", WIDE), draw(f"{key}-narrow", NARROW)
    return markup(f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>')


def _whole_percent(value: float) -> str:
    return percent(value, 0)


def _whole_points(value: float) -> str:
    return in_points(value).removesuffix(" points").replace(".0", "")


@dataclass(frozen=True)
class Figures:
    """Every chart of one certificate; a chart without data is ``None``."""

    certificate: Certificate

    @cached_property
    def kinds(self) -> dict[str, str]:
        """The mark of each candidate, by name."""
        return _kinds(self.certificate)

    @property
    def charted(self) -> list[Candidate]:
        """The teacher and its students: those that the slices are drawn for."""
        first = teacher_of(self.certificate)
        return [c for c in self.certificate.candidates if c.role == "student" or c == first]

    def seal(self) -> Markup:
        """The seal of the verdict."""
        margin = f"margin {100 * self.certificate.margin:g} points"
        return markup(seal(self.certificate.verdict, margin))

    def forest(self) -> Markup | None:
        """The paired differences to the teacher, against zero and the margin."""
        comparisons = to_teacher(self.certificate)
        if not comparisons:
            return None
        margin = comparisons[0].margin
        ends = [end for c in comparisons for end in (c.difference.low, c.difference.high)]
        axis = span([*ends, 0.0, -margin * 1.2], floor=-1.0, ceiling=1.0)
        rows = [
            DotRow(
                c.first,
                points_interval(c.difference).replace(" points", ""),
                (_dot(c.difference, self.kinds.get(c.first, "student")),),
            )
            for c in comparisons
        ]
        guides = [
            Guide(-margin, f"margin {_whole_points(-margin)}", "margin"),
            Guide(0.0, "same as teacher", "zero"),
        ]
        said = "; ".join(f"{c.first} {points_interval(c.difference)}" for c in comparisons)
        return _both(
            "forest",
            lambda key, width: dot_chart(
                rows,
                key=key,
                title="Difference to the teacher",
                description=f"{said}. The margin lies at {in_points(-margin)}.",
                axis=axis,
                tick=_whole_points,
                guides=guides,
                caption=f"{comparisons[0].metric}, points against the teacher",
                width=width,
            ),
        )

    def scores(self) -> Markup | None:
        """The score of every candidate (see ``score``)."""
        shown = [(c, value) for c in self.certificate.candidates if (value := score(c))]
        word = "accuracy" if self.certificate.basis == "gold" else "agreement with the teacher"
        if not shown:
            return None
        rows = [DotRow(c.name, interval(v), (_dot(v, self.kinds[c.name]),)) for c, v in shown]
        return self._shares("scores", f"{word} of every candidate", rows, word)

    def agreement(self) -> Markup | None:
        """Agreement with the teacher beside the teacher's agreement with itself."""
        ceiling = self.certificate.teacher_self_agreement
        rows = [
            DotRow(c.name, interval(c.agreement), (_dot(c.agreement, self.kinds[c.name]),))
            for c in self.certificate.candidates
            if c.agreement
        ]
        if not rows:
            return None
        guides: list[Guide] = []
        if ceiling:
            itself = DotRow("teacher, itself", interval(ceiling), (_dot(ceiling, "teacher"),))
            rows = [itself, *rows]
            guides = [Guide(ceiling.estimate, "teacher, itself", "ceiling")]
        return self._shares("agreement", "Agreement with the teacher", rows, "agreement", guides)

    def slices(self, by: str) -> Markup | None:
        """Accuracy by slice: the candidates of ``charted`` together in one row."""
        scored = [
            (s.value, self.kinds[c.name], s.accuracy, c.name)
            for c in self.charted
            for s in c.slices
            if s.by == by
        ]
        values = list(dict.fromkeys(value for value, *_ in scored))
        if not values:
            return None
        rows = [
            DotRow(
                value,
                f"n = {max(score.n for v, _, score, _ in scored if v == value):,}",
                tuple(_dot(score, kind) for v, kind, score, _ in scored if v == value),
            )
            for value in values
        ]
        said = "; ".join(f"{v}, {name}: {interval(score)}" for v, _, score, name in scored)
        word = f"accuracy by {by}"
        return self._shares(
            f"slice-{by.replace(' ', '-')}", word, rows, "accuracy", description=said
        )

    def reliability(self) -> list[tuple[Candidate, Markup]]:
        """One reliability plot a candidate that has bins."""
        return [
            (
                c,
                markup(
                    reliability_chart(
                        c.reliability,
                        key=f"reliability-{index}",
                        name=c.name,
                        kind=self.kinds[c.name],
                    )
                ),
            )
            for index, c in enumerate(self.certificate.candidates)
            if any(b.n for b in c.reliability)
        ]

    def learning(self) -> Markup | None:
        """The learning curves."""
        curves = [
            Curve(c.name, self.kinds[c.name], c.learning_curve)
            for c in self.certificate.candidates
            if c.learning_curve
        ]
        if not curves:
            return None
        return _both("learning", lambda key, width: learning_chart(curves, key=key, width=width))

    def _shares(
        self,
        key: str,
        title: str,
        rows: list[DotRow],
        caption: str,
        guides: list[Guide] | None = None,
        *,
        description: str = "",
    ) -> Markup:
        ends = [end for row in rows for dot in row.dots for end in (dot.low, dot.high)]
        axis = span(ends, floor=0.0, ceiling=1.0)
        said = description or "; ".join(f"{row.name}: {row.value}" for row in rows)
        return _both(
            key,
            lambda name, width: dot_chart(
                rows,
                key=name,
                title=title,
                description=said,
                axis=axis,
                tick=_whole_percent,
                guides=guides or [],
                caption=caption,
                width=width,
            ),
        )
