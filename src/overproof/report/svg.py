"""The few pieces of SVG that the charts are drawn with; colours come from the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

__all__ = [
    "MARKERS",
    "Scale",
    "element",
    "frame",
    "label",
    "line",
    "marker",
    "markup",
    "shorten",
    "ticks",
]

MARKERS = ("teacher", "teacher-2", "student", "student-2", "student-3", "baseline")
CHARACTER = 7.2  # mean advance of a 13-pixel sans character, on the generous side


@dataclass(frozen=True)
class Scale:
    """A linear map from data in [low, high] to pixels in [start, stop], clamped to its ends."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """The pixel of ``value``."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.stop - self.start)


def _attribute(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return escape(str(value), quote=True)


def element(name: str, body: str = "", /, **attributes: object) -> str:
    """An element around ``body``, which is markup. ``class_`` and ``_`` become ``class``, ``-``."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{body}</{name}>"


def markup(svg: str) -> Markup:
    """A finished drawing, marked so that a template does not escape it a second time.

    Everything in it went through ``element`` or ``label``, which escape texts and attributes.
    """
    return Markup(svg)  # noqa: S704


def label(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    """A text, escaped, with its baseline at ``y``."""
    return element("text", escape(text), x=x, y=y, class_=kind or None, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line of a class."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def marker(kind: str, x: float, y: float, radius: float = 5.0) -> str:
    """The mark of a candidate: each kind has a shape of its own, so colour is never alone."""
    if kind.startswith("teacher"):
        r = radius * 1.25
        path = f"M{x:.2f} {y - r:.2f}l{r:.2f} {r:.2f}l{-r:.2f} {r:.2f}l{-r:.2f} {-r:.2f}z"
        return element("path", d=path, class_=f"mark {kind}")
    if kind == "baseline":
        side = 1.7 * radius
        return element(
            "rect",
            x=x - side / 2,
            y=y - side / 2,
            width=side,
            height=side,
            class_="mark baseline",
        )
    if kind == "student-3":
        r = radius * 1.2
        path = f"M{x:.2f} {y - r:.2f}l{r:.2f} {1.8 * r:.2f}h{-2 * r:.2f}z"
        return element("path", d=path, class_="mark student-3")
    return element("circle", cx=x, cy=y, r=radius, class_=f"mark {kind}")


def shorten(text: str, pixels: float) -> str:
    """``text`` cut with an ellipsis to about ``pixels`` of width."""
    room = max(int(pixels / CHARACTER), 4)
    return text if len(text) <= room else text[: room - 1].rstrip() + "…"


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within [low, high], at most about ``most`` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def frame(
    key: str, title: str, description: str, size: tuple[float, float], parts: Sequence[str]
) -> str:
    """A whole chart: an image with a title and a description for those who do not see it."""
    head = element("title", escape(title), id=f"{key}-title")
    head += element("desc", escape(description), id=f"{key}-desc")
    return element(
        "svg",
        head + "".join(parts),
        class_="chart",
        role="img",
        viewBox=f"0 0 {size[0]:g} {size[1]:g}",
        aria_labelledby=f"{key}-title",
        aria_describedby=f"{key}-desc",
    )
