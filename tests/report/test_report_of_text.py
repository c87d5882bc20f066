"""The three faces of a text task's certificate; its figures are synthetic."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from overproof.records.certificate import Interval, Speed
from overproof.records.text_certificate import (
    Contestant,
    DeferralCurve,
    DeferralPoint,
    Degeneration,
    JudgeResult,
    TextCertificate,
    TextComparison,
)
from overproof.report.text import write_text_reports
from overproof.report.text_html import render_text_html
from overproof.report.text_markdown import render_text_card
from overproof.report.text_terminal import render_text_terminal

HOSTILE = "<script>alert(1)</script> [bold]x[/bold] | `y`"


def share(x: float, half: float = 0.04, n: int = 500) -> Interval:
    return Interval(
        estimate=x, low=max(x - half, 0.0), high=min(x + half, 1.0), method="bootstrap", n=n
    )


def degenerate(x: float) -> Degeneration:
    return Degeneration(
        loops=share(x / 2, 0.01), unstopped=share(x / 3, 0.01), empty=share(0.0, 0.0), any=share(x)
    )


def contestant(name: str, role: str, score: float, **more: object) -> Contestant:
    facts: dict[str, object] = {
        "name": name, "role": role, "description": f"{name}, synthetic", "n": 500,
        "score": share(score), "degeneration": degenerate(0.02), "mean_tokens": 21.5,
        "outcomes": {"answered": 490, "truncated": 10},
    }  # fmt: skip
    return Contestant.model_validate(facts | more)


def certificate(**more: object) -> TextCertificate:
    point = DeferralPoint(threshold=-0.3, deferred=0.24, agreement=0.93, cost=0.31)
    curve = DeferralCurve(
        student="sft", stated=0.9, threshold=-0.3, n_tune=200, chosen=point,
        agreement=share(0.93, 0.02), confidence_score="mean log-prob",
        points=tuple(
            DeferralPoint(threshold=-x, deferred=1 - x, agreement=1 - 0.4 * x**2, cost=1.1 - x)
            for x in (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
        ),
    )  # fmt: skip
    facts: dict[str, object] = {
        "name": "Arithmetic", "verdict": "certified", "certified": ("dense-kd",),
        "verdict_text": "Student dense-kd keeps 96.3 % of its teacher's score. It is a fifth.",
        "made_at": "2026-11-23T10:00:00+00:00", "overproof_version": "0.1.0",
        "scorer": "reasoning_gym", "margin": 0.05, "alpha": 0.05, "n_test": 500,
        "contestants": (
            contestant("teacher", "teacher", 0.81, parameters=4_000_000),
            contestant(
                "dense-kd", "student", 0.78, method="dense_kd", parameters=800_000,
                retention=share(0.963), agreement=share(0.85), details={"valid": share(0.99)},
                teacher_perplexity=Interval(
                    estimate=1.31, low=1.28, high=1.35, method="bootstrap", n=500
                ),
                speed=Speed(requests_per_second=41.0, latency_p50_s=0.02, n=500),
                examples=({"asked": "2 + 2", "answered": "4"},),
            ),
            contestant("sft", "student", 0.69, method="sft", retention=share(0.85)),
            contestant("base", "baseline", 0.02),
        ),
        "comparisons": (
            TextComparison(
                first="dense-kd", second="teacher", difference=Interval(
                    estimate=-0.03, low=-0.045, high=-0.01, method="paired", n=500, confidence=0.9),
                margin=0.05, alpha=0.05, p_value=0.004, verdict="non-inferior"),
            TextComparison(
                first="dense-kd", second="base", difference=Interval(
                    estimate=0.76, low=0.72, high=0.8, method="paired", n=500),
                alpha=0.05, p_value=0.0, verdict="better"),
        ),
        "judgements": (
            JudgeResult(first="dense-kd", second="teacher", judge="j", win_rate=share(0.45),
                        consistent=share(0.8), noise_floor=share(0.02), n=100),
        ),
        "deferral": (curve,), "limits": ("One seed.",), "synthetic": True,
        "provenance": {"teacher": {"name": "t", "base_licence": "Apache-2.0"}},
        "recompute": "overproof certify recipe.toml",
        "recipe_sha256": "sha256:" + "a" * 64, "dataset_sha256": "sha256:" + "b" * 64,
    }  # fmt: skip
    return TextCertificate.model_validate(facts | more)


def test_the_page_holds_every_figure_and_loads_nothing() -> None:
    page = render_text_html(certificate())
    for said in (
        "Certified", "dense-kd", "96.3 %", "non-inferior", "Synthetic data", "Deferral",
        "stated 90", "1.31 [1.28, 1.35]", "One seed.", "overproof certify recipe.toml",
    ):  # fmt: skip
        assert said in page
    assert not re.search(r"<script|src=|href=\"http|@import|url\(", page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_hostile_texts_are_escaped_everywhere() -> None:
    hostile = certificate(name=HOSTILE, verdict_text=HOSTILE, limits=(HOSTILE,))
    assert "<script>" not in render_text_html(hostile)
    card = render_text_card(hostile)
    assert "<script>" not in card.split("---", 2)[2].replace("\\<script>", "")
    out = io.StringIO()
    render_text_terminal(hostile, Console(file=out, width=100))
    assert "[bold]x[/bold]" in out.getvalue()


def test_the_card_says_what_hubs_read() -> None:
    card = render_text_card(certificate())
    assert card.startswith("---\n")
    for said in (
        'license: "apache-2.0"', "text-generation", "dense-kd", "better", "synthetic",
        "conformal risk control",
    ):  # fmt: skip
        assert said in card


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_the_verdict(width: int) -> None:
    out = io.StringIO()
    render_text_terminal(certificate(), Console(file=out, width=width))
    text = out.getvalue()
    assert "Certified" in text
    assert "passes on 24.0 %" in text
    assert max(map(len, text.splitlines())) <= width


def test_a_certificate_with_nothing_but_a_teacher_is_shown_too(tmp_path: Path) -> None:
    bare = certificate(
        contestants=(contestant("teacher", "teacher", 0.8),), comparisons=(), judgements=(),
        deferral=(), certified=(), verdict="not certified", limits=(), provenance={},
    )  # fmt: skip
    paths = write_text_reports(bare, tmp_path)
    assert TextCertificate.load(paths.certificate) == bare
    page = paths.html.read_text()
    assert "There is no paired comparison" in page
    assert "No judge was asked" in page
