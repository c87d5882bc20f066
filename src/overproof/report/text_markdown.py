"""A text task's certificate as a model card in Markdown."""

from __future__ import annotations

from typing import Any

from overproof.records.text_certificate import Contestant, TextCertificate
from overproof.report import facts
from overproof.report.formats import (
    capitalised,
    count,
    interval,
    moment,
    p_value,
    percent,
    points_interval,
    rate,
    seconds,
    size,
    usd,
)
from overproof.report.markdown import plain, table, yaml_lines
from overproof.report.text_words import SCORERS, dearer, degenerate, number_interval, scored, tokens

__all__ = ["render_text_card"]


def render_text_card(certificate: TextCertificate) -> str:
    """The certificate as Markdown with a YAML front matter, as model hubs read it."""
    sections = (_head, _quality, _comparisons, _fidelity, _deferral, _cost, _data, _limits)
    body = "\n\n".join("\n".join(lines) for s in sections if (lines := s(certificate)))
    return f"{_front_matter(certificate)}\n\n{capitalised(body)}\n"


def _front_matter(c: TextCertificate) -> str:
    best = next((k for k in c.contestants if k.name in c.certified), None)
    licence = facts.find(c.provenance, "base_licence", "licence")
    base = facts.find(c.provenance, "base")
    tags = ["text-generation", "knowledge-distillation", "overproof"]
    meta: dict[str, Any] = {"license": (licence or "unknown").lower()}
    if base:
        meta["base_model"] = base
    meta |= {
        "pipeline_tag": "text-generation",
        "library_name": "transformers",
        "tags": [*tags, "demo"] if c.demo else tags,
    }
    if best is not None:
        metric = {"type": c.scorer, "name": c.scorer, "value": round(best.score.estimate, 4)}
        data = {"name": c.name, "type": c.name, "split": "test"}
        entry = {"task": {"type": "text-generation"}, "dataset": data, "metrics": [metric]}
        meta["model-index"] = [{"name": best.name, "results": [entry]}]
    return "\n".join(["---", *yaml_lines(meta), "---"])


def _head(c: TextCertificate) -> list[str]:
    said = [f"# {plain(c.name)}: {c.verdict}", ""]
    if c.demo:
        said += ["> This is a demonstration: it shows how the work is done.", ""]
    if c.synthetic:
        said += ["> The prompts are synthetic: a program made them.", ""]
    return [
        *said,
        plain(c.verdict_text),
        "",
        f"Measured on {moment(c.made_at)} with overproof {plain(c.overproof_version)} on "
        f"{count(c.n_test)} test prompts, at a margin of {100 * c.margin:.4g} points that was "
        f"fixed before anything was collected. The score: {SCORERS.get(c.scorer, plain(c.scorer))}"
        "; an answer that failed scores zero.",
    ]


def _quality(c: TextCertificate) -> list[str]:
    details = scored(c)
    heads = (
        "Contestant", "Role", "Score", "Retained", "Agreement", "Broken answers",
        *(plain(title) for _, title, _ in details),
    )  # fmt: skip
    rows = [
        (
            k.name,
            k.role if not k.method else f"{k.role}, {k.method}",
            interval(k.score),
            "itself" if k.role == "teacher" else interval(k.retention, "not defined"),
            interval(k.agreement, "itself" if k.role == "teacher" else "not measured"),
            f"{interval(k.degeneration.any)} ({degenerate(k)})",
            *(interval(values.get(k.name)) for _, _, values in details),
        )
        for k in c.contestants
    ]
    return ["## Quality", "", table(heads, rows)]


def _comparisons(c: TextCertificate) -> list[str]:
    rows = [
        (
            f"{k.first} against {k.second}",
            points_interval(k.difference),
            percent(k.difference.confidence, 0),
            p_value(k.p_value),
            k.verdict,
        )
        for k in c.comparisons
    ]
    heads = ("Comparison", "Difference", "Confidence", "p", "Verdict")
    return ["## Comparisons", "", table(heads, rows)]


def _fidelity(c: TextCertificate) -> list[str]:
    rows = [
        (k.name, number_interval(k.teacher_perplexity), number_interval(k.perplexity_of_teacher))
        for k in c.contestants
        if k.teacher_perplexity or k.perplexity_of_teacher
    ]
    heads = ("Contestant", "The teacher's perplexity of its text", "Its own of the teacher's text")
    lines = ["## Fidelity", "", table(heads, rows) if rows else "Perplexity was not measured."]
    judged = [
        (
            f"{j.first} against {j.second}",
            interval(j.win_rate),
            interval(j.consistent),
            interval(j.noise_floor),
            count(j.unread),
            j.judge,
        )
        for j in c.judgements
    ]
    if judged:
        judge_heads = ("Judged", "Win rate", "Alike in both orders", "Noise floor", "Unread", "By")
        lines += ["", table(judge_heads, judged)]
    return lines


def _deferral(c: TextCertificate) -> list[str]:
    if not c.deferral:
        return []
    rows = [
        (
            d.student,
            percent(d.stated, 0),
            interval(d.agreement),
            percent(d.chosen.deferred),
            percent(d.chosen.cost) + dearer(d),
            f"{d.threshold:.4g} ({d.confidence_score})",
        )
        for d in c.deferral
    ]
    heads = ("Student", "Stated", "Agreement", "Passed on", "Cost", "Threshold")
    said = (
        "The threshold is calibrated on the tune split by conformal risk control; the cost is a "
        "share of asking the teacher alone."
    )
    return ["## Deferral to the teacher", "", said, "", table(heads, rows)]


def _running(k: Contestant) -> tuple[str, ...]:
    speed = k.speed
    return (
        k.name,
        size(k),
        tokens(k.mean_tokens),
        rate(speed.requests_per_second if speed else None),
        seconds(speed.latency_p50_s if speed else None),
        usd(k.cost_per_million_usd),
        k.cost_basis or "not given",
    )


def _cost(c: TextCertificate) -> list[str]:
    heads = (
        "Contestant", "Parameters", "Tokens an answer", "Requests a second", "Latency p50",
        "USD a million requests", "Basis",
    )  # fmt: skip
    lines = [
        "## Speed and cost",
        "",
        f"Measured on {plain(c.machine) or 'a machine that was not recorded'}.",
        "",
        table(heads, [_running(k) for k in c.contestants]),
    ]
    return [*lines, *_groups(c.costs, c)]


def _groups(mapping: dict[str, Any], c: TextCertificate) -> list[str]:
    lines: list[str] = []
    for title, group in facts.groups(mapping, frozenset(k.name for k in c.contestants)):
        lines += ["", f"### {plain(title)}", ""]
        lines += [
            f"- {plain(fact.name)}: " + (f"`{fact.value}`" if fact.code else plain(fact.value))
            for fact in group
        ]
    return lines


def _data(c: TextCertificate) -> list[str]:
    lines = ["## Training data, teacher and terms"]
    lines += _groups(c.provenance, c) or ["", "No provenance was recorded."]
    return [*lines, "", f"Looks at the test set: {count(c.looks)}."]


def _limits(c: TextCertificate) -> list[str]:
    limits = [f"- {plain(limit)}" for limit in c.limits] or ["None were written down."]
    command = c.recompute.strip()
    again = ["```", command, "```"] if command else ["No command was recorded."]
    return ["## Limits", "", *limits, "", "## How to recompute", "", *again]
