"""The charts: where the marks lie, and that they survive the edges."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from overproof.records.certificate import Interval, ReliabilityBin
from overproof.records.student import LearningPoint
from overproof.report.dots import Dot, DotRow, Guide, dot_chart, span
from overproof.report.plots import Curve, learning_chart, reliability_chart
from overproof.report.seal import seal
from overproof.report.svg import MARKERS, Scale, marker, shorten, ticks


def test_scale_is_linear_and_clamped() -> None:
    scale = Scale(0.2, 0.7, 100.0, 600.0)
    assert scale(0.2) == pytest.approx(100)
    assert scale(0.45) == pytest.approx(350)
    assert scale(9.0) == pytest.approx(600)
    assert scale(-9.0) == pytest.approx(100)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-0.07, 0.12, [-0.05, 0.0, 0.05, 0.1]),
        (0.0, 700.0, [0.0, 200.0, 400.0, 600.0]),
        (0.5, 0.5, [0.5]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 5) == pytest.approx(expected)


def test_span_stays_within_its_ends() -> None:
    low, high = span([0.01, 0.995], floor=0.0, ceiling=1.0)
    assert low == 0.0
    assert high == 1.0


def _chart(width: float, **changes: object) -> ET.Element:
    rows = [
        DotRow("first <b>", "+1.0", (Dot(0.01, -0.02, 0.04, "student"),)),
        DotRow("second", "", (Dot(0.0, 0.0, 0.0, "teacher"), Dot(0.02, 0.0, 0.05, "baseline"))),
    ]
    text = dot_chart(
        rows,
        key="k",
        title="A & B",
        description="words",
        axis=(-0.1, 0.1),
        tick=lambda value: f"{value:g}",
        guides=[Guide(-0.05, "margin", "margin"), Guide(0.0, "zero", "zero")],
        width=width,
    )
    return ET.fromstring(text)


@pytest.mark.parametrize("width", [335.0, 780.0])
def test_dot_chart_puts_marks_on_the_axis(width: float) -> None:
    chart = _chart(width)
    assert chart.findtext("title") == "A & B"
    assert chart.findtext("desc") == "words"
    zero = float(
        next(e for e in chart.iter("line") if e.get("class") == "guide zero").get("x1", "")
    )
    dot = float(next(chart.iter("circle")).get("cx", ""))
    margin = float(
        next(e for e in chart.iter("line") if e.get("class") == "guide margin").get("x1", "")
    )
    assert margin < zero < dot
    assert (zero - margin) / (dot - zero) == pytest.approx(5, rel=0.01)
    box = [float(part) for part in chart.get("viewBox", "").split()]
    assert box[2] == width
    for text in chart.iter("text"):
        assert 0 <= float(text.get("x", "")) <= width
        assert 0 <= float(text.get("y", "")) <= box[3]


def test_every_mark_has_a_shape_or_fill_of_its_own() -> None:
    drawn = [marker(kind, 5, 5) for kind in MARKERS]
    assert len(set(drawn)) == len(MARKERS)


def test_shorten_marks_what_it_cut() -> None:
    assert shorten("short", 200) == "short"
    assert shorten("a very long label indeed", 72) == "a very lo…"


def _interval(x: float) -> Interval:
    return Interval(estimate=x, low=max(x - 0.1, 0), high=min(x + 0.1, 1), method="Wilson", n=10)


def test_reliability_counts_every_filled_bin() -> None:
    bins = [
        ReliabilityBin(low=0.0, high=0.5, n=0, confidence=0.0),
        ReliabilityBin(low=0.5, high=0.6, n=1500, confidence=0.55, accuracy=_interval(0.5)),
        ReliabilityBin(low=0.9, high=1.0, n=20, confidence=0.97, accuracy=_interval(1.0)),
    ]
    text = reliability_chart(bins, key="r", name="encoder", kind="student")
    chart = ET.fromstring(text)
    assert [e.text for e in chart.iter("text") if e.get("class") == "tiny"] == ["1.5k", "20"]
    assert len(list(chart.iter("circle"))) == 2
    assert "at 55 % confidence 50 % right (1500)" in (chart.findtext("desc") or "")


def test_learning_curve_of_one_point_and_of_equal_ends() -> None:
    point = LearningPoint(n_train=100, tune_agreement=0.5, tune_loss=1.0)
    curves = [Curve("a", "student", (point,)), Curve("b", "student-2", (point,))]
    chart = ET.fromstring(learning_chart(curves, key="l"))
    names = [e for e in chart.iter("text") if e.get("class") == "name"]
    heights = [float(e.get("y", "")) for e in names]
    assert abs(heights[0] - heights[1]) >= 15, "labels of curves that end together lie apart"


def test_seals_differ_without_colour() -> None:
    verdicts = ("certified", "not certified", "underpowered", "cannot say")
    drawn = [re.sub(r"<text.*", "", seal(verdict, "margin 5 points")) for verdict in verdicts]
    assert len(set(drawn)) == 4
    assert "stroke-dasharray" not in drawn[0]
    assert all("stroke-dasharray" in text for text in drawn[1:])
    for verdict in verdicts:
        assert ET.fromstring(seal(verdict, "x")).findtext("title") == f"Seal: {verdict}"
