"""Dot-and-interval charts: one row a candidate, a comparison or a slice. Data in, SVG out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from overproof.report.svg import (
    CHARACTER,
    Scale,
    element,
    frame,
    label,
    line,
    marker,
    shorten,
    ticks,
)

__all__ = ["Dot", "DotRow", "Guide", "dot_chart", "span"]

GAP = 13.0  # between two dots of one row
NARROW = 560.0  # below this width a row's name stands above its dots


@dataclass(frozen=True)
class Dot:
    """An estimate with its interval, drawn with the mark of ``kind`` (see ``svg.MARKERS``)."""

    estimate: float
    low: float
    high: float
    kind: str


@dataclass(frozen=True)
class DotRow:
    """One row: its name, its figures in words (may be empty) and its dots."""

    name: str
    value: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Guide:
    """A vertical line with a label: ``zero`` is solid, ``margin`` dashed, ``ceiling`` dotted.

    The side right of a ``margin`` line is tinted: it is where the verdict is kind.
    """

    x: float
    text: str
    kind: str


def span(values: Sequence[float], *, floor: float, ceiling: float) -> tuple[float, float]:
    """Ends of an axis around ``values``, with a little air, inside [floor, ceiling]."""
    low, high = min(values), max(values)
    air = max(0.06 * (high - low), 0.01)
    return max(low - air, floor), min(high + air, ceiling)


@dataclass(frozen=True)
class _Layout:
    width: float
    stacked: bool
    left: float
    right: float
    top: float

    @classmethod
    def of(cls, rows: Sequence[DotRow], guides: Sequence[Guide], width: float) -> _Layout:
        stacked = width < NARROW
        names = max(len(row.name) for row in rows) * CHARACTER + 18
        values = max(len(row.value) for row in rows) * (CHARACTER + 0.2)
        left = 8.0 if stacked else min(names, 0.3 * width)
        right = width - 8.0 if stacked else width - (values + 20 if values else 10)
        return cls(width, stacked, left, right, 30.0 if guides else 6.0)

    def height(self, row: DotRow) -> float:
        dots = GAP * (max(len(row.dots), 1) - 1)
        return dots + (50.0 if self.stacked else 32.0)

    def first_dot(self, y: float) -> float:
        return y + (36.0 if self.stacked else 16.0)


def _row(row: DotRow, y: float, at: Scale, layout: _Layout) -> list[str]:
    first = layout.first_dot(y)
    middle = first + GAP * (len(row.dots) - 1) / 2
    base = y + 16 if layout.stacked else middle + 4.5
    room = layout.width - len(row.value) * CHARACTER - 14 if layout.stacked else layout.left - 12
    name = label(0, base, shorten(row.name, room), "name")
    parts = [element("g", element("title", _title(row)) + name)]
    if row.value:
        parts.append(label(layout.width, base, row.value, "value", "end"))
    for index, dot in enumerate(row.dots):
        height = first + GAP * index
        parts.append(line(at(dot.low), height, at(dot.high), height, f"range {dot.kind}"))
        parts.append(marker(dot.kind, at(dot.estimate), height))
    return parts


def _title(row: DotRow) -> str:
    """The row in words, as markup."""
    return escape(f"{row.name}: {row.value}" if row.value else row.name)


def _strips(rows: Sequence[DotRow], layout: _Layout) -> list[tuple[float, float]]:
    """Where vertical lines may run: all the way down, or beside the dots but not through names."""
    bottom = layout.top + sum(layout.height(row) for row in rows)
    if not layout.stacked:
        return [(layout.top - 6, bottom)]
    strips, y = [], layout.top
    for row in rows:
        strips.append((layout.first_dot(y) - 11, y + layout.height(row)))
        y += layout.height(row)
    return strips


def _guides(
    guides: Sequence[Guide], at: Scale, layout: _Layout, strips: Sequence[tuple[float, float]]
) -> tuple[list[str], list[str]]:
    """Tints that lie below everything, and lines with their labels.

    The margin's label ends at its line and the zero's starts there, so that they never meet.
    """
    tints, parts = [], []
    for guide in guides:
        x = at(guide.x)
        if guide.kind == "margin":
            wide = max(layout.right - x, 0.0)
            tints += [
                element("rect", x=x, y=y, width=wide, height=stop - y, class_="zone")
                for y, stop in strips
            ]
        wide = len(guide.text) * CHARACTER
        anchor = {"margin": "end", "zero": "start"}.get(guide.kind, "middle")
        low = {"end": wide, "start": 0.0, "middle": wide / 2}[anchor]
        high = layout.width - {"end": 0.0, "start": wide, "middle": wide / 2}[anchor]
        parts += [line(x, y, x, stop, f"guide {guide.kind}") for y, stop in strips]
        text_x = min(max(x, low), high)
        parts.append(label(text_x, layout.top - 11, guide.text, "guide-text", anchor))
    return tints, parts


def dot_chart(
    rows: Sequence[DotRow],
    *,
    key: str,
    title: str,
    description: str,
    axis: tuple[float, float],
    tick: Callable[[float], str],
    guides: Sequence[Guide] = (),
    caption: str = "",
    width: float = 760.0,
) -> str:
    """Rows of dots with intervals over one axis.

    Args:
        rows: at least one.
        key: prefix of the ids inside the chart; unique on the page.
        title: what the chart is, for those who do not see it.
        description: what it shows, likewise.
        axis: ends of the axis in data units; what lies outside is drawn at its end.
        tick: writes a data value on the axis.
        guides: vertical lines.
        caption: what the axis counts.
        width: in pixels; below 560 the names stand above their dots.
    """
    layout = _Layout.of(rows, guides, width)
    at = Scale(axis[0], axis[1], layout.left, layout.right)
    bottom = layout.top + sum(layout.height(row) for row in rows)
    strips = _strips(rows, layout)
    tints, marks = _guides(guides, at, layout, strips)
    parts = [*tints]
    for value in ticks(*axis, most=4 if layout.stacked else 7):
        parts += [line(at(value), y, at(value), stop, "grid") for y, stop in strips]
        parts.append(label(at(value), bottom + 18, tick(value), "tick", "middle"))
    y = layout.top
    body: list[str] = []
    for index, row in enumerate(rows):
        if index:
            parts.append(line(0, y, width, y, "rule"))
        body += _row(row, y, at, layout)
        y += layout.height(row)
    parts += [*marks, line(layout.left, bottom, layout.right, bottom, "axis"), *body]
    height = bottom + 26
    if caption:
        parts.append(
            label((layout.left + layout.right) / 2, bottom + 38, caption, "tick", "middle")
        )
        height += 20
    return frame(key, title, description, (width, height), parts)
