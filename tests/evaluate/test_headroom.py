"""Teacher and untrained base on training prompts, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_lm import write_tiny_lm

from overproof.config.load import LoadedTextRecipe
from overproof.config.text_recipe import TextRecipe
from overproof.evaluate.text.headroom import headroom
from overproof.records.exchange import Completion, Message, Outcome
from overproof.records.text_dataset import Origin, Prompt, prompt_item


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_lm(tmp_path_factory.mktemp("models") / "tiny")


def recipe(place: Path, base: Path, *, scorer: str = "exact", **student: Any) -> LoadedTextRecipe:
    content = {
        "run": {"name": "t", "dir": "run"},
        "teacher": {"kind": "fake", "model": "fake"},
        "data": {"file": "prompts.csv"},
        "task": {"kind": "text", "max_tokens": 8},
        "certificate": {"scorer": scorer},
        "students": [{"name": "a", "base": str(base), "method": "sft", **student}],
    }
    return LoadedTextRecipe(TextRecipe.model_validate(content), place / "recipe.toml")


def prompts(n: int, *, known: bool = True) -> list[Prompt]:
    made = []
    for i in range(n):
        messages = (Message(role="user", content=f"What is {i} plus {i}?"),)
        made.append(
            Prompt(
                item=prompt_item(messages),
                messages=messages,
                origin=Origin(kind="file", source="f"),
                reference=str(2 * i) if known else None,
            )
        )
    return made


async def test_teacher_and_base_on_the_same_prompts(tmp_path: Path, base: Path) -> None:
    asked: list[str] = []

    async def ask(prompt: Prompt) -> Completion:
        asked.append(prompt.item)
        if len(asked) == 1:
            return Completion(outcome=Outcome.FAILED, error="gone")
        return Completion(outcome=Outcome.ANSWERED, text=f" {prompt.reference}. ")

    loaded = recipe(tmp_path, base)
    found = await headroom(loaded, prompts(20), 8, ask=ask)
    assert found["k"] == 8
    assert asked == sorted(asked) == sorted(p.item for p in prompts(20))[:8]
    assert found["teacher"]["estimate"] == 7 / 8
    assert found["bases"]["tiny"]["estimate"] == 0.0
    assert found["gain"]["tiny"]["estimate"] == 7 / 8
    assert found["gain"]["tiny"]["low"] > 0
    assert found["notes"] == []
    kept = list((tmp_path / "run/answers/headroom").glob("*.jsonl"))
    assert len(kept) == 1
    assert len(kept[0].read_text().splitlines()) == 8


async def test_no_headroom_is_said(tmp_path: Path, base: Path) -> None:
    async def ask(prompt: Prompt) -> Completion:
        return Completion(outcome=Outcome.ANSWERED, text="no idea")

    found = await headroom(recipe(tmp_path, base), prompts(6), 6, ask=ask)
    assert "right on none of 6" in found["notes"][0]
    assert "not shown to be better than the untrained tiny" in found["notes"][1]


async def test_what_cannot_be_measured_says_why(tmp_path: Path, base: Path) -> None:
    found = await headroom(recipe(tmp_path, base, scorer="teacher"), prompts(3), 3)
    assert found["notes"] == ["headroom is not measured: it scores what the teacher said"]
    found = await headroom(recipe(tmp_path, base), prompts(3, known=False), 3)
    assert "no training prompt has a known answer" in found["notes"][0]
    loaded = recipe(tmp_path, base, prune={"layers": 1})
    found = await headroom(loaded, prompts(3), 3)  # the fake teacher, asked directly
    assert found["bases"] == {}
    assert any("pruned when training begins" in note for note in found["notes"])
