"""The certificate as a model card in Markdown, with the metadata block that model hubs read."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from overproof.records.certificate import Candidate, Certificate
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
    requests,
    seconds,
    size,
    usd,
)

__all__ = ["plain", "render_model_card", "table", "yaml_lines"]

# What would act: code, emphasis, strikethrough, cell ends, links, HTML. An underscore inside a
# word, a lone bracket or a "<" before a figure does nothing, and stays legible unescaped.
SPECIAL = re.compile(
    r"""[\\`*|] | ~(?=~) | (?<![^\W_])_ | _(?![^\W_]) | ^\[ | \](?=[\[(:]) | <(?=[A-Za-z/!?])
    | ^[#>+-]""",
    re.VERBOSE,
)


def plain(text: str) -> str:
    """``text`` on one line, with everything escaped that Markdown or HTML would act on."""
    return SPECIAL.sub(r"\\\g<0>", " ".join(text.split()).replace("&", "&amp;"))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table: names on the left, figures on the right."""
    if not rows:
        return "Not recorded."
    rule = ["---", *["---:"] * (len(heads) - 1)]
    lines = [heads, rule, *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def yaml_lines(value: Any, indent: int = 0) -> list[str]:
    """Lines of YAML for nested mappings, lists and scalars; JSON strings are YAML strings."""
    pad = " " * indent
    lines: list[str] = []
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, dict | list) and inner:
                lines += [f"{pad}{key}:", *yaml_lines(inner, indent + 2)]
            else:
                lines.append(f"{pad}{key}: {json.dumps(inner, ensure_ascii=False)}")
        return lines
    for inner in value:
        if isinstance(inner, dict):
            first, *rest = yaml_lines(inner, indent + 2)
            lines += [f"{pad}- {first.lstrip()}", *rest]
        else:
            lines.append(f"{pad}- {json.dumps(inner, ensure_ascii=False)}")
    return lines


def _student_facts(certificate: Certificate) -> dict[str, Any]:
    """What the provenance says of the recommended student; empty where it says nothing."""
    students = certificate.provenance.get("students")
    found = students.get(certificate.recommended) if isinstance(students, dict) else None
    return found if isinstance(found, dict) else {}


def _front_matter(certificate: Certificate) -> str:
    student = _student_facts(certificate)
    licence = facts.find(student, "base_licence") or facts.find(
        certificate.provenance, "base_licence"
    )
    base = facts.find(student, "base")
    meta: dict[str, Any] = {"license": (licence or "unknown").lower()}
    if base:
        meta["base_model"] = base
    tags = ["text-classification", "knowledge-distillation", "overproof"]
    meta |= {
        "pipeline_tag": "text-classification",
        "library_name": "overproof",
        "tags": [*tags, "demo"] if certificate.demo else tags,
        "metrics": ["accuracy", "f1"] if certificate.basis == "gold" else [certificate.metric],
    }
    results = _results(certificate)
    if results:
        task = {"type": "text-classification"}
        data = {"name": certificate.name, "type": certificate.name, "split": "test"}
        entry = {"task": task, "dataset": data, "metrics": results}
        meta["model-index"] = [{"name": certificate.recommended, "results": [entry]}]
    return "\n".join(["---", *yaml_lines(meta), "---"])


def _results(certificate: Certificate) -> list[dict[str, Any]]:
    if certificate.recommended is None:
        return []
    student = certificate.candidate(certificate.recommended)
    scores = {"accuracy": student.accuracy, "f1": student.macro_f1, "agreement": student.agreement}
    names = {"accuracy": "accuracy", "f1": "macro-F1", "agreement": "agreement with the teacher"}
    return [
        {"type": kind, "name": names[kind], "value": round(score.estimate, 4)}
        for kind, score in scores.items()
        if score is not None
    ]


def _head(certificate: Certificate) -> list[str]:
    c = certificate
    demo = ["> This is a demonstration: it shows how the work is done.", ""] if c.demo else []
    against = "gold labels" if c.basis == "gold" else "the teacher"
    return [
        f"# {plain(c.name)}: {c.verdict}",
        "",
        *demo,
        plain(c.verdict_text),
        "",
        f"Measured on {moment(c.created_at)} with overproof {plain(c.overproof_version)} on "
        f"{count(c.n_test)} test inputs against {against}, at a margin of "
        f"{100 * c.margin:.4g} points of {plain(c.metric)} that was fixed before anything was "
        "collected.",
    ]


def _use(certificate: Certificate) -> list[str]:
    labels = ", ".join(plain(label) for label in certificate.labels)
    return [
        "## Intended use",
        "",
        f"Giving each text one of {len(certificate.labels)} labels: {labels}. It was measured on "
        "texts from the same source as those it was trained on, and on no others. It always "
        "answers with one of the labels, also where none fits; its calibrated probability says "
        "how sure it is.",
    ]


def _quality(certificate: Certificate) -> list[str]:
    none = "no gold" if certificate.basis == "teacher" else "not measured"
    rows = [
        (
            c.name,
            c.role,
            interval(c.accuracy, none),
            interval(c.macro_f1, none),
            interval(c.agreement, "itself" if c.role == "teacher" else "not measured"),
            interval(c.ece),
            interval(c.invalid_share),
        )
        for c in certificate.candidates
    ]
    heads = ("Candidate", "Role", "Accuracy", "Macro-F1", "Agreement", "ECE", "Invalid answers")
    ceiling = certificate.teacher_self_agreement
    again = (
        f"The teacher agrees with itself on {interval(ceiling)} of {count(ceiling.n)} inputs"
        + (f" ({plain(certificate.self_agreement_how)})" if certificate.self_agreement_how else "")
        + ", when asked another way."
        if ceiling
        else "The teacher was not asked twice, so how often it agrees with itself is unknown."
    )
    confidence = {v.confidence for c in certificate.candidates if (v := c.accuracy or c.agreement)}
    level = ", ".join(percent(value, 0) for value in sorted(confidence)) or "95 %"
    return [
        "## Quality",
        "",
        f"Intervals are at {level}; an invalid answer counts as wrong.",
        "",
        table(heads, rows),
        "",
        again,
    ]


def _comparisons(certificate: Certificate) -> list[str]:
    rows = [
        (
            f"{c.first} against {c.second}",
            points_interval(c.difference),
            percent(c.difference.confidence, 0),
            p_value(c.p_value),
            c.verdict + (", better" if c.superior else ""),
        )
        for c in certificate.comparisons
    ]
    heads = ("Comparison", "Difference", "Confidence", "p", "Verdict")
    power = certificate.power
    word = "underpowered" if power.underpowered else "enough"
    return [
        "## Comparisons",
        "",
        f"In {plain(certificate.metric)}, at a margin of {100 * certificate.margin:.4g} points.",
        "",
        table(heads, rows),
        "",
        f"Power: {percent(power.power)} with {count(power.n_test)} test inputs ({word}; about "
        f"{count(power.n_needed)} are needed).",
    ]


def _slices(certificate: Certificate) -> list[str]:
    shown = [c for c in certificate.candidates if c.slices]
    if not shown:
        return ["## Slices", "", "No slice was measured."]
    keys = list(dict.fromkeys((s.by, s.value) for c in shown for s in c.slices))
    scores = {(c.name, s.by, s.value): s.accuracy for c in shown for s in c.slices}
    rows = [
        (f"{by}: {value}", *(interval(scores.get((c.name, by, value))) for c in shown))
        for by, value in keys
    ]
    return ["## Slices", "", table(("Slice", *(plain(c.name) for c in shown)), rows)]


def _running(candidate: Candidate) -> tuple[str, ...]:
    speed = candidate.speed
    return (
        candidate.name,
        size(candidate),
        rate(speed.requests_per_second if speed else None),
        seconds(speed.latency_p50_s if speed else None),
        seconds(speed.latency_p95_s if speed else None),
        usd(candidate.cost_per_million_usd),
        candidate.cost_basis or "not given",
    )


def _cost(certificate: Certificate) -> list[str]:
    heads = (
        "Candidate", "Parameters", "Requests a second", "Latency p50", "Latency p95",
        "USD a million requests", "Basis",
    )  # fmt: skip
    lines = [
        (
            line.what,
            count(line.calls),
            count(line.input_tokens),
            count(line.output_tokens),
            seconds(line.seconds),
            usd(line.usd),
        )
        for line in certificate.costs
    ]
    known, unknown = facts.total_of(certificate.costs)
    together = usd(known) + (f", and {unknown} unknown" if known is not None and unknown else "")
    if unsure := facts.uncertain_of(certificate.costs):
        together += f", {unsure}"
    return [
        "## Speed and cost",
        "",
        f"Measured on {plain(certificate.machine) or 'a machine that was not recorded'}.",
        "",
        table(heads, [_running(c) for c in certificate.candidates]),
        "",
        table(("Spent on", "Calls", "Input tokens", "Output tokens", "Time", "USD"), lines),
        "",
        f"Together: {together}. Break-even: {requests(certificate.break_even_requests)}. "
        + plain(certificate.break_even_text),
    ]


def _data(certificate: Certificate) -> list[str]:
    heads = facts.outcomes_of(certificate)
    rows = [
        (split, *(count(counts.get(name, 0)) for name in heads))
        for split, counts in certificate.outcomes.items()
    ]
    parts = ["## Training data, teacher and terms", "", table(("Split", *heads), rows)]
    if certificate.learning_verdict:
        parts += ["", f"Would more data help? {plain(certificate.learning_verdict)}"]
    for title, group in facts.groups(certificate.provenance):
        parts += ["", f"### {plain(title)}", ""]
        parts += [
            f"- {plain(fact.name)}: " + (f"`{fact.value}`" if fact.code else plain(fact.value))
            for fact in group
        ]
    if not certificate.provenance:
        parts += ["", "No provenance was recorded."]
    splits = "; ".join(f"{plain(name)} {count(n)}" for name, n in certificate.splits.items())
    parts += ["", f"Splits: {splits or 'not recorded'}."]
    parts += ["", f"Looks at the test set: {count(len(certificate.looks))}."]
    return parts


def _limits(certificate: Certificate) -> list[str]:
    limits = [f"- {plain(limit)}" for limit in certificate.limits] or ["None were written down."]
    command = certificate.recompute.strip()
    fence = "~~~~" if "```" in command else "```"
    again = [fence, command, fence] if command else ["No command was recorded."]
    return ["## Limits", "", *limits, "", "## How to recompute", "", *again]


def render_model_card(certificate: Certificate) -> str:
    """The certificate as Markdown with a YAML front matter.

    The metadata follow the model-card format of the Hugging Face hub; ``license`` is that of the
    recommended student's base, ``unknown`` where the provenance does not say.
    """
    sections = (
        _head,
        _use,
        _quality,
        _comparisons,
        _slices,
        _cost,
        _data,
        _limits,
    )
    body = "\n\n".join("\n".join(section(certificate)) for section in sections)
    return f"{_front_matter(certificate)}\n\n{capitalised(body)}\n"
