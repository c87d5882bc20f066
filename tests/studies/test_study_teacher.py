"""The study's teacher is the file that is stated, and solves as much as is stated."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from overproof.config.lm_students import OnPolicyConfig
from overproof.config.load import LoadedTextRecipe, load_any

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "studies"
TEACHER = STUDIES / "teacher"


@pytest.fixture(scope="module")
def teacher() -> Iterator[ModuleType]:
    """The script as a module, with the tasks beside it."""
    sys.path.insert(0, str(STUDIES))
    try:
        import teacher as script

        yield script
    finally:
        sys.path.remove(str(STUDIES))
        for name in ("teacher", "tasks"):
            sys.modules.pop(name, None)


def test_files_are_those_that_are_stated() -> None:
    """Every file beside SHA256SUMS is in it, with its hash."""
    stated = {}
    for line in (TEACHER / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        digest, name = line.split("  ")
        stated[name] = digest
    there = {path.name for path in TEACHER.iterdir()} - {"SHA256SUMS"}
    assert there == set(stated)
    for name, digest in stated.items():
        assert hashlib.sha256((TEACHER / name).read_bytes()).hexdigest() == digest, name
    assert (TEACHER / "model.safetensors").stat().st_size < 8_300_000


def test_card_states_the_scores() -> None:
    """The model card's table is what scores.json says."""
    card = (TEACHER / "README.md").read_text(encoding="utf-8")
    for task, (solved, asked) in json.loads((TEACHER / "scores.json").read_text()).items():
        assert f"| {task} | {solved} of {asked} |" in card


def test_verifiers_take_the_answers_that_are_taught(teacher: ModuleType) -> None:
    """A problem's own answer is right, another one is not, and both fit into the context."""
    tokenizer = teacher.build_tokenizer()
    for name in teacher.TASKS:
        asked = teacher.problems(name, 77, 12)
        for one, other in zip(asked, reversed(asked), strict=True):
            assert teacher.verify(one, one.answer)
            assert not teacher.verify(one, "I do not know.")
            if name != "letter_counting" and one.answer != other.answer:
                assert not teacher.verify(one, other.answer)
            for text in (one.question, one.answer):
                assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_shipped_tokenizer_is_the_recipe_s(teacher: ModuleType) -> None:
    """The weights' tokenizer is what the script builds, end of turn and all."""
    from transformers import AutoTokenizer

    shipped = AutoTokenizer.from_pretrained(TEACHER)
    built = teacher.build_tokenizer()
    assert shipped.get_vocab() == built.get_vocab()
    text = shipped.apply_chat_template(
        [{"role": "user", "content": "23-60"}], tokenize=False, add_generation_prompt=True
    )
    assert text == f"{teacher.USER}23-60{teacher.END}{teacher.ASSISTANT}"
    assert shipped.eos_token == teacher.END


def test_prompts_are_distinct_and_far_from_training(
    teacher: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a problem with the entry that its verifier reads, from seeds of its own."""
    import tasks

    out = tmp_path / "deep" / "prompts.jsonl"
    monkeypatch.setattr(sys, "argv", ["tasks.py", str(out), "--count", "200"])
    tasks.main()
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len({row["text"] for row in rows}) == len(rows) > 150
    for row in rows:
        told = row["reasoning_gym"]
        problem = tasks.Problem(told["name"], row["text"], row["answer"], told["entry"])
        assert tasks.verify(problem, row["answer"])
    assert teacher.TRAINING_SEED > 2**32 < teacher.SCORING_SEED


@pytest.mark.parametrize("name", ["study-cpu", "study-gpu"])
def test_every_method_reads_as_many_tokens(name: str) -> None:
    """A student that another one starts has read that one's tokens as well."""
    loaded = load_any(ROOT / "configs" / f"{name}.toml")
    assert isinstance(loaded, LoadedTextRecipe)
    students = {each.name: each for each in loaded.recipe.students}
    totals: dict[str, set[int]] = defaultdict(set)
    seeds: dict[str, set[int | None]] = defaultdict(set)
    for each in students.values():
        kind = each.name.rpartition("-")[0]
        before = students[each.start].max_tokens if each.start else 0
        assert each.max_tokens is not None
        assert before is not None
        totals[kind].add(each.max_tokens + before)
        seeds[kind].add(each.seed)
        if isinstance(each, OnPolicyConfig):
            assert each.start is not None
            assert students[each.start].seed == each.seed
    half = totals.pop("warm")
    assert len(set.union(*totals.values())) == 1
    assert {2 * one for one in half} == set.union(*totals.values())
    assert all(found == {1, 2, 3} for found in seeds.values())
    assert loaded.recipe.data.test >= 500


@pytest.mark.slow
def test_it_solves_what_is_stated_on_fresh_seeds(teacher: ModuleType) -> None:
    """Shares of fresh problems differ from the stated ones by chance alone (4 standard errors)."""
    stated = json.loads((TEACHER / "scores.json").read_text())
    found = teacher.scores(TEACHER, 60, seed=123_456_789)
    for task, (solved, asked) in found.items():
        before, of = stated[task]
        pooled = (solved + before) / (asked + of)
        error = math.sqrt(max(pooled * (1 - pooled), 1e-9) * (1 / asked + 1 / of))
        assert abs(solved / asked - before / of) <= 4 * error + 1e-9, task
