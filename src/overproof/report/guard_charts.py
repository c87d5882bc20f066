"""Charts of guard's report: the ladder with its counts, and who came to which rung when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from overproof.records.traffic import Action
from overproof.report.svg import Scale, element, frame, label, line, shorten

__all__ = ["Line", "Step", "ladder_chart", "rung_mark", "timeline_chart"]

RUNGS = tuple(action for action in Action if action is not Action.LOG)
ROW = 30.0
DAY_S = 86_400.0
DAYS = (1, 2, 3, 5, 7, 14, 30, 60, 90, 180, 365, 730, 1_825, 3_650)
TICKS = (3_600.0, 10_800.0, 21_600.0, 43_200.0, *(days * DAY_S for days in DAYS))


@dataclass(frozen=True)
class Step:
    """A subject comes to a rung. Times in seconds since the epoch."""

    at: float
    until: float | None
    action: Action


@dataclass(frozen=True)
class Line:
    """One subject's steps in order of time."""

    name: str
    steps: tuple[Step, ...]


def rung_mark(action: Action, x: float, y: float, radius: float = 7.0) -> str:
    """A disc with the rung's number, so that colour is never alone."""
    number = element("text", str(action.rung), x=x, y=y + 0.36 * radius * 1.5, text_anchor="middle")
    return element(
        "g",
        element("title", action.value) + element("circle", cx=x, cy=y, r=radius) + number,
        class_=f"rung {action.value}",
    )


def ladder_chart(counts: Mapping[Action, int], key: str, width: float) -> str:
    """How many subjects came how high: one bar a rung, the mildest first."""
    top = max(1, *counts.values()) if counts else 1
    scale = Scale(0.0, float(top), 0.0, width - 110.0 - 64.0)
    parts = []
    for at, action in enumerate(RUNGS):
        y, value = 6.0 + ROW * at + ROW / 2, counts.get(action, 0)
        parts.append(rung_mark(action, 12.0, y))
        parts.append(label(28.0, y + 4.5, action.value))
        length = max(scale(value), 1.5 if value else 0.0)
        parts.append(
            element(
                "rect", x=110, y=y - 8.0, width=length, height=16, rx=2, class_=f"rungs {action}"
            )
        )
        parts.append(label(118.0 + length, y + 4.5, f"{value:,}", "value"))
    said = ", ".join(f"{action}: {counts.get(action, 0):,}" for action in RUNGS)
    height = 12.0 + ROW * len(RUNGS)
    return frame(key, "Subjects by their highest rung", said, (width, height), parts)


def timeline_chart(lines: Sequence[Line], key: str, width: float) -> str:
    """When each subject came to which rung, and how long it stands there unless renewed."""
    narrow = width < 560.0
    left = 12.0 if narrow else 220.0
    row = ROW + 14.0 if narrow else ROW
    times = [step.at for one in lines for step in one.steps]
    first, last = min(times), max(times)
    last = max(last, first + 3_600.0)
    scale = Scale(first, last, left + 8.0, width - 14.0)
    height = 34.0 + row * len(lines)
    parts = []
    for at in _ticks(first, last, 3 if narrow else 7):
        x = scale(at)
        parts.append(line(x, 24.0, x, height - 4.0, "grid"))
        middle = min(max(x, 36.0), width - 36.0)  # half a date, so that none leaves the picture
        parts.append(label(middle, 14.0, _date(at, last - first), "tick", "middle"))
    for index, one in enumerate(lines):
        y = 30.0 + row * index + row / 2 + (7.0 if narrow else 0.0)
        room = width - 20.0 if narrow else left - 16.0
        name = shorten(one.name, room)
        where = (left, y - 13.0) if narrow else (0.0, y + 4.5)
        parts.append(
            element(
                "text", element("title", escape(one.name)) + escape(name), x=where[0], y=where[1]
            )
        )
        parts += _spans(one, scale, y)
        parts += [rung_mark(step.action, scale(step.at), y) for step in _apart(one, scale)]
    said = "; ".join(
        f"{one.name}: " + ", ".join(f"{step.action} {_date(step.at, 0)}" for step in one.steps[:6])
        for one in lines[:10]
    )
    return frame(key, "Decisions over time", said, (width, height), parts)


def _spans(one: Line, scale: Scale, y: float) -> list[str]:
    """The time each rung lasts, until the next step or until it lapses."""
    spans = []
    for at, step in enumerate(one.steps):
        end = one.steps[at + 1].at if at + 1 < len(one.steps) else scale.high
        if step.until is not None:
            end = min(end, step.until)
        spans.append(line(scale(step.at), y, scale(end), y, f"span {step.action}"))
    return spans


def _apart(one: Line, scale: Scale) -> list[Step]:
    """Steps whose marks have room beside each other; a change of rung is always drawn."""
    drawn: list[Step] = []
    for step in one.steps:
        near = drawn and scale(step.at) - scale(drawn[-1].at) < 15.0
        if not near or step.action is not drawn[-1].action:
            drawn.append(step)
    return drawn


def _ticks(first: float, last: float, most: int) -> list[float]:
    """Round times within [first, last]: whole hours or days in UTC."""
    step = next((one for one in TICKS if (last - first) / one <= most), TICKS[-1])
    at = -(-first // step) * step
    found: list[float] = []
    while at <= last and len(found) <= most:
        found.append(at)
        at += step
    return found or [first]


def _date(at: float, length: float) -> str:
    try:
        time = datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{at:.0f} s"
    if 0 < length < 3 * DAY_S:
        return f"{time.day} {time:%b %H:%M}"
    return f"{time.day} {time:%b %Y}"
