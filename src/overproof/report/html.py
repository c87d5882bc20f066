"""The certificate as one self-contained HTML page: no script, and nothing loaded from elsewhere."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from overproof.records.certificate import Certificate
from overproof.report import facts, formats
from overproof.report.confusion import confusions
from overproof.report.figures import Figures, teacher_of, to_teacher
from overproof.report.svg import marker, markup
from overproof.report.text_words import number_interval, tokens

__all__ = ["environment", "lead", "render_html"]


def _swatch(kind: str) -> Markup:
    """A candidate's mark beside its name; decoration, so hidden from screen readers."""
    return markup(
        '<svg class="swatch" viewBox="0 0 16 16" aria-hidden="true" focusable="false">'
        f"{marker(kind, 8.0, 8.0, 4.6)}</svg>"
    )


@cache
def environment() -> Environment:
    """The templates with their filters."""
    made = Environment(
        loader=PackageLoader("overproof.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in formats.__all__:
        if callable(function := getattr(formats, name)):
            made.filters[name] = function
    made.filters["swatch"] = _swatch
    made.filters["number_interval"] = number_interval
    made.filters["tokens"] = tokens
    return made


def lead(text: str) -> tuple[str, str]:
    """The first sentence, and the rest."""
    first, stop, rest = text.partition(". ")
    return first + stop.rstrip(), rest


def render_html(certificate: Certificate) -> str:
    """The certificate as an HTML page.

    Returns:
        One document with inline CSS and SVG. Every text of the certificate is escaped.
    """
    figures = Figures(certificate)
    recommended = next(
        (c for c in certificate.candidates if c.name == certificate.recommended), None
    )
    against = {c.first: c for c in to_teacher(certificate)}
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            c=certificate,
            lead=lead(certificate.verdict_text),
            figures=figures,
            kinds=figures.kinds,
            teacher=teacher_of(certificate),
            recommended=recommended,
            headline=against.get(certificate.recommended or ""),
            against=against,
            confusions=confusions(certificate),
            slice_kinds=list(
                dict.fromkeys(
                    s.by for candidate in certificate.candidates for s in candidate.slices
                )
            ),
            outcomes=facts.outcomes_of(certificate),
            total=facts.total_of(certificate.costs),
            uncertain=facts.uncertain_of(certificate.costs),
            facts=facts.groups(certificate.provenance),
            looks=facts.table(certificate.looks),
            word="accuracy" if certificate.basis == "gold" else "agreement with the teacher",
        )
    )
