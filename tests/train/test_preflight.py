"""What fails silently in distilling is named before a token is spent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_exports import CHATML, tiny_student, tiny_tokenizer

from overproof.config.load import LoadedTextRecipe
from overproof.config.text_recipe import TextRecipe
from overproof.records.preflight import Check, Preflight
from overproof.train.export.hf import write_lm
from overproof.train.lm.preflight import preflight, preflight_all

PLENTY = (64 << 30, "this machine")
CARD = "---\nlicense: apache-2.0\n---\n# tiny\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, and bases that differ from it in one thing each."""
    place = tmp_path_factory.mktemp("models")
    names = "teacher small large padded unrelated mute endless no-system overflowing"
    tokenizers: dict[str, Any] = {
        name: tiny_tokenizer(extra=("<|stop|>",)) for name in names.split()
    }
    tokenizers["unrelated"] = shuffled(tokenizers["unrelated"])
    tokenizers["mute"].chat_template = None
    tokenizers["endless"].chat_template = CHATML.replace("<|im_end|>", "<|stop|>")
    tokenizers["no-system"].chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + CHATML
    )
    layers = {"teacher": 3, "large": 4}
    for name, tokenizer in tokenizers.items():
        student = tiny_student(
            tokenizer=tokenizer,
            padding=32 if name == "padded" else 4,
            num_hidden_layers=layers.get(name, 1),
        )
        if name == "overflowing":
            tokenizer.add_tokens([f"<more{i}>" for i in range(9)])
        write_lm(student, place / name)
        (place / name / "README.md").write_text(CARD)
    (place / "padded/README.md").unlink()
    return place


def shuffled(tokenizer: Any) -> Any:
    """The same tokens under other ids: a vocabulary of equal size that means something else."""
    import json

    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    content = json.loads(tokenizer.backend_tokenizer.to_str())
    names = sorted(content["model"]["vocab"], reverse=True)
    content["model"]["vocab"] = {name: i for i, name in enumerate(names)}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    fast.chat_template = tokenizer.chat_template
    return fast


@pytest.fixture
def recipe(models: Path, tmp_path: Path) -> Callable[..., LoadedTextRecipe]:
    def made(
        base: str, method: str = "sft", *, task: dict[str, Any] | None = None, **student: Any
    ) -> LoadedTextRecipe:
        first = {"name": "first", "base": base if "/" in base else str(models / base)}
        if base == "teacher":
            first["base"] = "teacher"
        one = {**first, "method": method, "max_length": 256, "micro_tokens": 256, **student}
        content = {
            "run": {"name": "t", "dir": "run"},
            "teacher": {"kind": "local", "model": str(models / "teacher")},
            "data": {"file": "prompts.csv"},
            "task": {"kind": "text", "max_tokens": 64, **(task or {})},
            "students": [one],
        }
        return LoadedTextRecipe(TextRecipe.model_validate(content), tmp_path / "recipe.toml")

    return made


def run(loaded: LoadedTextRecipe, **settings: Any) -> dict[str, Check]:
    found = preflight(loaded, loaded.recipe.students[0], **{"memory": PLENTY, **settings})
    return {check.name: check for check in found.checks}


def test_a_sound_student_passes(recipe: Any) -> None:
    loaded = recipe("small", "dense_kd")
    prompts = [[{"role": "user", "content": "Hello"}]]
    (found,) = preflight_all(loaded, prompts=prompts, memory=PLENTY)
    assert found.ok, found.problems
    assert {check.outcome for check in found.checks} == {"ok"}
    names = [check.name for check in found.checks]
    assert names == [
        "size",
        "tokenizer",
        "chat template",
        "end of turn",
        "context",
        "memory",
        "licence of the base",
    ]


def test_padded_vocabularies_are_the_same_and_unrelated_ones_of_equal_size_are_not(
    recipe: Any,
) -> None:
    """Complaint 1: 151,936 against 152,064 rows is harmless, equal rows prove nothing."""
    padded = run(recipe("padded", "dense_kd"))["tokenizer"]
    assert padded.outcome == "ok"
    assert "the rest is padding" in padded.found
    unrelated = run(recipe("unrelated", "dense_kd"))["tokenizer"]
    assert unrelated.outcome == "problem"
    assert "though both are as large" in unrelated.reason
    assert "sparse_kd" in unrelated.way_out
    drawn = run(recipe("unrelated", "sampled_kd"))["tokenizer"]
    assert drawn.outcome == "problem"
    assert "draws would be no tokens of the student" in drawn.reason
    assert run(recipe("padded", "sampled_kd"))["tokenizer"].outcome == "ok"
    for method in ("sft", "sparse_kd"):  # the one maps by bytes, the other needs no map
        found = run(recipe("unrelated", method))["tokenizer"]
        assert found.outcome == "ok"
        assert found.found.startswith("100% of the teacher's tokens")


def test_a_token_without_a_row_is_a_problem(recipe: Any) -> None:
    found = run(recipe("overflowing"))["tokenizer"]
    assert found.outcome == "problem"
    assert "no row in the embedding" in found.reason


