"""The seal: a guilloche rosette, drawn as banknotes have it, around the verdict."""

from __future__ import annotations

import math

from overproof.report.svg import element, frame, label, line

__all__ = ["seal"]

SIZE = 240.0
CENTRE = SIZE / 2
RING = {"certified": None, "not certified": "1 5", "underpowered": "14 7", "cannot say": "4 6"}


def _wave(radius: float, height: float, lobes: int, phase: float, steps: int = 360) -> str:
    """A closed curve that swings ``lobes`` times around a circle."""
    points = []
    for step in range(steps):
        angle = 2 * math.pi * step / steps
        r = radius + height * math.sin(lobes * angle + phase)
        points.append(f"{CENTRE + r * math.cos(angle):.1f} {CENTRE + r * math.sin(angle):.1f}")
    return "M" + "L".join(points) + "z"


def _sign(verdict: str) -> str:
    """The verdict's sign: a tick, a stroke, a balance that does not settle, a question."""
    c, y = CENTRE, CENTRE - 20
    if verdict == "certified":
        return element("path", d=f"M{c - 15} {y}l11 11l20 -23", class_="sign")
    if verdict == "not certified":
        return line(c - 16, y, c + 16, y, "sign")
    if verdict == "underpowered":
        return line(c - 17, y + 4, c + 17, y - 6, "sign") + line(c, y - 1, c, y + 12, "sign")
    return label(c, y + 12, "?", "sign-text", "middle")


def seal(verdict: str, below: str, key: str = "seal") -> str:
    """The seal of a verdict.

    The outer ring is whole when certified and broken otherwise, so that the seal reads without
    colour.

    Args:
        verdict: one of the certificate's four.
        below: a short second line.
        key: prefix of the ids inside the chart; unique on the page.
    """
    parts = [
        element(
            "circle",
            cx=CENTRE,
            cy=CENTRE,
            r=116.0,
            class_="ring outer",
            stroke_dasharray=RING.get(verdict),
        ),
        element("circle", cx=CENTRE, cy=CENTRE, r=110.0, class_="ring"),
        element("circle", cx=CENTRE, cy=CENTRE, r=86.0, class_="ring"),
    ]
    for turn in range(6):
        phase = turn * math.pi / 3
        parts.append(element("path", d=_wave(75.0, 9.0, 18, phase), class_="guilloche"))
    circle = f"M{CENTRE} {CENTRE + 95.0}a95 95 0 1 1 0.01 0"
    parts.append(element("path", d=circle, id=f"{key}-path", class_="hidden"))
    words = "overproof · certificate of distillation · proof and measure · "
    parts.append(
        element(
            "text",
            element("textPath", words, href=f"#{key}-path", textLength=594, lengthAdjust="spacing"),
            class_="around",
        )
    )
    parts.append(_sign(verdict))
    lines = verdict.split(" ")
    for index, word in enumerate(lines):
        y = CENTRE + 22 + 19 * index - (4 if len(lines) > 1 else 0)
        parts.append(label(CENTRE, y, word, "word long" if len(word) > 10 else "word", "middle"))
    parts.append(label(CENTRE, CENTRE + 24 + 19 * len(lines), below, "below", "middle"))
    return frame(key, f"Seal: {verdict}", below, (SIZE, SIZE), parts)
