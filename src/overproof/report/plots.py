"""Two-axis charts: the reliability plot and the learning curve. Data in, SVG out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from overproof.records.certificate import ReliabilityBin
from overproof.records.student import LearningPoint
from overproof.report.formats import count, percent
from overproof.report.svg import CHARACTER, Scale, element, frame, label, line, marker, ticks

__all__ = ["Curve", "learning_chart", "reliability_chart"]


@dataclass(frozen=True)
class Curve:
    """The learning curve of one candidate, drawn with the mark of ``kind``."""

    name: str
    kind: str
    points: tuple[LearningPoint, ...]


def _short(number: int) -> str:
    return str(number) if number < 1000 else f"{number / 1000:.{1 if number < 10_000 else 0}f}k"


def reliability_chart(
    bins: Sequence[ReliabilityBin], *, key: str, name: str, kind: str, width: float = 250.0
) -> str:
    """Share correct against mean confidence, with intervals, over a histogram of the bins.

    Args:
        bins: in any order; empty ones are left out.
        key: prefix of the ids inside the chart; unique on the page.
        name: the candidate's.
        kind: the candidate's mark, see ``svg.MARKERS``.
        width: in pixels.
    """
    filled = [b for b in bins if b.n]
    left, top, side = 34.0, 8.0, width - 44.0
    x, y = Scale(0, 1, left, left + side), Scale(0, 1, top + side, top)
    foot = top + side + 30.0
    bar_room = 44.0
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts += [
            line(x(tick), y(0), x(tick), y(1), "grid"),
            line(x(0), y(tick), x(1), y(tick), "grid"),
        ]
        parts.append(label(left - 6, y(tick) + 4, f"{100 * tick:.0f}", "tick", "end"))
        parts.append(label(x(tick), y(0) + 17, f"{100 * tick:.0f}", "tick", "middle"))
    parts.append(line(x(0), y(0), x(1), y(1), "diagonal"))
    most = max((b.n for b in filled), default=1)
    base = foot + 14 + bar_room
    for b in filled:
        tall = max(bar_room * b.n / most, 1.0)
        start, stop = x(b.low) + 1, x(b.high) - 1
        parts.append(
            element(
                "rect",
                x=start,
                y=base - tall,
                width=max(stop - start, 1.0),
                height=tall,
                class_=f"bar {kind}",
            )
        )
        if stop - start >= 12:
            middle = (start + stop) / 2
            parts.append(label(middle, base - tall - 4, _short(b.n), "tiny", "middle"))
        if b.accuracy is not None:
            at = x(b.confidence)
            parts.append(line(at, y(b.accuracy.low), at, y(b.accuracy.high), f"range {kind}"))
            parts.append(marker(kind, at, y(b.accuracy.estimate), 4.0))
    parts.append(line(x(0), base, x(1), base, "axis"))
    words = [
        f"at {percent(b.confidence, 0)} confidence {percent(b.accuracy.estimate, 0)} right ({b.n})"
        for b in filled
        if b.accuracy is not None
    ]
    description = "; ".join(words) or "No bin holds an answer."
    return frame(key, f"Reliability of {name}", description, (width, base + 6), parts)


def _ends(curves: Sequence[Curve]) -> tuple[float, float]:
    shares = [point.tune_agreement for curve in curves for point in curve.points]
    low, high = min(shares), max(shares)
    air = max(0.15 * (high - low), 0.02)
    return max(low - air, 0.0), min(high + air, 1.0)


def learning_chart(curves: Sequence[Curve], *, key: str, width: float = 760.0) -> str:
    """Agreement with the teacher on the tune split against the number of training examples.

    Args:
        curves: each with at least one point.
        key: prefix of the ids inside the chart; unique on the page.
        width: in pixels.
    """
    names = max(len(curve.name) for curve in curves) * CHARACTER + 18
    left, right, top, bottom = 44.0, width - min(names, 0.3 * width), 14.0, 250.0
    low, high = _ends(curves)
    most = max(point.n_train for curve in curves for point in curve.points)
    x, y = Scale(0, float(most), left, right), Scale(low, high, bottom, top)
    parts = []
    for value in ticks(low, high, 6):
        parts.append(line(left, y(value), right, y(value), "grid"))
        parts.append(label(left - 8, y(value) + 4, percent(value, 0), "tick", "end"))
    for value in ticks(0, most, 4 if width < 560 else 7):
        parts.append(line(x(value), bottom, x(value), bottom + 5, "axis"))
        parts.append(label(x(value), bottom + 20, count(value), "tick", "middle"))
    taken: list[float] = []
    for curve in sorted(
        curves, key=lambda c: -max(c.points, key=lambda p: p.n_train).tune_agreement
    ):
        points = sorted(curve.points, key=lambda point: point.n_train)
        path = " ".join(f"{x(p.n_train):.2f},{y(p.tune_agreement):.2f}" for p in points)
        parts.append(element("polyline", points=path, class_=f"curve {curve.kind}"))
        parts += [marker(curve.kind, x(p.n_train), y(p.tune_agreement), 4.5) for p in points]
        height = y(points[-1].tune_agreement)
        if taken:
            height = max(height, taken[-1] + 16)
        taken.append(height)
        parts.append(label(x(points[-1].n_train) + 11, height + 4.5, curve.name, "name"))
    parts.append(line(left, bottom, right, bottom, "axis"))
    parts.append(label((left + right) / 2, bottom + 40, "training examples", "tick", "middle"))
    description = "; ".join(
        f"{curve.name}: "
        + ", ".join(f"{percent(p.tune_agreement)} at {p.n_train:,}" for p in curve.points)
        for curve in curves
    )
    return frame(key, "Learning curves", description, (width, bottom + 48), parts)
