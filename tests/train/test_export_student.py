"""Exports run by llama.cpp and transformers, proved against the student."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from tiny_exports import saved, tiny_card, tiny_student, tiny_tokenizer

from overproof.errors import MissingExtraError, StudentError
from overproof.records.lm_export import Exports, GgufProof, HfProof
from overproof.train.export import gguf_file, gguf_proof, gguf_vocabulary, llama_names, run
from overproof.train.export.run import export_student, student_of


def test_safetensors_export_is_a_student_of_its_own(tmp_path: Path) -> None:
    directory = saved(tiny_student(), tmp_path / "run/students/a")
    report = export_student(tmp_path / "run", "safetensors")
    assert isinstance(report.proof, HfProof)
    assert report.proof.worst_logit == 0.0
    place = directory / "export"
    assert Exports.load(place).exports == (report,)
    assert report.file == "safetensors"
    assert (place / "safetensors/config.json").exists()
    again = export_student(place / "safetensors", "safetensors", tmp_path / "out")
    assert again.sha256 == report.sha256


def test_what_cannot_be_exported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StudentError, match="no finished student"):
        export_student(tmp_path, "safetensors")
    (tmp_path / "students").mkdir()
    with pytest.raises(StudentError, match="overproof train"):
        student_of(tmp_path)
    saved(tiny_student(), tmp_path / "students/a")
    (tmp_path / "students/b").mkdir()
    (tmp_path / "students/b/student.json").write_text("{}")
    with pytest.raises(StudentError, match="a, b"):
        student_of(tmp_path)
    with pytest.raises(StudentError, match="no format"):
        export_student(tmp_path / "students/a", "onnx")  # type: ignore[arg-type]
    (tmp_path / "a-file").write_text("")
    with pytest.raises(StudentError, match="cannot be written"):
        export_student(tmp_path / "students/a", "safetensors", tmp_path / "a-file")
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError):
        export_student(tmp_path / "students/a", "gguf-f16")


def test_one_export_into_a_place_at_a_time(tmp_path: Path) -> None:
    import fcntl

    directory = saved(tiny_student(), tmp_path / "s")
    (directory / "export").mkdir()
    with (directory / "export/.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StudentError, match="another process"):
            export_student(directory, "safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}),
        ("llama", {"head_dim": 32, "dtype": "bfloat16"}),
        ("mistral", {"sliding_window": None}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 32}),
    ],
)
def test_every_family_answers_alike_in_llama_cpp(
    tmp_path: Path, family: str, settings: dict[str, Any]
) -> None:
    directory = saved(tiny_student(family=family, **settings), tmp_path / "s")
    report = export_student(directory, "gguf-f16")
    proof = report.proof
    assert isinstance(proof, GgufProof)
    assert proof.agreement >= 0.99
    assert proof.mean_difference <= 0.01
    assert proof.texts > 10
    assert (directory / "export" / report.file).stat().st_size == report.bytes
    assert not list((directory / "export").glob(".partial-*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["linear", "llama3", "yarn"])
def test_scaled_positions_answer_alike(tmp_path: Path, kind: str) -> None:
    rope: dict[str, Any] = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0}
    if kind != "linear":
        rope["original_max_position_embeddings"] = 128
    if kind == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    directory = saved(tiny_student(rope_parameters=rope), tmp_path / "s")
    proof = export_student(directory, "gguf-f16").proof
    assert isinstance(proof, GgufProof)
    assert proof.agreement >= 0.99


@pytest.mark.slow
def test_a_wrong_export_is_found_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = saved(tiny_student(), tmp_path / "s")
    with monkeypatch.context() as patched:  # rows of q and k left as they are
        patched.setattr(llama_names, "in_ggml_order", lambda name, weight, *_: weight)
        with pytest.raises(StudentError, match=r"answers differently in llama\.cpp"):
            export_student(directory, "gguf-f16")
    with monkeypatch.context() as patched:  # digits in pieces of three
        patched.setattr(gguf_vocabulary, "pretokenizer_of", lambda *_: "gpt-2")
        with pytest.raises(StudentError, match="other tokens"):
            export_student(directory, "gguf-f16")
    with monkeypatch.context() as patched:  # another chat template
        patched.setattr(gguf_vocabulary, "_template", lambda *_: "{{ messages[0]['content'] }}")
        with pytest.raises(StudentError, match="reads the chat about"):
            export_student(directory, "gguf-f16")
    with monkeypatch.context() as patched:  # a file that llama.cpp cannot load
        patched.setattr(gguf_file, "_pack", lambda *_: None)
        with pytest.raises(StudentError, match="could not load it"):
            export_student(directory, "gguf-f16")
    assert sorted(p.name for p in (directory / "export").iterdir()) == [".lock"]
    export_student(directory, "gguf-f16")


@pytest.mark.slow
def test_a_killed_export_leaves_the_old_one(tmp_path: Path) -> None:
    directory = saved(tiny_student(), tmp_path / "s")
    first = export_student(directory, "gguf-f16")
    script = (
        "import sys, time\nfrom pathlib import Path\n"
        "from overproof.train.export import gguf_proof, run\n"
        "gguf_proof.prove_gguf = lambda *a, **k: (print('written', flush=True), time.sleep(60))\n"
        "run.export_student(Path(sys.argv[1]), 'gguf-f16')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "written"
    process.kill()
    process.wait()
    process.stdout.close()
    place = directory / "export"
    assert len(list(place.glob(".partial-*"))) == 1
    assert [p.name for p in place.glob("*.gguf")] == [first.file]
    assert Exports.load(place).exports == (first,)
    again = export_student(directory, "gguf-f16")
    assert not list(place.glob(".partial-*"))
    assert again.sha256 == first.sha256  # the same bytes


@pytest.mark.slow
def test_an_adapter_is_merged_into_its_gguf(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    from overproof.train.export import hf

    student = tiny_student()
    hf.write_lm(student, tmp_path / "bases/tiny")
    settings = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(1)
        student.module = get_peft_model(student.module, settings)
        for name, weight in student.module.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    directory = tmp_path / "students/a"
    hf.save_lm(student, tiny_card(student, adapter=True), directory)
    report = export_student(directory, "gguf-f16")
    assert isinstance(report.proof, GgufProof)
    assert report.proof.agreement >= 0.99
    whole = export_student(directory, "safetensors")
    assert (directory / "export" / whole.file / "model.safetensors").exists()
    assert "the LoRA is merged into the weights" in whole.notes


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M as a student's directory; reading the GGUF file takes most of it."""
    from overproof.clients import local_model, registry
    from overproof.config.teacher import TeacherConfig
    from overproof.errors import ModelError
    from overproof.train.export import hf
    from overproof.train.lm.parts import LmStudent

    name = "SmolLM2-135M-Instruct"
    try:
        registry.resolve(name)
    except ModelError:
        pytest.skip(f"{name} was not pulled")
    loaded = local_model.load(local_model.source_of(name), TeacherConfig(kind="local", model=name))
    tokenizer = loaded.chat._tokenizer
    student = LmStudent(
        name="smollm2",
        module=loaded.module,
        tokenizer=tokenizer,
        base=name,
        base_dir="none",
        base_licence="apache-2.0",
        end=tokenizer.eos_token_id,
        ends=loaded.ends,
        context=loaded.context,
    )
    directory = tmp_path_factory.mktemp("run") / "students/smollm2"
    directory.mkdir(parents=True)
    hf.write_lm(student, directory)
    tiny_card(student).save(directory)
    return directory


