"""The verdict of an audit in Markdown: the same figures as the page, for a mail or a review."""

from __future__ import annotations

from overproof.records.audit import Effect, Exactness, PValue
from overproof.report import facts
from overproof.report.audit_glance import glance
from overproof.report.audit_seal_words import seal_words
from overproof.report.audit_signers import SignedBy
from overproof.report.audit_view import AuditView, TestView
from overproof.report.audit_words import (
    BADGES,
    GLOSSARY,
    effect_interval,
    effect_value,
    floor_words,
    p_said,
    p_words,
    p_words_of,
)
from overproof.report.formats import capitalised, count, moment
from overproof.report.markdown import plain, table

__all__ = ["render_audit_markdown"]


def render_audit_markdown(
    view: AuditView, *, content_sha256: str, signed_by: SignedBy | None = None
) -> str:
    """The verdict as Markdown; every text from outside is escaped.

    Args:
        view: what it shows, from `audit_view.view_of`.
        content_sha256: hash of the record, as in ``verdict.json``.
        signed_by: with what it is signed; None where it is not.
    """
    parts = [
        *_head(view),
        *_meaning(view),
        *_overview(view),
        *(line for one in view.tests for line in _test(one)),
        *_much(view),
        *_plan(view),
        *_reading(),
        *_seal(content_sha256, signed_by),
    ]
    return "\n\n".join(parts) + "\n"


def _bullets(lines: tuple[str, ...], missing: str) -> str:
    return "\n".join(f"- {plain(capitalised(line))}" for line in lines) or missing


def _head(view: AuditView) -> list[str]:
    subline = f" ({view.subline})" if view.subline else ""
    made = f"{moment(view.made_at)}; " if view.made_at else ""
    title = [f"*{plain(view.plan.title)}*"] if view.plan.title else []
    return [
        f"# {view.wording.headline}{subline}",
        *title,
        f"**{plain(view.plan.suspect)}**, examined for what it owes **{plain(view.plan.teacher)}**",
        plain(view.wording.meaning),
        "\n".join(
            f"- **{cell.title}** {plain(cell.big)}: {plain(cell.small)}" for cell in glance(view)
        ),
        f"{made}plan sealed {plain(moment(view.sealed_at))}; level α = {view.alpha:g}, set "
        f"beforehand; overproof {view.version}",
    ]


def _meaning(view: AuditView) -> list[str]:
    nothing = "No hypothesis was rejected, so nothing is claimed."
    if view.anything_rejected:
        nothing = "Nothing was named."
    caveats = ["### Mind", _bullets(view.caveats, "")] if view.caveats else []
    return [
        "## What it means",
        plain(capitalised(view.said)),
        "### What it does not prove",
        _bullets(view.not_proved, nothing),
        "### What would change it",
        _bullets(view.would_change, "Nothing was named."),
        *caveats,
    ]


def _overview(view: AuditView) -> list[str]:
    heads = ["Test", "Outcome", "p", "Within the plan", "Kind of number", "Rests on"]
    rows = [
        [
            one.name,
            one.decision,
            p_words_of(one.counting) if one.counting else "none",
            p_words(one.adjusted) if one.adjusted is not None else "none",
            BADGES[one.counting.exactness].word if one.counting else "none",
            f"{count(one.finding.n)} {one.finding.unit}" if one.finding else "nothing",
        ]
        for one in view.tests
    ]
    rule = f"Sharing the level: {plain(view.rule)}."
    return ["## Tests", table(heads, rows), rule]


def _p_line(p: PValue, counts: bool) -> str:
    badge = BADGES[p.exactness].word
    return (
        f"- {'**' if counts else ''}{p_said(p)}{'**' if counts else ''} ({badge}"
        f"{', this one counts' if counts else ', beside it'}): {plain(p.method)}. Holds if: "
        f"{plain(p.assumption)} Smallest possible: {floor_words(p)}."
    )


def _effect_line(effect: Effect) -> str:
    interval = effect_interval(effect)
    why = f". {plain(capitalised(effect.why))}" if effect.why else ""
    said = f"{effect_value(effect)}{f' ({interval})' if interval else ''}"
    return f"- {plain(capitalised(effect.name))}: **{plain(said)}**{why}"


