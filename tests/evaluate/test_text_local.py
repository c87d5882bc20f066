"""Certificates over real weights, tiny and random: perplexities, and an adapter."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from text_world import NOW, add_student, collect, write_recipe
from tiny_lm import write_tiny_lm

from overproof.evaluate.text.certify import certify_text

WIDE = 'scorer = "exact"\nbootstrap = 200\nmargin = 0.2'


@pytest.mark.slow
def test_local_weights_read_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write_tiny_lm(tmp_path / "weights")
    loaded = write_recipe(tmp_path, kind="local", model=str(place), certificate=WIDE)
    collect(monkeypatch, loaded)
    add_student(loaded, place, place)
    found = certify_text(loaded, now=NOW, say=lambda _: None)
    small = found.contestants[1]
    assert small.outcomes == {"truncated": 20}
    assert small.degeneration.unstopped.estimate == 1.0
    teacher, base = found.contestants[0], found.contestants[2]
    assert teacher.teacher_perplexity is not None
    assert small.teacher_perplexity == base.teacher_perplexity
    # The same weights as the teacher's: it reads the teacher's text as the teacher itself does.
    assert small.perplexity_of_teacher is not None
    assert small.perplexity_of_teacher.estimate == pytest.approx(
        teacher.teacher_perplexity.estimate, rel=1e-4
    )
    assert small.teacher_perplexity is not None
    # What weights say at temperature 0 is what they find likely.
    assert small.teacher_perplexity.estimate < teacher.teacher_perplexity.estimate
    assert teacher.parameters == 67_248


@pytest.mark.slow
def test_an_adapter_is_measured_on_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter whose weights were set by hand answers otherwise than its base."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from overproof.clients.quiet import quiet_transformers

    place = write_tiny_lm(tmp_path / "weights")
    loaded = write_recipe(tmp_path, certificate=WIDE, students=["low"])
    collect(monkeypatch, loaded)
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an older name
        config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(place), config)
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=2.0)
        directory = add_student(loaded, tmp_path / "weights", place, "low", adapter=True)
        (directory / "model.safetensors").unlink()
        model.save_pretrained(directory / "adapter")
        AutoTokenizer.from_pretrained(place).save_pretrained(directory / "adapter")
    world = certify_text(loaded, now=NOW, say=lambda _: None)
    said = {
        name: [line["text"] for line in map(json.loads, path.read_text().splitlines())]
        for name in ("low", "base")
        for path in (loaded.run_dir / "answers").glob(f"{name}*/test.jsonl")
    }
    assert len(said["low"]) == len(said["base"]) == 20
    assert said["low"] != said["base"]
    assert world.contestants[1].n == 20
