"""A student on disk is the one that was trained, or nothing was replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_exports import saved, tiny_card, tiny_student, tiny_tokenizer

from overproof.errors import StudentError
from overproof.records.lm_student import LmStudentCard, is_lm_student
from overproof.train.export import hf, staging
from overproof.train.export.hf import load_lm, save_lm


def logits(module: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return module(input_ids=torch.tensor([ids])).logits[0].float()


def with_lora(student: Any, base: Path) -> Any:
    from peft import LoraConfig, get_peft_model

    base.mkdir(parents=True)
    hf.write_lm(student, base)
    student.module.name_or_path = str(base)
    settings = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        torch.manual_seed(1)
        student.module = get_peft_model(student.module, settings)
        for name, weight in student.module.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    return student


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_student_is_the_one_in_memory(tmp_path: Path, dtype: str) -> None:
    student = tiny_student(dtype=dtype)
    proof = save_lm(student, tiny_card(student), tmp_path / "s", files={"training.json": "{}"})
    assert (proof.dtype, proof.worst_logit) == (dtype, 0.0)
    modes = {path.stat().st_mode for path in (tmp_path / "s").iterdir()}
    assert len(modes) == 1, "whoever may read one of them may read the weights"
    assert proof.same_answers == proof.prompts
    assert proof.same_tokens == proof.texts > 10
    module, tokenizer = load_lm(tmp_path / "s")
    assert next(module.parameters()).dtype == getattr(torch, dtype)
    assert torch.equal(logits(module, [5, 6, 7]), logits(student.module, [5, 6, 7]))
    assert tokenizer.chat_template == student.tokenizer.chat_template
    assert set(module.generation_config.eos_token_id) == student.ends
    assert module.generation_config.eos_token_id[0] == student.end
    assert module.generation_config.temperature in (None, 1.0)
    assert is_lm_student(tmp_path / "s")
    assert (tmp_path / "s/training.json").read_text() == "{}"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s"]  # nothing half-written beside


def test_model_card_says_where_it_comes_from(tmp_path: Path) -> None:
    student = tiny_student()
    card = tiny_card(
        student,
        base="org/base-model",
        base_licence="Some Licence 1.0",
        terms="forbidden",
        attestation="we own the teacher | really",
        notes=("a note\nof two lines",),
    )
    from overproof.records.chat_dataset import TextManifest
    from overproof.train.export.card import CardFacts, model_card

    manifest = TextManifest(
        recipe_sha256="r",
        dataset_sha256="d",
        counts={"train": 40},
        outcomes={},
        origins={"file": 10, "reasoning_gym": 30},
    )
    text = model_card(card, CardFacts(manifest))
    rest = text.removeprefix("---\n").partition("\n---\n")[2]
    from huggingface_hub import ModelCard

    data = ModelCard(text).data.to_dict()
    assert data["license"] == "other"
    assert data["license_name"] == "Some Licence 1.0"
    assert data["base_model"] == "org/base-model"
    assert data["pipeline_tag"] == "text-generation"
    assert set(data["tags"]) == {"overproof", "distillation", "sft", "synthetic"}
    assert "30 of 40 prompts are **synthetic**" in rest
    assert "Attested by who trained it: we own the teacher | really" in rest
    assert "no certificate: nothing is claimed" in rest
    assert "- a note of two lines" in rest


def test_a_lora_is_merged_or_kept(tmp_path: Path) -> None:
    student = with_lora(tiny_student(), tmp_path / "bases/tiny")
    trained = logits(student.module, [5, 6, 7])
    kept = tmp_path / "run/students/kept"
    save_lm(student, tiny_card(student, adapter=True, base_dir="../../../bases/tiny"), kept)
    assert not (kept / "config.json").exists()
    assert (kept / "adapter/adapter_model.safetensors").exists()
    module, tokenizer = load_lm(kept)
    assert torch.equal(logits(module, [5, 6, 7]), trained)
    assert tokenizer.chat_template
    assert "AutoPeftModelForCausalLM" in (kept / "README.md").read_text()

    proof = save_lm(student, tiny_card(student), tmp_path / "run/students/whole")
    assert proof.merge_difference is not None
    assert 0 < proof.merge_difference < 1e-3
    module, _ = load_lm(tmp_path / "run/students/whole")
    assert torch.allclose(logits(module, [5, 6, 7]), trained, atol=1e-3)
    assert not any("lora" in name for name in module.state_dict())


def test_an_adapter_finds_its_base_after_the_run_moved(tmp_path: Path) -> None:
    student = with_lora(tiny_student(), tmp_path / "run/bases/tiny")
    trained = logits(student.module, [5, 6, 7])
    kept = tmp_path / "run/students/kept"
    save_lm(student, tiny_card(student, adapter=True), kept)
    (tmp_path / "run").rename(tmp_path / "moved")
    module, _ = load_lm(tmp_path / "moved/students/kept")
    assert torch.equal(logits(module, [5, 6, 7]), trained)


def test_weights_that_change_when_saved_replace_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tiny_student(), tmp_path / "s")
    before = (tmp_path / "s/model.safetensors").read_bytes()
    other = tiny_student(seed=1)
    load = hf.load_lm

    def damaged(directory: Path, **settings: Any) -> Any:
        module, tokenizer = load(directory, **settings)
        with torch.no_grad():
            module.model.layers[1].mlp.up_proj.weight[0] += 0.01
        return module, tokenizer

    monkeypatch.setattr(hf, "load_lm", damaged)
    with pytest.raises(StudentError, match="in a logit"):
        save_lm(other, tiny_card(other), tmp_path / "s")
    assert (tmp_path / "s/model.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_tokenizer_that_loading_changes_is_found(tmp_path: Path) -> None:
    """transformers rebuilds Qwen2's tokenizers with Qwen2's own splitting, whatever was saved."""
    student = tiny_student(family="qwen2", tokenizer=tiny_tokenizer("smollm"))
    with pytest.raises(StudentError, match=r"splits .* texts differently"):
        save_lm(student, tiny_card(student), tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_an_exception_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s/checkpoints").mkdir(parents=True)
    (tmp_path / "s/checkpoints/last").write_text("steps")
    student = tiny_student()

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(hf, "prove_lm", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_lm(student, tiny_card(student), tmp_path / "s")
    assert (tmp_path / "s/checkpoints/last").read_text() == "steps"
    monkeypatch.undo()
    saved(student, tmp_path / "s")
    assert not (tmp_path / "s/checkpoints").exists()
    assert LmStudentCard.load(tmp_path / "s").name == "tiny"


@pytest.mark.parametrize("old", [True, False])
def test_a_killed_process_leaves_the_old_one_or_nothing(tmp_path: Path, old: bool) -> None:
    target = tmp_path / "s"
    if old:
        target.mkdir()
        (target / "student.json").write_text("old")
    script = """
        import os, signal, sys
        from pathlib import Path
        from overproof.train.export import staging
        moment = sys.argv[2]
        if moment == "moving":
            staging._put = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        with staging.staged_directory(Path(sys.argv[1])) as stage:
            (stage / "student.json").write_text("new")
            if moment == "writing":
                os.kill(os.getpid(), signal.SIGKILL)
    """
    for moment in ("writing", "moving"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), str(target), moment], check=False
        )
        assert done.returncode == -signal.SIGKILL
        assert (target / "student.json").exists() == old
        if old:
            assert (target / "student.json").read_text() == "old"
        assert len(list(tmp_path.glob(".s.*.partial"))) == 1  # and the next one sweeps it
    with staging.staged_directory(target) as stage:
        (stage / "student.json").write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    assert (target / "student.json").read_text() == "new"


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    theirs = tmp_path / f".s.{os.getppid()}.partial"
    theirs.mkdir()
    with staging.staged_directory(tmp_path / "s") as stage:
        (stage / "a").write_text("a")
    assert theirs.exists()


def test_without_an_exchange_of_names_it_takes_two_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging.sys, "platform", "darwin")
    for content in ("one", "two"):
        with staging.staged_directory(tmp_path / "s") as stage:
            (stage / "a").write_text(content)
    assert (tmp_path / "s/a").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    import errno

    def fill() -> None:
        with staging.staged_directory(tmp_path / "s"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StudentError, match="No space left") as raised:
        fill()
    assert "make room" in raised.value.way_out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["no weights", "torn weights", "no tokenizer", "not there"])
def test_a_damaged_directory_is_an_error(tmp_path: Path, damage: str) -> None:
    directory = tmp_path / "s"
    if damage != "not there":
        saved(tiny_student(), directory)
    if damage == "no weights":
        (directory / "model.safetensors").unlink()
    if damage == "torn weights":
        whole = (directory / "model.safetensors").read_bytes()
        (directory / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    if damage == "no tokenizer":
        (directory / "tokenizer.json").unlink()
        (directory / "tokenizer_config.json").unlink()
    with pytest.raises(StudentError):
        load_lm(directory)


async def test_a_kept_adapter_answers_as_local_weights(tmp_path: Path) -> None:
    """Where evaluation looks for it: the directory ``adapter``, wherever the run lies now."""
    from overproof.clients.local_weights import LocalTeacher
    from overproof.config.teacher import TeacherConfig
    from overproof.records.exchange import Message, Outcome, Parameters, Request

    student = with_lora(tiny_student(), tmp_path / "bases/tiny")
    kept = tmp_path / "students/kept"
    save_lm(student, tiny_card(student, adapter=True), kept)
    (tmp_path / "students").rename(tmp_path / "moved")
    (tmp_path / "bases").rename(tmp_path / "moved-too")
    moved = tmp_path / "moved/kept"
    card = LmStudentCard.load(moved)
    card.model_copy(update={"base_dir": "../../moved-too/tiny"}).save(moved)
    texts = []
    for place in (moved / "adapter", tmp_path / "moved-too/tiny"):
        async with LocalTeacher(TeacherConfig(kind="local", model=str(place))) as teacher:
            asked = (Message(role="user", content="Hello"),)
            settings = Parameters(max_tokens=12, temperature=0.0)
            request = Request(model=teacher.model, messages=asked, parameters=settings)
            completion = await teacher.complete(request)
            assert completion.outcome in (Outcome.ANSWERED, Outcome.TRUNCATED)
            texts.append(completion.text)
    assert texts[0] != texts[1]  # the adapter was applied
    expected = student.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello"}], tokenize=False, add_generation_prompt=True
    )
    ids = student.tokenizer(expected, add_special_tokens=False)["input_ids"]
    said: list[int] = []
    while len(said) < 12:
        said.append(int(logits(student.module, ids + said)[-1].argmax()))
        if said[-1] in student.ends:
            break
    assert texts[0] == student.tokenizer.decode(said, skip_special_tokens=True)
