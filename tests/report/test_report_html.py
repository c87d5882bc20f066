"""The page: well-formed, self-contained, escaped, complete, and honest about what is missing."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from overproof.records.certificate import Certificate
from overproof.report.formats import interval
from overproof.report.html import render_html

Make = Callable[..., Certificate]
VOID = {"meta", "br", "link", "img", "hr", "input"}
EVIL = '<script>alert("x")</script>'


class Page(HTMLParser):
    """Checks that every element is closed in order, and keeps what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.children: dict[int, list[str]] = {}
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert len(found) == len(attrs), f"an attribute of {tag} is written twice"
        self.tags.append((tag, found))
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


VARIANTS = {
    "certified": {},
    "not certified": {"verdict": "not certified"},
    "underpowered": {"verdict": "underpowered"},
    "cannot say": {"verdict": "cannot say"},
    "without gold": {"gold": False},
    "without prices": {"priced": False},
    "without gold, asked once": {
        "gold": False,
        "verdict": "cannot say",
        "comparisons": (),
        "teacher_self_agreement": None,
    },
    "bare": {
        "verdict": "cannot say",
        "candidates": (),
        "comparisons": (),
        "teacher_self_agreement": None,
        "signal_width": None,
        "costs": (),
        "break_even_requests": None,
        "break_even_text": "",
        "learning_verdict": "",
        "provenance": {},
        "splits": {},
        "outcomes": {},
        "looks": (),
        "limits": (),
        "machine": "",
        "recompute": "",
    },
    "many labels": {"labels": tuple(f"intent {n}" for n in range(40))},
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def certificate(request: pytest.FixtureRequest, make_certificate: Make) -> Certificate:
    made: Certificate = make_certificate(**request.param)
    return made


def test_is_well_formed_with_unique_ids_and_working_links(certificate: Certificate) -> None:
    page = Page(render_html(certificate))
    assert len(set(page.ids)) == len(page.ids)
    for tag, attributes in page.tags:
        for name in ("href", "aria-labelledby", "aria-describedby"):
            value = attributes.get(name)
            if value is not None:
                assert value.lstrip("#") in page.ids, (tag, name, value)


def test_loads_nothing_and_runs_nothing(certificate: Certificate) -> None:
    text = render_html(certificate)
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "use", "image"}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        assert str(attributes.get("href", "#")).startswith("#")
    css = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in css
    assert "@import" not in css
    assert "http" not in text.replace("http-equiv", "")
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy


def test_every_chart_has_a_title_and_a_description(certificate: Certificate) -> None:
    text = render_html(certificate)
    charts = re.findall(r"<svg(.*?)>(.*?)</svg>", text, re.DOTALL)
    shown = [(head, body) for head, body in charts if 'aria-hidden="true"' not in head]
    assert shown
    for head, body in shown:
        assert 'role="img"' in head
        assert re.match(r"<title [^>]*>[^<]+</title><desc [^>]*>[^<]+</desc>", body)


def test_headings_go_down_one_step_at_a_time(certificate: Certificate) -> None:
    page = Page(render_html(certificate))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert {"header", "main", "nav", "footer"} <= {tag for tag, _ in page.tags}
    scopes = [a.get("scope") for tag, a in page.tags if tag == "th"]
    assert all(scope in {"row", "col"} for scope in scopes)


def test_every_candidate_and_interval_is_there(certificate: Certificate) -> None:
    text = Page(render_html(certificate)).text
    for candidate in certificate.candidates:
        assert candidate.name in text
        for value in (
            candidate.accuracy,
            candidate.macro_f1,
            candidate.agreement,
            candidate.ece,
            *(score.accuracy for score in candidate.slices),
        ):
            assert value is None or interval(value) in text
    assert certificate.verdict in text.lower()
    for limit in certificate.limits:
        assert limit in text
    for line in certificate.costs:
        assert line.what in text


def test_texts_are_escaped_everywhere(make_certificate: Make) -> None:
    base = make_certificate(labels=(EVIL, "'\"><b>", "{{ 7 * 7 }}"))
    candidate = base.candidates[2].model_copy(
        update={"name": EVIL, "description": EVIL, "cost_basis": EVIL}
    )
    evil = base.model_copy(
        update={
            "name": EVIL,
            "verdict_text": EVIL,
            "machine": EVIL,
            "recompute": EVIL,
            "limits": (EVIL,),
            "self_agreement_how": EVIL,
            "learning_verdict": EVIL,
            "break_even_text": EVIL,
            "candidates": (*base.candidates, candidate),
            "recommended": EVIL,
            "provenance": {EVIL: EVIL, "teacher": {EVIL: [EVIL]}},
            "looks": ({EVIL: EVIL},),
            "splits": {EVIL: 1},
            "outcomes": {EVIL: {EVIL: 1}},
        }
    )
    text = render_html(evil)
    page = Page(text)
    assert "<script" not in text
    assert "<b>" not in text
    assert "{{ 7 * 7 }}" in page.text
    assert page.text.count(EVIL) > 15


def test_an_unknown_price_is_never_a_zero(make_certificate: Make) -> None:
    text = Page(render_html(make_certificate(priced=False))).text
    assert "unknown" in text
    assert "$0" not in text
    assert "no break-even can be given" in text


def test_without_gold_agreement_takes_the_place_of_accuracy(make_certificate: Make) -> None:
    certificate = make_certificate(gold=False)
    text = Page(render_html(certificate)).text
    assert "no gold" in text
    assert "fidelity to the teacher, not correctness" in text
    student = certificate.candidate("encoder")
    assert f"agreement {interval(student.agreement).split(' % ')[1]}" in text


def test_many_labels_become_a_list_of_mistakes(make_certificate: Make) -> None:
    certificate = make_certificate(labels=tuple(f"intent {n}" for n in range(40)))
    text = Page(render_html(certificate)).text
    assert "40 labels are too many for a table" in text


def test_missing_parts_are_said(make_certificate: Make) -> None:
    text = Page(render_html(make_certificate(**VARIANTS["bare"]))).text
    for words in (
        "none is recommended",
        "There is no paired comparison",
        "No candidate has a score",
        "The teacher was not asked twice",
        "Calibration was not measured",
        "No slice was measured",
        "No confusion table was measured",
        "No learning curve was measured",
        "No cost was recorded",
        "No outcomes were recorded",
        "No provenance was recorded",
        "No look was recorded",
        "No limits were written down",
        "No command was recorded",
    ):
        assert words in text


def test_demo_is_said_only_of_a_demo(make_certificate: Make) -> None:
    assert "This is a demonstration" in render_html(make_certificate())
    assert "This is a demonstration" not in render_html(make_certificate(demo=False))


def _luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_of_texts_have_contrast_aa(make_certificate: Make, scheme: int) -> None:
    blocks = re.findall(r":root {(.*?)}", render_html(make_certificate()), re.DOTALL)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", blocks[scheme]))
    paper = _luminance(colours["paper"])
    for name in ("ink", "soft", "accent", "certified", "refused", "under", "silent"):
        text = _luminance(colours[name])
        ratio = (max(text, paper) + 0.05) / (min(text, paper) + 0.05)
        assert ratio >= 4.5, (name, ratio)
