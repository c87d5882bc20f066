from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from overproof.config.recipe import Recipe
from overproof.errors import ConfigError, DataError, MissingExtraError, RunError
from overproof.records.dataset import LabelRow, write_split
from overproof.records.hashing import file_sha256
from overproof.records.student import StudentCard
from overproof.train import methods, students
from overproof.train.export.weights import load_student
from overproof.train.students import train_students

FILES = {
    "student.json",
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "model.onnx",
    "training.json",
}


class Killed(BaseException):
    """Stands for a signal that nobody can catch."""


@pytest.fixture
def no_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real export takes seconds; ``test_export`` and one slow test here hold it."""

    def write(module: Any, tokenizer: Any, path: Path) -> float:
        path.write_bytes(b"graph")
        return 1e-6

    monkeypatch.setattr(methods, "export_onnx", write)


def run(
    recipe: Recipe, dataset: Path, out: Path, base: Path, **more: Any
) -> dict[str, StudentCard]:
    return train_students(recipe=recipe, dataset=dataset, out=out, resolve=lambda _: base, **more)


@pytest.mark.usefixtures("no_onnx")
def test_both_students_are_written_whole(
    recipe: Recipe, dataset: Path, tiny_base: Path, tmp_path: Path
) -> None:
    heard: list[tuple[str, float]] = []
    cards = run(
        recipe,
        dataset,
        tmp_path / "out",
        tiny_base,
        progress=lambda name, share: heard.append((name, share)),
    )
    assert not (dataset / "test.parquet").exists()
    assert not (dataset / "gold.parquet").exists()
    assert list(cards) == ["probe", "encoder"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["encoder", "probe"]
    for kind, card in cards.items():
        directory = tmp_path / "out" / kind
        assert {file.name for file in directory.iterdir()} == FILES
        assert StudentCard.load(directory) == card
        assert (card.name, card.kind, card.base) == (kind, kind, "tiny")
        assert (card.n_train, card.n_tune, card.seed, card.max_length) == (92, 39, 3, 32)
        assert card.base_licence == "apache-2.0"
        assert card.teacher == "fake-1"
        assert card.dataset_sha256 == file_sha256(dataset / "manifest.json")
        assert card.tune_agreement > 0.5
        assert card.temperature > 0.0
        sizes = [point.n_train for point in card.learning_curve]
        assert sizes == ([9, 46, 92] if kind == "probe" else [23, 92])
        assert card.learning_curve[-1].tune_loss == card.tune_loss
        notes = json.loads((directory / "training.json").read_text())
        assert notes["not_trained_on"] == {"train": {"malformed": 4}, "tune": {"malformed": 1}}
        module, tokenizer = load_student(directory)
        assert module.n_parameters == card.parameters
        assert tokenizer.truncation["max_length"] == 32
        shares = [share for name, share in heard if name == kind]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0


@pytest.mark.usefixtures("no_onnx")
def test_a_finished_student_is_kept_and_a_changed_one_is_not(
    recipe: Recipe, dataset: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    cards = run(recipe, dataset, out, tiny_base)
    trained: list[str] = []
    train = methods.train

    def spy(config: Any, *args: Any, **kwargs: Any) -> Any:
        trained.append(type(config).__name__)
        return train(config, *args, **kwargs)

    monkeypatch.setattr(methods, "train", spy)
    assert run(recipe, dataset, out, tiny_base) == cards
    assert trained == []

    encoder = recipe.students.encoder.model_copy(update={"epochs": 1})
    changed = recipe.model_copy(
        update={"students": recipe.students.model_copy(update={"encoder": encoder})}
    )
    run(changed, dataset, out, tiny_base)
    assert trained == ["EncoderConfig"]

    (out / "probe" / "model.onnx").unlink()
    run(changed, dataset, out, tiny_base)
    assert trained == ["EncoderConfig", "ProbeConfig"]

    manifest = dataset / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"letters"', '"words"'))
    run(changed, dataset, out, tiny_base)
    assert trained == ["EncoderConfig", "ProbeConfig", "ProbeConfig", "EncoderConfig"]


@pytest.mark.parametrize("moment", ["export_onnx", "save_weights"])
@pytest.mark.usefixtures("no_onnx")
def test_a_run_killed_while_writing_is_resumed(
    moment: str,
    recipe: Recipe,
    dataset: Path,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"

    def killed(*args: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(methods, moment, killed)
        # A signal nobody can catch leaves the neighbour directory behind.
        patch.setattr(students.shutil, "rmtree", lambda *args, **kwargs: None)
        with pytest.raises(Killed):
            run(recipe, dataset, out, tiny_base)
    assert [p.name for p in out.iterdir()] == [".probe.partial"]
    cards = run(recipe, dataset, out, tiny_base)
    assert {p.name for p in out.iterdir()} == {"probe", "encoder"}
    assert StudentCard.load(out / "probe") == cards["probe"]


def test_a_split_that_is_not_the_frozen_one_is_refused(
    recipe: Recipe, dataset: Path, tiny_base: Path, tmp_path: Path, rows: Any
) -> None:
    write_split(dataset, "tune", rows(3, seed=9))
    with pytest.raises(RunError, match=r"tune\.parquet: is not the file that was frozen"):
        run(recipe, dataset, tmp_path / "out", tiny_base)


def test_no_dataset_is_named(recipe: Recipe, tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no frozen dataset"):
        run(recipe, tmp_path / "none", tmp_path / "out", tiny_base)


def test_nothing_answered_is_named(
    recipe: Recipe, dataset: Path, tiny_base: Path, tmp_path: Path, rows: Any
) -> None:
    unanswered: list[LabelRow] = rows(5, seed=1, malformed=5)
    write_split(dataset, "train", unanswered)
    manifest = json.loads((dataset / "manifest.json").read_text())
    manifest["files"]["train.parquet"] = file_sha256(dataset / "train.parquet")
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="5 malformed"):
        run(recipe, dataset, tmp_path / "out", tiny_base)


def test_a_probe_without_penalties_is_named(
    recipe: Recipe, dataset: Path, tiny_base: Path, tmp_path: Path
) -> None:
    probe = recipe.students.probe.model_copy(update={"l2": ()})
    empty = recipe.model_copy(
        update={"students": recipe.students.model_copy(update={"probe": probe})}
    )
    with pytest.raises(ConfigError, match=r"students\.probe\.l2"):
        run(empty, dataset, tmp_path / "out", tiny_base)


def test_without_torch_the_extra_is_named(
    recipe: Recipe, dataset: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def importer(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *args, **kwargs)

    for name in [n for n in sys.modules if n.startswith("overproof.train.")]:
        if name not in {"overproof.train.signals", "overproof.train.students"}:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sys.modules["overproof.train"], "methods")
    monkeypatch.setattr(builtins, "__import__", importer)
    with pytest.raises(MissingExtraError) as caught:
        run(recipe, dataset, tmp_path / "out", tiny_base)
    assert caught.value.args == ("torch", "train")
