from __future__ import annotations

import importlib.util
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from overproof.cli.main import app
from overproof.config.teacher_file import load_teacher
from overproof.errors import (
    ConfigError,
    MissingExtraError,
    OverproofError,
    SecretError,
    StudentError,
)
from overproof.evaluate.serve_chat_start import ServeOptions, find_talker, serve_talker
from overproof.evaluate.text.deferral_rule import DeferralRule, record_rule, student_sha256
from overproof.records.lm_export import ExportReport, Exports, GgufProof
from overproof.records.lm_student import LmStudentCard


def write_student(run: Path, name: str = "small", **changes: Any) -> Path:
    directory = run / "students" / name
    directory.mkdir(parents=True)
    for file in ("config.json", "tokenizer_config.json"):
        (directory / file).write_text("{}")
    (directory / "model.safetensors").write_text("w")
    facts = {
        "name": name, "method": "sft", "base": "b", "base_dir": "../../bases/b",
        "teacher": "big", "parameters": 1, "trainable": 1, "vocabulary": 9,
        "context_length": 512, "precision": "float32", "steps": 1, "tokens": 1,
        "answer_tokens": 1, "n_train": 1, "train_seconds": 1.0, "seed": 0,
        "dataset_sha256": "0", "config_sha256": "0",
    }  # fmt: skip
    LmStudentCard.model_validate(facts | changes).save(directory)
    return directory


def write_export(directory: Path, form: str = "gguf-q8_0") -> Path:
    home = directory / "export"
    home.mkdir(exist_ok=True)
    file = home / f"small.{form}.gguf"
    file.write_text("GGUF")
    proof = GgufProof(
        prompts=1, positions=1, agreement=1, mean_difference=0, worst_difference=0,
        same_answers=1, answer_tokens=1, texts=1, least_agreement=0.9, most_difference=0.1,
        engine="x",
    )  # fmt: skip
    facts = {
        "format": form, "student": "small", "file": file.name, "bytes": 4, "sha256": "0",
        "seconds": 1.0, "proof": proof,
    }  # fmt: skip
    Exports.load(home).add(ExportReport.model_validate(facts), home)
    return file


def home_of(path: Path) -> Any:
    home = find_talker(path)
    assert home is not None
    return home


def backend_of(path: Path, **options: Any) -> str:
    served = serve_talker(home_of(path), ServeOptions(**options))
    return served.lines[0].split()[1]


def test_a_run_stands_for_its_only_student(tmp_path: Path) -> None:
    one = write_student(tmp_path)
    assert home_of(tmp_path).directory == one
    assert home_of(one).name == "small"
    (tmp_path / "students" / "half" / "checkpoints").mkdir(parents=True)  # still being trained
    assert home_of(tmp_path).directory == one
    write_student(tmp_path, "other")
    with pytest.raises(StudentError, match="several students"):
        find_talker(tmp_path)


def test_students_of_another_kind_are_left_to_others(tmp_path: Path) -> None:
    assert find_talker(tmp_path) is None
    assert find_talker(tmp_path / "nothing") is None
    label = tmp_path / "students" / "encoder"
    label.mkdir(parents=True)
    (label / "student.json").write_text('{"kind": "encoder"}')
    assert find_talker(label) is None
    assert find_talker(tmp_path) is None
    with pytest.raises(StudentError, match="is not a file"):
        find_talker(tmp_path / "none.gguf")


def test_auto_takes_what_there_is(tmp_path: Path) -> None:
    one = write_student(tmp_path)
    assert backend_of(one) == "transformers"
    file = write_export(one, "gguf-q4_0")
    assert home_of(one).gguf == file
    better = write_export(one)
    assert home_of(one).gguf == better
    assert backend_of(one) == "llamacpp"
    assert backend_of(one, backend="transformers") == "transformers"
    assert backend_of(better) == "llamacpp"
    assert home_of(better).directory == one
    assert backend_of(one, upstream="http://127.0.0.1:9/v1") == "vllm"
    better.unlink()
    assert home_of(one).gguf == file  # not what is only listed


def test_a_file_older_than_the_student_is_refused(tmp_path: Path) -> None:
    one = write_student(tmp_path)
    file = write_export(one)
    os.utime(file, (1, 1))
    with pytest.raises(StudentError, match="older than the student"):
        serve_talker(home_of(one), ServeOptions())


def test_what_is_missing_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = write_student(tmp_path)
    with pytest.raises(StudentError, match="overproof export"):
        serve_talker(home_of(one), ServeOptions(backend="llamacpp"))
    alone = tmp_path / "alone.gguf"
    alone.write_text("GGUF")
    with pytest.raises(StudentError, match="llamacpp"):
        serve_talker(home_of(alone), ServeOptions(backend="transformers"))
    with pytest.raises(StudentError, match="belongs to no student"):
        serve_talker(home_of(alone), ServeOptions(defer_to=tmp_path / "x.toml"))
    adapter = write_student(tmp_path, "lora", adapter=True)
    with pytest.raises(StudentError, match="safetensors"):
        serve_talker(home_of(adapter), ServeOptions())
    (one / "tokenizer_config.json").write_text("{")
    with pytest.raises(StudentError, match="tokenizer_config"):
        serve_talker(home_of(one), ServeOptions())
    write_export(one)
    found = importlib.util.find_spec
    gone = {"xllamacpp", "torch"}
    monkeypatch.setattr("importlib.util.find_spec", lambda n: None if n in gone else found(n))
    with pytest.raises(MissingExtraError, match="embedded"):
        serve_talker(home_of(one), ServeOptions(backend="llamacpp"))
    (one / "tokenizer_config.json").write_text("{}")
    with pytest.raises(MissingExtraError, match="local"):
        serve_talker(home_of(one), ServeOptions())
    monkeypatch.setattr("overproof.clients.vllm_process.find_vllm", lambda: None)
    with pytest.raises(ConfigError, match="vLLM"):
        serve_talker(home_of(one), ServeOptions(backend="vllm"))