def test_a_foreign_vocabulary_is_a_warning_for_sparse_kd(
    recipe: Any, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from overproof.train.lm import preflight_checks

    monkeypatch.setattr(preflight_checks, "_overlap", lambda *_: 0.2)
    found = run(recipe("unrelated", "sparse_kd"))["tokenizer"]
    assert found.outcome == "warning"
    assert "one bucket" in found.reason
    assert run(recipe("unrelated", "sft"))["tokenizer"].outcome == "ok"


def test_a_larger_student_is_a_problem_and_an_equal_one_a_warning(recipe: Any) -> None:
    larger = run(recipe("large"))["size"]
    assert larger.outcome == "problem"
    assert "larger than the teacher" in larger.reason
    assert run(recipe("teacher"))["size"].outcome == "warning"
    pruned = run(recipe("teacher", prune={"layers": 2}))
    assert pruned["size"].outcome == "ok"
    assert "of the teacher's" in pruned["size"].found
    too_many = run(recipe("teacher", prune={"layers": 7}))["pruning"]
    assert too_many.outcome == "problem"
    assert "has 3 layers" in too_many.reason


def test_a_base_without_a_template_is_a_problem(recipe: Any) -> None:
    found = run(recipe("mute"))
    assert found["chat template"].outcome == "problem"
    assert "no chat template" in found["chat template"].reason
    assert found["licence of the base"].outcome == "ok"  # the other checks go on


def test_a_template_that_refuses_the_recipes_chats_is_a_problem(recipe: Any) -> None:
    assert run(recipe("no-system"))["chat template"].outcome == "ok"
    found = run(recipe("no-system", task={"system": "Be brief."}))["chat template"]
    assert found.outcome == "problem"
    assert "no system" in found.reason


def test_an_end_that_the_teacher_never_says_is_a_problem(recipe: Any) -> None:
    """Complaint 6: length explodes where the two end their answers differently."""
    text = run(recipe("endless", "sft"))["end of turn"]
    assert text.found == "'<|stop|>'"
    assert text.outcome == "warning"  # its generation config names another one
    found = run(recipe("endless", "dense_kd"))["end of turn"]
    assert found.outcome == "problem"
    assert "would learn never to stop" in found.reason
    assert run(recipe("small", "dense_kd"))["end of turn"].outcome == "ok"


def test_a_config_that_stops_elsewhere_is_a_warning(recipe: Any, models: Path) -> None:
    """Complaint 6: the template closes turns with one token, and generation stops at another."""
    from transformers import GenerationConfig

    path = models / "small/generation_config.json"
    before = path.read_text()
    try:
        end = tiny_tokenizer().convert_tokens_to_ids("<|endoftext|>")
        GenerationConfig(eos_token_id=end).save_pretrained(models / "small")
        found = run(recipe("small"))["end of turn"]
    finally:
        path.write_text(before)
    assert found.outcome == "warning"
    assert "stops at '<|endoftext|>'" in found.reason


def test_an_end_that_answers_hold_is_left_out_and_none_left_is_a_problem(recipe: Any) -> None:
    row = {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "one <|im_end|> two"},
        ]
    }
    found = run(recipe("small"), rows=[row])["end of turn"]
    assert found.outcome == "problem"
    assert "none is left" in found.reason


def test_chats_longer_than_the_context_are_counted(recipe: Any) -> None:
    loaded = recipe("small")
    short = [{"role": "user", "content": "Hi"}]
    long = [{"role": "user", "content": "word " * 80}]
    fits = run(loaded, prompts=[short])["context"]
    assert fits.outcome == "ok"
    assert "longest answer allowed" in fits.found
    half = run(loaded, prompts=[short, long])["context"]
    assert half.outcome == "warning"
    assert half.reason.startswith("50% of chats")
    assert "task.max_tokens" in half.way_out
    answer = {"role": "assistant", "content": "yes"}
    known = run(loaded, rows=[{"messages": [*long, answer]}])["context"]
    assert known.outcome == "problem"
    beyond = run(recipe("small", max_length=4096, batch_tokens=8192))["context"]
    assert beyond.outcome == "problem"
    assert "positions for 512 tokens" in beyond.reason


def test_an_unknown_licence_is_a_warning(recipe: Any) -> None:
    assert run(recipe("small"))["licence of the base"].found == "apache-2.0"
    assert run(recipe("padded"))["licence of the base"].outcome == "warning"


def test_what_cannot_be_read_is_a_problem_of_its_own(recipe: Any, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text("{")
    found = run(recipe(str(tmp_path / "broken")))
    assert found["base"].outcome == "problem"
    assert "cannot be read" in found["base"].reason
    loaded = recipe("small")
    one = loaded.recipe.students[0]
    assert isinstance(preflight(loaded, one, memory=PLENTY), Preflight)


def test_too_little_memory_says_what_to_lower(recipe: Any) -> None:
    loaded = recipe("small")
    needed = run(loaded)["memory"]
    assert needed.outcome == "ok"
    short = run(loaded, memory=(300 << 20, "this machine"))["memory"]
    assert short.outcome == "problem"
    assert "lora" in short.way_out
    tight = run(loaded, memory=(700 << 20, "this machine"))["memory"]
    assert tight.outcome == "warning"
