"""From a frozen dataset to student directories: the room's one entrance."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from overproof.clients import registry
from overproof.config.recipe import EncoderConfig, ProbeConfig, Recipe
from overproof.errors import MissingExtraError, RunError, StudentError
from overproof.records.dataset import DatasetManifest, read_split
from overproof.records.hashing import content_hash, file_sha256
from overproof.records.student import StudentCard
from overproof.train.signals import SoftLabels

__all__ = ["KINDS", "train_students"]

Kind = Literal["probe", "encoder"]
KINDS: tuple[Kind, ...] = ("probe", "encoder")

VERSION = 1  # of the methods: raise it when the same recipe would give another student


def train_students(
    *,
    recipe: Recipe,
    dataset: Path,
    out: Path,
    resolve: Callable[[str], Path],
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, StudentCard]:
    """Train the probe and the encoder into ``out/probe`` and ``out/encoder``.

    Reads the train and the tune split alone; of those the answered inputs. A student that was
    finished before, from the same dataset with the same settings, is kept. A directory appears
    under its name when it is complete, so a killed run leaves no half student.

    Args:
        recipe: whose ``[students]`` and ``run.seed`` are used.
        dataset: the frozen dataset.
        out: where the student directories go.
        resolve: the local directory (transformers' format) of a base encoder's name.
        progress: hears a student's name and the share of its work that is done, in [0, 1].

    Returns:
        The cards by student name.

    Raises:
        MissingExtraError: when torch or another module of the ``train`` extra is not installed.
        RunError: when there is no dataset or a split is not the file that was frozen.
        DataError: when nothing was answered.
        ModelError: when a base encoder cannot be loaded.
        StudentError: when training diverges or the export is not faithful.
    """
    # On a busy machine torch's threads spin at their barriers most of the time. libgomp reads this
    # once, when torch is first imported; a user's own setting stands.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    manifest = _read_manifest(dataset)
    dataset_sha256 = file_sha256(dataset / "manifest.json")
    hear = progress or (lambda _name, _share: None)
    data: tuple[SoftLabels, SoftLabels] | None = None
    cards: dict[str, StudentCard] = {}
    for kind in KINDS:
        directory = out / kind
        config: ProbeConfig | EncoderConfig = getattr(recipe.students, kind)
        key = content_hash(
            {
                "version": VERSION,
                "kind": kind,
                "config": config.model_dump(mode="json"),
                "seed": recipe.run.seed,
            }
        )
        card = _finished(directory, key, dataset_sha256)
        if card is None:
            data = data or _read_soft_labels(dataset, manifest)
            facts = {
                "name": kind,
                "kind": kind,
                "labels": manifest.labels,
                "seed": recipe.run.seed,
                "dataset_sha256": dataset_sha256,
                "teacher": recipe.teacher.model,
            }
            card = _train_one(config, data, directory, key, facts, resolve, hear)
        hear(kind, 1.0)
        cards[kind] = card
    return cards


def _train_one(  # noqa: PLR0917
    config: ProbeConfig | EncoderConfig,
    data: tuple[SoftLabels, SoftLabels],
    directory: Path,
    key: str,
    facts: dict[str, Any],
    resolve: Callable[[str], Path],
    hear: Callable[[str, float], None],
) -> StudentCard:
    """Train, export and write one student; its directory appears when it is complete."""
    try:
        from overproof.train import methods
    except ImportError as error:
        raise MissingExtraError(str(error.name or "torch").partition(".")[0], "train") from error
    kind, (train, tune) = facts["kind"], data
    directory_of_base = resolve(config.base)
    pinned = registry.find(config.base)
    trained = methods.train(
        config,
        directory_of_base,
        train,
        tune,
        seed=facts["seed"],
        step=lambda share: hear(kind, share),
    )
    with _replacing(directory) as partial:
        difference = methods.write(trained, partial)
        notes = {
            "config_sha256": key,
            "config": config.model_dump(mode="json"),
            "not_trained_on": {"train": train.left_out, "tune": tune.left_out},
            **trained.notes,
        }
        text = json.dumps(notes, indent=2, ensure_ascii=False)
        (partial / "training.json").write_text(text + "\n", encoding="utf-8")
        card = StudentCard(
            base=config.base,
            base_licence=pinned.licence if pinned else trained.base.licence,
            temperature=trained.score.temperature,
            max_length=trained.base.max_length,
            parameters=trained.module.n_parameters,
            n_train=len(train),
            n_tune=len(tune),
            train_seconds=trained.seconds,
            onnx_max_difference=difference,
            tune_agreement=trained.score.agreement,
            tune_loss=trained.score.loss,
            learning_curve=trained.learning_curve,
            **facts,
        )
        card.save(partial)
    return card


def _read_manifest(dataset: Path) -> DatasetManifest:
    """The manifest, with only the splits that training may open checked against it."""
    path = dataset / "manifest.json"
    if not path.exists():
        raise RunError(str(dataset), "holds no frozen dataset", "run `overproof collect`")
    try:
        manifest = DatasetManifest.model_validate_json(path.read_text())
    except ValueError as error:
        raise RunError(
            str(path), f"is not a manifest: {error}", "run `overproof collect`"
        ) from error
    for name in ("train.parquet", "tune.parquet"):
        file = dataset / name
        frozen = manifest.files.get(name)
        if not file.exists() or (frozen is not None and file_sha256(file) != frozen):
            raise RunError(
                str(file),
                "is not the file that was frozen",
                f"restore it, or remove {dataset} and run `overproof collect` again: "
                "the ledger has every answer, so nothing is paid twice",
            )
    return manifest


def _read_soft_labels(dataset: Path, manifest: DatasetManifest) -> tuple[SoftLabels, SoftLabels]:
    train = SoftLabels.from_rows(
        read_split(dataset, "train"), manifest.labels, str(dataset / "train.parquet")
    )
    tune = SoftLabels.from_rows(
        read_split(dataset, "tune"), manifest.labels, str(dataset / "tune.parquet")
    )
    return train, tune


def _finished(directory: Path, key: str, dataset_sha256: str) -> StudentCard | None:
    """The card of a student that is complete and was trained from the same; else ``None``."""
    try:
        card = StudentCard.load(directory)
        notes = json.loads((directory / "training.json").read_text())
    except (StudentError, OSError, ValueError):
        return None  # not finished, or not ours to keep: it is trained again
    files = ("model.safetensors", "config.json", "tokenizer.json", "model.onnx")
    complete = all((directory / name).exists() for name in files)
    same = card.dataset_sha256 == dataset_sha256 and notes.get("config_sha256") == key
    return card if complete and same else None


@contextmanager
def _replacing(directory: Path) -> Iterator[Path]:
    """A fresh neighbour of ``directory`` that takes its place when the block is done."""
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if directory.exists():
            # Without its card the old student no longer counts as finished, whatever comes next.
            (directory / "student.json").unlink(missing_ok=True)
            shutil.rmtree(directory)
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
