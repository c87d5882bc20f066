"""The model card, the terminal, the files, and the way figures are written."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from overproof.records.certificate import Certificate, Interval
from overproof.report import facts, formats
from overproof.report.formats import bounds, interval, points_interval
from overproof.report.markdown import plain, render_model_card
from overproof.report.terminal import render_terminal
from overproof.report.write import write_reports

Make = Callable[..., Certificate]
VERDICTS = ("certified", "not certified", "underpowered", "cannot say")
VARIANTS: list[dict[str, Any]] = [
    *({"verdict": verdict} for verdict in VERDICTS),
    {"gold": False},
    {"priced": False},
    {"candidates": (), "comparisons": (), "recommended": None, "costs": (), "provenance": {}},
]


def _interval(estimate: float, low: float, high: float) -> Interval:
    return Interval(estimate=estimate, low=low, high=high, method="Wilson", n=10)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (interval(_interval(0.714, 0.6731, 0.7519)), "71.4 % [67.3, 75.2]"),
        (interval(None), "not measured"),
        (points_interval(_interval(0.024, -0.01, 0.058)), "+2.4 points [−1.0, +5.8]"),
        (formats.points(-0.00001), "0.0 points"),
        (formats.points(0.0), "0.0 points"),
        (formats.percent(None), "unknown"),
        (formats.percent(math.nan), "not defined"),
        (formats.usd(None), "unknown"),
        (formats.usd(0.0), "$0"),
        (formats.usd(0.034), "$0.03"),
        (formats.usd(0.0034), "$0.0034"),
        (formats.usd(12345.6), "$12,346"),
        (formats.seconds(0.0082), "8.2 ms"),
        (formats.seconds(1.239), "1.24 s"),
        (formats.seconds(200), "3 min 20 s"),
        (formats.seconds(7500), "2 h 5 min"),
        (formats.rate(1240.4), "1,240"),
        (formats.rate(None), "not measured"),
        (formats.requests(math.inf), "never"),
        (formats.requests(None), "unknown"),
        (formats.p_value(0.00001), "< 0.001"),
        (formats.p_value(0.0132), "0.013"),
        (formats.moment("2026-11-23T02:32:05+01:00"), "23 November 2026, 01:32 UTC"),
        (formats.moment("yesterday"), "yesterday"),
    ],
)
def test_figures_are_written_one_way(written: str, expected: str) -> None:
    assert written == expected


def test_sizes(make_certificate: Make) -> None:
    candidate = make_certificate().candidate("encoder")
    sizes = [
        formats.size(candidate.model_copy(update={"parameters": number}))
        for number in (2_310, 22_713_990, 134_515_008, 7_200_000_000, None)
    ]
    assert sizes == ["2,310", "22.7 M", "135 M", "7.2 B", "unknown"]


def test_facts_say_what_is_missing_and_mark_hashes() -> None:
    record = {"teacher": {"url": "", "sha256": "ab" * 32}, "shares": {"x": 0.25}, "clean": True}
    groups = dict(facts.groups(record))
    assert groups["Teacher"][0] == facts.Fact("URL", "not given")
    assert groups["Teacher"][1].code
    assert groups["Shares"][0].value == "25.0 %"
    assert groups["The run"] == [facts.Fact("Clean", "yes")]
    heads, rows = facts.table([{"a": 1}, {"b": "cd" * 32}])
    assert heads == ["A", "B"]
    assert rows[0][1].value == "not given"
    assert rows[1][1].value == "cdcdcdcdcdcd…"


@pytest.mark.parametrize("changes", VARIANTS)
def test_model_card_has_front_matter_and_every_figure(
    make_certificate: Make, changes: dict[str, Any]
) -> None:
    certificate = make_certificate(**changes)
    card = render_model_card(certificate)
    _, front, body = card.split("---\n", 2)
    for line in front.splitlines():
        assert re.match(r"^\s*(- )?([\w-]+:( .+)?|\".*\")$", line), line
    if certificate.candidates:
        assert 'license: "apache-2.0"' in front
        assert 'base_model: "all-MiniLM-L6-v2"' in front or not certificate.recommended
    for candidate in certificate.candidates:
        assert candidate.name in body
        for value in (candidate.accuracy, candidate.macro_f1, candidate.agreement, candidate.ece):
            assert value is None or interval(value) in body
    for comparison in certificate.comparisons:
        assert points_interval(comparison.difference) in body
    assert "## Intended use" in body
    assert certificate.recompute in body


@pytest.mark.parametrize("changes", VARIANTS)
def test_model_card_front_matter_is_yaml(make_certificate: Make, changes: dict[str, Any]) -> None:
    yaml = pytest.importorskip("yaml")
    certificate = make_certificate(**{"name": 'a: "b" # c', **changes})
    meta = yaml.safe_load(render_model_card(certificate).split("---\n", 2)[1])
    assert meta["tags"][0] == "text-classification"
    if certificate.recommended:
        index = meta["model-index"][0]
        assert index["name"] == certificate.recommended
        assert index["results"][0]["dataset"]["name"] == 'a: "b" # c'
        student = certificate.candidate(certificate.recommended)
        values = [metric["value"] for metric in index["results"][0]["metrics"]]
        assert round(student.agreement.estimate, 4) in values  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<script>x</script>", "\\<script>x\\</script>"),
        ("[l](http://x)", "\\[l\\](http://x)"),
        ("a|b", "a\\|b"),
        ("Q4_1 and _this_", "Q4_1 and \\_this\\_"),
        ("one\n# two", "one # two"),
        ("# one", "\\# one"),
        ("p < 0.05 [1, 2]", "p < 0.05 [1, 2]"),
    ],
)
def test_markdown_is_made_inert(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_tables_of_the_model_card_have_even_rows(make_certificate: Make) -> None:
    labels = ("a|b", "c\nd", "<e>")
    lines = render_model_card(make_certificate(labels=labels)).splitlines()
    width: int | None = None
    for line in lines:
        if not line.startswith("|"):
            width = None
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert width in (None, cells), line
        width = cells


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("color", [False, True])
def test_terminal_fits_80_columns(
    make_certificate: Make, changes: dict[str, Any], color: bool
) -> None:
    certificate = make_certificate(**changes)
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=color, color_system=None)
    render_terminal(certificate, console)
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert certificate.verdict.capitalize() in text
    for candidate in certificate.candidates:
        assert candidate.name in text
        for value in (candidate.accuracy, candidate.agreement, candidate.ece):
            assert value is None or bounds(value) in text
    assert "\x1b[3" not in text


def test_terminal_prints_markup_as_text(make_certificate: Make) -> None:
    out = io.StringIO()
    certificate = make_certificate(name="[red]x[/red]", verdict_text="[/] [bold]y")
    render_terminal(certificate, Console(file=out, width=80))
    assert "[red]x[/red]" in out.getvalue()
    assert "[/] [bold]y" in out.getvalue()


def test_long_names_stay_within_80_columns(make_certificate: Make) -> None:
    base = make_certificate()
    long = base.candidates[2].model_copy(update={"name": "a-student-with-a-very-long-name" * 2})
    out = io.StringIO()
    certificate = base.model_copy(update={"candidates": (*base.candidates, long)})
    render_terminal(certificate, Console(file=out, width=80))
    assert max(len(line) for line in out.getvalue().splitlines()) <= 80


def test_write_reports_writes_three_files(make_certificate: Make, tmp_path: Path) -> None:
    certificate = make_certificate()
    paths = write_reports(certificate, tmp_path / "run")
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == ["certificate.json", "model-card.md", "report.html"]
    assert Certificate.model_validate_json(paths.certificate.read_text()) == certificate
    assert json.loads(paths.certificate.read_text())["verdict"] == "certified"
    assert paths.html.read_text().startswith("<!doctype html>")
    assert paths.model_card.read_text().startswith("---\n")
    again = write_reports(certificate, tmp_path / "run")
    assert again == paths
