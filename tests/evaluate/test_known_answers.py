"""Whether test prompts have what the scorer reads, told before anything is spent."""

from __future__ import annotations

from typing import Any

import pytest

from overproof.config.text_certificate import TextCertificateConfig
from overproof.evaluate.text.known_answers import missing_references
from overproof.records.exchange import Message
from overproof.records.text_dataset import Origin, Prompt, prompt_item

SCHEMA = {"type": "object"}
FACT = {"reasoning_gym": {"name": "countdown", "entry": {}}}


def prompt(text: str, reference: str | None = None, facts: dict[str, Any] | None = None) -> Prompt:
    said = (Message(role="user", content=text),)
    origin = Origin(kind="file", source="p.jsonl: row 1")
    return Prompt(
        item=prompt_item(said), messages=said, origin=origin, reference=reference, facts=facts or {}
    )


@pytest.mark.parametrize(
    ("scorer", "fine", "bad", "said"),
    [
        ("exact", prompt("a", "yes"), prompt("b"), "has no known right answer"),
        ("numeric", prompt("a", "7"), prompt("b", "seven"), "reference without a number"),
        ("json", prompt("a", "{}"), prompt("b", "{"), "reference that is no JSON"),
        ("reasoning_gym", prompt("a", None, FACT), prompt("b", "7"), "is no task of reasoning-gym"),
    ],
)
def test_what_certify_would_refuse_is_said(
    scorer: str, fine: Prompt, bad: Prompt, said: str
) -> None:
    config = TextCertificateConfig.model_validate({"scorer": scorer})
    assert missing_references(config, [fine], SCHEMA) is None
    assert missing_references(config, [], SCHEMA) is None
    found = missing_references(config, [fine, bad], SCHEMA)
    assert found is not None
    assert "1 of 2 test prompts" in found
    assert said in found
    assert bad.item in found


def test_what_the_teacher_says_needs_no_reference_and_json_a_schema() -> None:
    teacher = TextCertificateConfig.model_validate({"scorer": "teacher"})
    assert missing_references(teacher, [prompt("a")]) is None
    json = TextCertificateConfig.model_validate({"scorer": "json"})
    assert "no JSON Schema" in (missing_references(json, [prompt("a", "{}")]) or "")
