"""The charts of a text task's certificate: scores, differences, degeneration, deferral."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from markupsafe import Markup

from overproof.records.certificate import Interval
from overproof.records.text_certificate import (
    Contestant,
    DeferralCurve,
    TextCertificate,
    TextComparison,
)
from overproof.report.dots import Dot, DotRow, Guide, dot_chart, span
from overproof.report.formats import interval, percent, points_interval
from overproof.report.formats import points as in_points
from overproof.report.seal import seal
from overproof.report.svg import Scale, element, frame, label, line, marker, markup, ticks

__all__ = ["TextFigures", "deferral_chart", "to_the_teacher"]

WIDE, NARROW = 780.0, 335.0


def to_the_teacher(certificate: TextCertificate) -> list[TextComparison]:
    """The comparisons whose second side is a teacher."""
    teachers = {c.name for c in certificate.contestants if c.role == "teacher"}
    return [c for c in certificate.comparisons if c.second in teachers and c.margin is not None]


def _both(key: str, draw: Callable[[str, float], str]) -> Markup:
    wide, narrow = draw(f"{key}-wide", WIDE), draw(f"{key}-narrow", NARROW)
    return markup(f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>')


def _dot(value: Interval, kind: str) -> Dot:
    return Dot(value.estimate, value.low, value.high, kind)


@dataclass(frozen=True)
class TextFigures:
    """Every chart of one certificate; a chart without data is ``None``."""

    certificate: TextCertificate

    @cached_property
    def kinds(self) -> dict[str, str]:
        """The mark of each contestant, by name."""
        kinds: dict[str, str] = {}
        for role, most in (("teacher", 2), ("student", 3), ("baseline", 1)):
            names = [c.name for c in self.certificate.contestants if c.role == role]
            names.sort(key=lambda name: name not in self.certificate.certified)
            for index, name in enumerate(names):
                number = min(index + 1, most)
                kinds[name] = role if number == 1 else f"{role}-{number}"
        return kinds

    def seal(self) -> Markup:
        """The seal of the verdict."""
        return markup(
            seal(self.certificate.verdict, f"margin {100 * self.certificate.margin:g} points")
        )

    def forest(self) -> Markup | None:
        """The paired differences to the teacher, against zero and the margin."""
        shown = to_the_teacher(self.certificate)
        if not shown:
            return None
        margin = self.certificate.margin
        ends = [end for c in shown for end in (c.difference.low, c.difference.high)]
        rows = [
            DotRow(
                c.first,
                points_interval(c.difference).replace(" points", ""),
                (_dot(c.difference, self.kinds.get(c.first, "student")),),
            )
            for c in shown
        ]
        said = "; ".join(f"{c.first} {points_interval(c.difference)}" for c in shown)
        return _both(
            "forest",
            lambda key, width: dot_chart(
                rows,
                key=key,
                title="Difference to the teacher",
                description=f"{said}. The margin lies at {in_points(-margin)}.",
                axis=span([*ends, 0.0, -margin * 1.2], floor=-1.0, ceiling=1.0),
                tick=lambda value: in_points(value).removesuffix(" points").replace(".0", ""),
                guides=[
                    Guide(-margin, f"margin {in_points(-margin)}".replace(".0 ", " "), "margin"),
                    Guide(0.0, "same as teacher", "zero"),
                ],
                caption="score, points against the teacher",
                width=width,
            ),
        )

    def scores(self) -> Markup | None:
        """The score of every contestant."""
        rows = [(c, c.score) for c in self.certificate.contestants]
        return self._shares("scores", "Score of every contestant", "score", rows)

    def agreement(self) -> Markup | None:
        """The share of answers that say what the teacher said."""
        rows = [(c, c.agreement) for c in self.certificate.contestants if c.agreement]
        return self._shares("agreement", "Agreement with the teacher", "agreement", rows)

    def degeneration(self) -> Markup | None:
        """The share of broken answers: loops, never stopping, empty."""
        rows = [(c, c.degeneration.any) for c in self.certificate.contestants]
        return self._shares("degeneration", "Degenerate answers", "share of answers", rows)

    def deferral(self) -> list[tuple[DeferralCurve, Markup]]:
        """Cost against agreement of every student that may pass on what it is unsure of."""
        return [
            (
                curve,
                _both(
                    f"deferral-{number}",
                    lambda key, width, curve=curve: deferral_chart(  # type: ignore[misc]
                        curve, key=key, width=width
                    ),
                ),
            )
            for number, curve in enumerate(self.certificate.deferral)
            if curve.points
        ]

    def _shares(
        self,
        key: str,
        title: str,
        caption: str,
        shown: Sequence[tuple[Contestant, Interval | None]],
    ) -> Markup | None:
        rows = [
            DotRow(c.name, interval(value), (_dot(value, self.kinds[c.name]),))
            for c, value in shown
            if value is not None
        ]
        if not rows:
            return None
        ends = [end for row in rows for dot in row.dots for end in (dot.low, dot.high)]
        return _both(
            key,
            lambda name, width: dot_chart(
                rows,
                key=name,
                title=title,
                description="; ".join(f"{row.name}: {row.value}" for row in rows),
                axis=span(ends, floor=0.0, ceiling=1.0),
                tick=lambda value: percent(value, 0),
                caption=caption,
                width=width,
            ),
        )


def deferral_chart(curve: DeferralCurve, *, key: str, width: float = WIDE) -> str:
    """Agreement with the teacher against the cost of a request, along the threshold.

    Args:
        curve: with at least one point; costs are shares of asking the teacher alone.
        key: prefix of the ids inside the chart; unique on the page.
        width: in pixels.
    """
    points = sorted(curve.points, key=lambda point: (point.cost, point.agreement))
    left, right, top, bottom = 48.0, width - 14.0, 24.0, 260.0
    costs = [*(p.cost for p in points), curve.chosen.cost]
    shares = [*(p.agreement for p in points), curve.stated, curve.agreement.low]
    low, high = span(shares, floor=0.0, ceiling=1.0)
    x = Scale(min(0.0, *costs), max(1.0, *costs), left, right)
    y = Scale(low, high, bottom, top)
    parts = []
    for value in ticks(low, high, 6):
        parts.append(line(left, y(value), right, y(value), "grid"))
        parts.append(label(left - 8, y(value) + 4, percent(value, 0), "tick", "end"))
    for value in ticks(x.low, x.high, 4 if width < 560 else 7):
        parts.append(line(x(value), bottom, x(value), bottom + 5, "axis"))
        parts.append(label(x(value), bottom + 20, percent(value, 0), "tick", "middle"))
    stated = y(curve.stated)
    parts.append(line(left, stated, right, stated, "guide margin"))
    parts.append(label(left + 4, stated - 6, f"stated {percent(curve.stated, 0)}", "guide-text"))
    path = " ".join(f"{x(p.cost):.2f},{y(p.agreement):.2f}" for p in points)
    parts.append(element("polyline", points=path, class_="curve student"))
    at = x(curve.chosen.cost)
    parts.append(line(at, y(curve.agreement.low), at, y(curve.agreement.high), "range student"))
    parts.append(marker("student", at, y(curve.chosen.agreement)))
    parts.append(line(left, bottom, right, bottom, "axis"))
    caption = "cost of a request, of asking the teacher alone"
    parts.append(label((left + right) / 2, bottom + 40, caption, "tick", "middle"))
    said = (
        f"At the chosen threshold {percent(curve.chosen.deferred)} of the requests go to the "
        f"teacher, the cost is {percent(curve.chosen.cost)} of asking it alone, and "
        f"{interval(curve.agreement)} of the answers agree with it; stated was "
        f"{percent(curve.stated, 0)}."
    )
    return frame(key, f"Deferral of {curve.student}", said, (width, bottom + 48), parts)
