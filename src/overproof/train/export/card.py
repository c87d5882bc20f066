"""The model card: what a reader of the weights must know, and how to load them."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from overproof.errors import OverproofError
from overproof.records.certificate import Interval
from overproof.records.chat_dataset import TextManifest
from overproof.records.lm_student import LmStudentCard
from overproof.records.text_certificate import Contestant, TextCertificate

__all__ = ["CardFacts", "facts_of", "model_card"]

METHODS = {
    "sft": "sequence-level distillation: supervised fine-tuning on the teacher's text "
    "(arXiv 1606.07947)",
    "sparse_kd": "distillation from the log-probabilities of a chat API, mapped onto the student's "
    "vocabulary by bytes",
    "sampled_kd": "random-sampling distillation from the teacher's weights (arXiv 2503.16870)",
    "dense_kd": "white-box distillation from the teacher's whole distribution",
    "on_policy": "on-policy distillation: the teacher scores what the student writes "
    "(arXiv 2306.13649)",
}
# Identifiers that model hubs know; any other licence is "other" with its name.
LICENCES = [
    "apache-2.0",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "openrail",
    "bigscience-openrail-m",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "gpl-3.0",
    "lgpl-3.0",
    "agpl-3.0",
    "mpl-2.0",
    "unlicense",
    "llama2",
    "llama3",
    "llama3.1",
    "llama3.2",
    "llama3.3",
    "gemma",
]
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class CardFacts:
    """What a model card tells besides the student's own card."""

    manifest: TextManifest | None = None
    certificate: TextCertificate | None = None


def facts_of(student: Path) -> CardFacts:
    """What the run of ``RUN/students/NAME`` knows; what is not there, or unreadable, is left out.

    A card without a figure claims nothing, so that an unreadable certificate is no error here.
    """
    run = student.resolve().parent.parent
    manifest = certificate = None
    with suppress(OverproofError):
        certificate = TextCertificate.load(run / "certificate.json")
    with suppress(OverproofError):
        manifest = TextManifest.load(run / "dataset")
    return CardFacts(manifest, certificate)


def model_card(card: LmStudentCard, facts: CardFacts | None = None) -> str:
    """``README.md`` of a student, with the YAML head that model hubs read."""
    facts = facts or CardFacts()
    parts = [
        _head(card, facts),
        f"# {_plain(card.name)}\n",
        _what(card),
        _data(card, facts.manifest),
        _measured(card, facts.certificate),
        _terms(card),
        _loading(card),
        _notes(card),
    ]
    return "\n".join(part for part in parts if part)


def _head(card: LmStudentCard, facts: CardFacts) -> str:
    licence = card.base_licence.strip().lower()
    lines = ["---"]
    if licence in LICENCES:
        lines += [f"license: {licence}"]
    else:
        lines += ["license: other", f"license_name: {_quoted(card.base_licence or 'unknown')}"]
    if HUB_NAME.fullmatch(card.base):
        lines += [f"base_model: {_quoted(card.base)}"]
        lines += [f"base_model_relation: {'adapter' if card.adapter else 'finetune'}"]
    lines += [
        f"library_name: {'peft' if card.adapter else 'transformers'}",
        "pipeline_tag: text-generation",
        "tags:",
        "- overproof",
        "- distillation",
        f"- {card.method.replace('_', '-')}",
    ]
    lines += ["- lora"] if card.config.get("lora") else []
    lines += ["- synthetic"] if _synthetic(facts) else []
    return "\n".join([*lines, "---", ""])


def _synthetic(facts: CardFacts) -> int:
    if facts.manifest is None:
        return int(facts.certificate is not None and facts.certificate.synthetic)
    origins = facts.manifest.origins.items()
    return sum(n for kind, n in origins if kind not in ("file", "ledger"))


def _what(card: LmStudentCard) -> str:
    how = METHODS.get(card.method, card.method)
    rows = [
        ("teacher", card.teacher),
        ("base", card.base),
        ("licence of the base", card.base_licence),
        ("begins with", card.start),
        ("parameters", f"{card.parameters:,}"),
        ("trained", f"{card.trainable:,} ({card.trainable / max(1, card.parameters):.1%})"),
        ("vocabulary", f"{card.vocabulary:,} tokens"),
        ("context", None if card.context_length is None else f"{card.context_length:,} tokens"),
        ("layers", card.layers),
        ("precision", card.precision),
        ("steps", f"{card.steps:,}"),
        ("tokens read in training", f"{card.tokens:,}, loss on {card.answer_tokens:,}"),
        ("training time", f"{card.train_seconds / 60:.1f} min"),
        ("seed", card.seed),
        ("recipe, SHA-256", card.config_sha256),
    ]
    return "\n".join(
        [
            f"A student of **{_plain(card.teacher)}**, made by {how}.\n",
            "| | |",
            "|---|---|",
            *(f"| {name} | {_cell(value)} |" for name, value in rows if value not in (None, "")),
            "",
        ]
    )


