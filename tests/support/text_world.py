"""A run of a text task with hand-made students: tiny random weights under finished cards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from overproof import api
from overproof.clients.fake import FakeTeacher
from overproof.collect import session as session_module
from overproof.config.load import LoadedTextRecipe, load_any
from overproof.records.chat_dataset import TextManifest
from overproof.records.exchange import Completion, Outcome, Request, Usage
from overproof.records.lm_student import LmStudentCard

NOW = "2026-11-23T08:00:00+00:00"
WORDS = ["ant", "bee", "cow", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay", "koi", "lynx"]


def sums(n: int) -> list[dict[str, Any]]:
    """Prompts with known answers, each of words of its own."""
    rows = []
    for i in range(n):
        a, b = WORDS[i % 12] * 2, WORDS[(i * 5 + i // 12) % 12] * 3
        rows.append({"text": f"{a} {i} and {b} {i + 7}?", "answer": str(2 * i + 7)})
    return rows


def right_answer(request: Request) -> str:
    """The answer to a prompt of ``sums``."""
    numbers = [int(w.strip("?")) for w in request.messages[-1].content.split() if w[0].isdigit()]
    return str(sum(numbers))


def write_recipe(
    directory: Path,
    *,
    n: int = 40,
    kind: str = "fake",
    model: str = "fake",
    data: str = "train = 10\ntune = 10\ntest = 20",
    task: str = "",
    certificate: str = 'scorer = "exact"\nbootstrap = 200',
    rows: list[dict[str, Any]] | None = None,
    students: Iterable[str] = ("small",),
) -> LoadedTextRecipe:
    """Write prompts and recipe."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row) + "\n" for row in rows or sums(n)]
    (directory / "prompts.jsonl").write_text("".join(lines))
    (directory / "recipe.toml").write_text(
        f"""\
[run]
name = "sums"
dir = "run"
[teacher]
kind = "{kind}"
model = "{model}"
[teacher.terms]
training = "allowed"
[data]
file = "prompts.jsonl"
reference = "answer"
near_duplicate = 1.0
{data}
[task]
kind = "text"
max_tokens = 8
{task}
[certificate]
{certificate}
"""
        + "".join(
            f'[[students]]\nname = "{name}"\nmethod = "sft"\nbase = "tiny"\n' for name in students
        )
    )
    return read_again(directory)


def read_again(path: Path) -> LoadedTextRecipe:
    """The recipe as it is now."""
    loaded = load_any(path)
    assert isinstance(loaded, LoadedTextRecipe)
    return loaded


def collect(
    monkeypatch: pytest.MonkeyPatch,
    loaded: LoadedTextRecipe,
    answer: Callable[[Request], str] = right_answer,
) -> TextManifest:
    """Collect from a teacher that answers by ``answer``; an empty answer is malformed."""

    def complete(request: Request) -> Completion:
        text = answer(request)
        return Completion(
            outcome=Outcome.ANSWERED,
            text=text,
            usage=Usage(input_tokens=9, output_tokens=len(text)),
            latency_s=0.25,
        )

    teacher = FakeTeacher("fake", complete)
    monkeypatch.setattr(session_module, "connect", lambda config, **_: teacher)
    manifest = api.collect_text(loaded)
    assert manifest is not None
    return manifest


def add_student(
    loaded: LoadedTextRecipe,
    weights: Path,
    base: Path,
    name: str = "small",
    manifest: TextManifest | None = None,
    **changes: Any,
) -> Path:
    """A finished student with those weights."""
    manifest = manifest or TextManifest.load(loaded.run_dir / "dataset")
    directory = loaded.run_dir / "students" / name
    shutil.copytree(weights, directory)
    sections = {each.name: each for each in loaded.recipe.students}
    section = sections[name].model_dump(mode="json", exclude_defaults=True)
    fields = {
        "config": section,
        "name": name, "method": "sft", "base": "tiny", "base_dir": str(base), "teacher": "fake",
        "parameters": 100, "trainable": 100, "vocabulary": 266, "precision": "float32",
        "steps": 1, "tokens": 10, "answer_tokens": 5, "n_train": 10, "train_seconds": 3.0,
        "seed": 0, "dataset_sha256": manifest.dataset_sha256, "config_sha256": "c",
    }  # fmt: skip
    LmStudentCard.model_validate(fields | changes).save(directory)
    return directory


class Scripted:
    """Stands in for ``connect``: weights by directory name answer what they are told to.

    Args:
        by_name: answers by the last part of the model's path; each takes a request.
    """

    def __init__(self, by_name: dict[str, Callable[[Request], Completion]]) -> None:
        self.by_name = by_name
        self.asked: list[tuple[str, Request]] = []

    def __call__(self, config: Any, **_: Any) -> FakeTeacher:
        name = Path(config.model).name

        def complete(request: Request) -> Completion:
            self.asked.append((name, request))
            return self.by_name[name](request)

        return FakeTeacher(name, complete)


def says(text: Callable[[Request], str] | str, **changes: Any) -> Callable[[Request], Completion]:
    """An answer of that text."""

    def complete(request: Request) -> Completion:
        said = text if isinstance(text, str) else text(request)
        return Completion(
            outcome=Outcome.ANSWERED,
            text=said,
            usage=Usage(input_tokens=9, output_tokens=max(1, len(said))),
            latency_s=0.01,
        ).model_copy(update=changes)

    return complete
