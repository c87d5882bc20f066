"""The verdict of an audit as one self-contained HTML page: no script, nothing loaded."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup

from overproof.records.audit import AuditVerdict, Effect, Exactness
from overproof.report import audit_words, facts
from overproof.report.audit_charts import both, drawable, effect_chart, p_chart
from overproof.report.audit_glance import glance, identifiable, what_decided
from overproof.report.audit_seal_words import seal_words
from overproof.report.audit_signers import SignedBy
from overproof.report.audit_view import AuditView, TestView
from overproof.report.html import environment

__all__ = ["LADDER", "render_audit_html"]

LADDER = {  # what each verdict says, in a line
    AuditVerdict.DESCENDS: "weights of one origin",
    AuditVerdict.TRAINED: "a trace of these very outputs",
    AuditVerdict.CLOSE: "a likeness, cause unknown",
    AuditVerdict.NO_EVIDENCE: "looked, able to see, found nothing",
    AuditVerdict.CANNOT_SAY: "no test was able to decide",
}


def _p_chart(tests: Sequence[TestView], alpha: float) -> Markup | None:
    """The p-values of all tests; None where no test has any."""
    drawn = [one for one in tests if one.counting is not None and 0 <= one.counting.value <= 1]
    if not drawn:
        return None
    return both("p-values", lambda key, width: p_chart(drawn, alpha, key, width))


def _effect_chart(effect: Effect, key: str) -> Markup | None:
    """The interval of an effect; None where there is nothing to draw."""
    if not drawable(effect):
        return None
    return both(key, lambda inner, width: effect_chart(effect, inner, width))


def render_audit_html(
    view: AuditView, *, content_sha256: str, signed_by: SignedBy | None = None
) -> str:
    """The verdict page.

    Args:
        view: what it shows, from `audit_view.view_of`.
        content_sha256: hash of the record, as in ``verdict.json``.
        signed_by: with what it is signed; None where it is not.

    Returns:
        One document with inline CSS and SVG. Every text from outside is escaped.
    """
    used = {p.exactness for one in view.tests if one.finding for p in one.finding.p_values}
    template = environment().get_template("audit_report.html.j2")
    page = template.render(
        view=view,
        cells=glance(view),
        ladder=[(verdict, audit_words.VERDICTS[verdict], line) for verdict, line in LADDER.items()],
        badges=[(audit_words.BADGES[kind], kind in used) for kind in Exactness],
        badge_of=audit_words.BADGES,
        p_chart=_p_chart(view.tests, view.alpha),
        effect_chart=_effect_chart,
        identifiable=identifiable,
        decided=what_decided(view),
        words=audit_words,
        groups=facts.groups,
        content_sha256=content_sha256,
        signed_by=signed_by,
        seal_words=seal_words(signed_by),
    )
    # No line ends between a number and its sign.
    return re.sub(r"(?<=\d) (?=%|× 10)|(?<=×) (?=10)|(?<=[≥≤≈]) (?=\d)", "\N{NO-BREAK SPACE}", page)