def test_an_upstream_is_vllms_alone_and_its_key_is_there(tmp_path: Path) -> None:
    home = home_of(write_student(tmp_path))
    with pytest.raises(ConfigError, match="--upstream names one"):
        serve_talker(home, ServeOptions(backend="llamacpp", upstream="http://127.0.0.1:9/v1"))
    for url in ("nonsense", "http://me:hush@127.0.0.1/v1", "http://127.0.0.1/v1?key=hush"):
        with pytest.raises(ConfigError) as caught:
            serve_talker(home, ServeOptions(upstream=url))
        assert "hush" not in str(caught.value)
    with pytest.raises(SecretError, match="NO_SUCH_KEY"):
        serve_talker(
            home, ServeOptions(upstream="http://127.0.0.1:9/v1", upstream_key_env="NO_SUCH_KEY")
        )


def deferring(tmp_path: Path, **changes: Any) -> tuple[Path, Path]:
    one = write_student(tmp_path)
    facts = {
        "student": "small", "student_sha256": student_sha256(one), "teacher": "fake-teacher",
        "threshold": 0.5, "stated": 0.9, "n_tune": 100,
    }  # fmt: skip
    record_rule(tmp_path, DeferralRule.model_validate(facts | changes))
    teacher = tmp_path / "teacher.toml"
    teacher.write_text('[teacher]\nkind = "fake"\nmodel = "fake-teacher"\n')
    return one, teacher


def test_deferring_says_what_is_promised(tmp_path: Path) -> None:
    one, teacher = deferring(tmp_path)
    write_export(one)
    served = serve_talker(home_of(one), ServeOptions(defer_to=teacher))
    assert served.lines[0] == "backend transformers"  # what it was calibrated on
    assert "at least 0.9 of requests like the tune prompts" in served.lines[1]
    assert served.warnings == ()
    other = serve_talker(home_of(one), ServeOptions(defer_to=teacher, backend="llamacpp"))
    assert "calibrated on answers of transformers" in other.warnings[0]
    teacher.write_text('[teacher]\nkind = "fake"\nmodel = "another"\n')
    third = serve_talker(home_of(one), ServeOptions(defer_to=teacher))
    assert "calibrated against fake-teacher" in third.warnings[0]
    teacher.write_text('[teacher]\nkind = "ledger"\nmodel = "another"\n')
    with pytest.raises(ConfigError, match="no teacher that could be asked"):
        serve_talker(home_of(one), ServeOptions(defer_to=teacher))
    (one / "model.safetensors").write_text("v")
    with pytest.raises(StudentError, match="trained again"):
        serve_talker(home_of(one), ServeOptions(defer_to=teacher))


def test_a_teacher_file_is_a_recipe_or_a_section(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        '[run]\nname = "r"\ndir = "r"\n[teacher]\nkind = "fake"\nmodel = "m"\n'
        '[data]\nfile = "p.csv"\n[task]\nkind = "text"\nmax_tokens = 77\ntemperature = 0.3\n'
        'stop = ["##"]\n'
    )
    found = load_teacher(tmp_path)
    assert (found.config.model, found.max_tokens, found.temperature) == ("m", 77, 0.3)
    assert found.stop == ("##",)
    with pytest.raises(ConfigError, match="no such file"):
        load_teacher(tmp_path / "none.toml")
    for text, said in (
        ("[teacher", "is not TOML"),
        ("[x]\n", "unknown key"),
        ('[teacher]\nkind = "openai"\nmodle = "x"\n', "did you mean 'model'"),
        ('[teacher]\nkind = "openai"\nmodel = "x"\n', "base_url"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=said):
            load_teacher(path)
    secret = "sk-proj-" + "a1B2c3D4" * 6
    path.write_text(
        '[teacher]\nkind = "openai"\nmodel = "x"\nbase_url = "http://h/v1"\n'
        f'api_key_env = "{secret}"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_teacher(path)
    assert secret not in str(caught.value)


def run(*arguments: str) -> OverproofError:
    from overproof.cli.commands import register

    register(app)
    result = CliRunner().invoke(app, ["serve", *arguments])
    assert isinstance(result.exception, OverproofError), result.output
    return result.exception


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    one, teacher = deferring(tmp_path)
    assert "holds no finished student" in str(run(str(tmp_path / "students")))
    assert "is not set" in str(run(str(one), "--api-key-env", "NO_SUCH_KEY"))
    label = tmp_path / "label"
    label.mkdir()
    (label / "student.json").write_text(json.dumps({"kind": "encoder"}))
    assert "answers with labels" in str(run(str(label), "--defer-to", str(teacher)))
    assert "is not a student card" in str(run(str(label)))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert "cannot be listened on" in str(run(str(one), "--port", port))
