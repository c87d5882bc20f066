"""A text task's certificate as one self-contained HTML page."""

from __future__ import annotations

from overproof.records.text_certificate import TextCertificate
from overproof.report import facts
from overproof.report.html import environment, lead
from overproof.report.text_figures import TextFigures, to_the_teacher
from overproof.report.text_words import SCORERS, dearer, scored

__all__ = ["render_text_html"]


def render_text_html(certificate: TextCertificate) -> str:
    """The certificate as an HTML page.

    Returns:
        One document with inline CSS and SVG. Every text of the certificate is escaped.
    """
    figures = TextFigures(certificate)
    names = frozenset(c.name for c in certificate.contestants)
    against = {c.first: c for c in to_the_teacher(certificate)}
    best = certificate.certified[0] if certificate.certified else None
    students = [c for c in certificate.contestants if c.role == "student"]
    shown = next((c for c in students if c.name == best), None) or max(
        students, key=lambda c: c.score.estimate, default=None
    )
    return (
        environment()
        .get_template("text_report.html.j2")
        .render(
            c=certificate,
            lead=lead(certificate.verdict_text),
            figures=figures,
            kinds=figures.kinds,
            teacher=next((c for c in certificate.contestants if c.role == "teacher"), None),
            shown=shown,
            headline=against.get(shown.name) if shown else None,
            scorer=SCORERS.get(certificate.scorer, certificate.scorer),
            details=scored(certificate),
            dearer=dearer,
            slices=list(dict.fromkeys(key for c in certificate.contestants for key in c.slices)),
            facts=facts.groups(certificate.provenance, names),
            costs=facts.groups(certificate.costs, names),
        )
    )