def _data(card: LmStudentCard, manifest: TextManifest | None) -> str:
    lines = ["## What it learned from\n", f"{card.n_train:,} chats answered by the teacher."]
    if manifest is not None:
        made = _synthetic(CardFacts(manifest=manifest))
        total = sum(manifest.origins.values())
        if made:
            kinds = ", ".join(f"{kind} {n:,}" for kind, n in sorted(manifest.origins.items()))
            lines.append(f"{made:,} of {total:,} prompts are **synthetic** ({kinds}).")
        elif total:
            lines.append("No prompt is synthetic.")
    lines.append(f"\nHash of the dataset: `{card.dataset_sha256}`.\n")
    return "\n".join(lines)


def _measured(card: LmStudentCard, certificate: TextCertificate | None) -> str:
    lines = ["## What was measured\n"]
    if card.tune_loss is not None:
        before = "" if card.base_tune_loss is None else f", {card.base_tune_loss:.3f} before"
        lines.append(
            f"Cross-entropy of the teacher's text, prompts held out from training: "
            f"{card.tune_loss:.3f} nats a token{before}.\n"
        )
    found = None
    if certificate is not None:
        found = next((c for c in certificate.contestants if c.name == card.name), None)
    if certificate is None or found is None:
        lines.append("It has no certificate: nothing is claimed of how well it answers.\n")
        return "\n".join(lines)
    lines += _certified(card.name, found, certificate)
    return "\n".join(lines)


def _certified(name: str, found: Contestant, certificate: TextCertificate) -> list[str]:
    verdict = "certified" if name in certificate.certified else "not certified"
    lines = [
        f"On {certificate.n_test:,} test prompts that training never saw "
        f"(scorer `{certificate.scorer}`, margin {certificate.margin:g}): **{verdict}**.\n",
        "| | |",
        "|---|---|",
        f"| score | {_interval(found.score)} |",
    ]
    teacher = next((c for c in certificate.contestants if c.role == "teacher"), None)
    if teacher is not None:
        lines.append(f"| the teacher's score | {_interval(teacher.score)} |")
    if found.retention is not None:
        lines.append(f"| share of the teacher's score | {_interval(found.retention)} |")
    if found.agreement is not None:
        lines.append(f"| says what the teacher said | {_interval(found.agreement)} |")
    lines.append(f"| broken answers | {_interval(found.degeneration.any)} |")
    if certificate.demo:
        lines.append("\n**A demonstration: its figures mean nothing.**")
    lines += ["", *(f"- {_plain(limit)}" for limit in certificate.limits), ""]
    return lines


def _terms(card: LmStudentCard) -> str:
    lines = [
        "## Terms\n",
        f"The teacher's terms on learning from its answers: {_plain(card.terms)}.",
    ]
    if card.attestation:
        lines.append(f"\nAttested by who trained it: {_plain(card.attestation)}")
    lines.append(f"\nThe base is under: {_plain(card.base_licence)}.\n")
    return "\n".join(lines)


def _loading(card: LmStudentCard) -> str:
    if card.adapter:
        code = [
            "from peft import AutoPeftModelForCausalLM",
            "from transformers import AutoTokenizer",
            "",
            'model = AutoPeftModelForCausalLM.from_pretrained("DIRECTORY/adapter")',
            'tokenizer = AutoTokenizer.from_pretrained("DIRECTORY/adapter")',
        ]
    else:
        code = [
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            'model = AutoModelForCausalLM.from_pretrained("DIRECTORY")',
            'tokenizer = AutoTokenizer.from_pretrained("DIRECTORY")',
        ]
    lines = ["## Loading it\n", "```python", *code, "```", ""]
    if not card.adapter:
        lines += ["vLLM serves it as it is: `vllm serve DIRECTORY`.", ""]
    lines += ["For llama.cpp: `overproof export DIRECTORY --to gguf-q8_0`.", ""]
    return "\n".join(lines)


def _notes(card: LmStudentCard) -> str:
    if not card.notes:
        return ""
    return "\n".join(["## Worth knowing\n", *(f"- {_plain(note)}" for note in card.notes), ""])


def _interval(value: Interval) -> str:
    return f"{value.estimate:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _plain(value: object) -> str:
    return " ".join(str(value).split())


def _cell(value: object) -> str:
    return _plain(value).replace("|", "\\|")