@pytest.mark.slow
def test_smollm2_in_three_formats(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from overproof.train.export.hf import load_lm
    from overproof.train.export.samples import CHATS

    module, tokenizer = load_lm(smollm2)
    reference = gguf_proof.reference_of(module, tokenizer, CHATS[:2])
    del module
    monkeypatch.setattr(gguf_proof, "reference_of", lambda *_: reference)
    sizes = {}
    for kind in ("gguf-f16", "gguf-q8_0", "gguf-q4_0"):
        report = export_student(smollm2, kind)  # type: ignore[arg-type]
        sizes[kind] = report.bytes
        assert isinstance(report.proof, GgufProof)
    assert sizes["gguf-q4_0"] < sizes["gguf-q8_0"] < sizes["gguf-f16"]
    told = {report.format: report.proof for report in Exports.load(smollm2 / "export").exports}
    assert len(told) == 3
    assert told["gguf-f16"].mean_difference < told["gguf-q8_0"].mean_difference  # type: ignore[union-attr]


VLLM = os.environ.get("OVERPROOF_TEST_VLLM_PYTHON")


@pytest.mark.slow
@pytest.mark.skipif(not VLLM, reason="OVERPROOF_TEST_VLLM_PYTHON names no python with vLLM")
def test_vllm_loads_the_directory(tmp_path: Path) -> None:
    """vLLM on the saved directory answers greedily as transformers does."""
    student = tiny_student(head_dim=64, tokenizer=tiny_tokenizer("gpt-2"))
    directory = saved(student, tmp_path / "s")
    # A CPU build takes half of the memory and pins its threads where nothing else is said.
    small = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    script = (
        "import json, sys\n"
        "if __name__ == '__main__':\n"
        "    from vllm import LLM, SamplingParams\n"
        "    llm = LLM(sys.argv[1], max_model_len=128, enforce_eager=True, dtype='float32')\n"
        "    said = llm.chat([[{'role': 'user', 'content': 'Hello 12'}]],\n"
        "        SamplingParams(temperature=0, max_tokens=8), use_tqdm=False)\n"
        "    print('RESULT', json.dumps([list(said[0].prompt_token_ids),\n"
        "        list(said[0].outputs[0].token_ids)]))\n"
    )
    path = tmp_path / "ask.py"
    path.write_text(script)
    done = subprocess.run(
        [str(VLLM), str(path), str(directory)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | small,
        cwd=tmp_path,
    )
    told = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert told, done.stderr[-3000:]
    prompt, answer = json.loads(told[0].removeprefix("RESULT "))
    messages = [{"role": "user", "content": "Hello 12"}]
    text = student.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    assert prompt == student.tokenizer(text, add_special_tokens=False)["input_ids"]
    import torch

    ids = list(prompt)
    for token in answer:
        with torch.no_grad():
            logits = student.module(input_ids=torch.tensor([ids])).logits[0, -1]
        assert float(logits.max() - logits[token]) < 1e-3
        ids.append(token)