def _test(one: TestView) -> list[str]:
    title = f"### {plain(one.about.title)} ({plain(one.name)}): {plain(one.decision)}"
    finding = one.finding
    if finding is None:
        return [title, "Planned and never run. It counts as p = 1.", *_settings(one)]
    out = [title, f"Hypothesis that would have to fall: {plain(finding.hypothesis)}"]
    out.append(
        f"{capitalised(finding.standing.value)}. Rests on {count(finding.n)} {plain(finding.unit)}"
    )
    if finding.reasons:
        out += ["Warnings, or why it was refused:", _bullets(finding.reasons, "")]
    if finding.p_values:
        lines = [_p_line(p, index == 0) for index, p in enumerate(finding.p_values)]
        out.append("\n".join(lines))
    if one.adjusted is not None:
        floor = "" if one.could_reject else "; its floor did not let it reject"
        out.append(f"Within the plan: {p_words(one.adjusted)}{floor}.")
    if finding.effects:
        out.append("\n".join(_effect_line(effect) for effect in finding.effects))
    power = finding.power
    if power is None:
        out.append("Power: not stated, so what this test would have seen is unknown.")
    else:
        small = "" if power.detectable is None else f"smallest effect {power.detectable:.4g}, "
        out.append(
            f"Power: {plain(power.words)} ({small}probability {power.probability:g}, level "
            f"{power.alpha:g})"
        )
    if finding.not_proved:
        out += ["A positive does not prove:", _bullets(finding.not_proved, "")]
    if one.details:
        rows = [
            f"- {plain(title_ if title_ != 'The run' else '')}{': ' if title_ != 'The run' else ''}"
            f"{plain(fact.name)}: {plain(fact.value)}"
            for title_, group in facts.groups(one.details)
            for fact in group
        ]
        out += ["Further numbers:", "\n".join(rows)]
    return [*out, *_settings(one)]


def _settings(one: TestView) -> list[str]:
    rows = [
        f"{fact.name.lower()} {fact.value}"
        for _, group in facts.groups(one.settings)
        for fact in group
    ]
    return [f"As planned: {plain('; '.join(rows))}"] if rows else []


def _much(view: AuditView) -> list[str]:
    lines = "\n".join(_effect_line(effect) for effect in view.how_much)
    return ["## How much", lines or "No quantity was estimated."]


def _plan(view: AuditView) -> list[str]:
    rows = [
        f"- Level α: {view.alpha:g}, over all planned tests together",
        f"- Multiplicity: {plain(view.rule)}",
        f"- Planned tests: {plain(', '.join(view.plan.names()))}",
        f"- Sealed: {plain(moment(view.sealed_at))}",
        f"- Plan hash: `{_code(view.plan_sha256)}`; {view.attested_words}",
        f"- Seed: {view.plan.seed}",
    ]
    out = ["## Plan and data", "\n".join(rows)]
    if not view.data:
        return [*out, "No digest of the data was recorded."]
    heads = ["Test", "Recorded", "File", "SHA-256"]
    return [
        *out,
        table(heads, [[d.test, moment(d.at), d.file, d.sha256] for d in view.data]),
    ]


def _code(text: str) -> str:
    return text.replace("`", "'")


def _reading() -> list[str]:
    rows = [f"- **{BADGES[kind].word}**: {BADGES[kind].meaning}" for kind in Exactness]
    words = [f"- **{word}**: {meaning}" for word, meaning in GLOSSARY]
    return ["## Reading the numbers", "\n".join(rows), "### Words used here", "\n".join(words)]


def _seal(content_sha256: str, signed_by: SignedBy | None) -> list[str]:
    words = seal_words(signed_by)
    rows = [f"- Hash of the record: `{content_sha256}`"]
    if signed_by is not None:
        kind = "Fingerprint of the public key" if signed_by.public else "Name of the key"
        rows = [f"- Algorithm: {signed_by.algorithm}", f"- {kind}: `{signed_by.name}`", *rows]
    said = [f"**{words.shows}**", words.whose, words.limits]
    check = [f"To check it: `{words.command}`"] if words.command else []
    return ["## Signature", *(part for part in said if part != "****"), "\n".join(rows), *check]
