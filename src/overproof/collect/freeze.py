"""From answers to a frozen dataset: calibrated rows in four files, hashed, then never changed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overproof.collect.calibrate import apply_calibration, fit_bias, fit_calibration, log_masses
from overproof.collect.inputs import InputItem, Inputs
from overproof.collect.signal import LabelAnswer
from overproof.collect.splits import Splits
from overproof.config.load import LoadedRecipe
from overproof.config.recipe import Recipe
from overproof.records.dataset import (
    DatasetManifest,
    LabelRow,
    TeacherCalibration,
    write_gold,
    write_manifest,
    write_split,
)
from overproof.records.exchange import Outcome
from overproof.records.files import write_atomically
from overproof.records.hashing import content_hash, file_sha256
from overproof.records.run import RunPaths

__all__ = ["Answers", "Facts", "freeze", "write_failed"]

ASKED = ("train", "tune", "test")


@dataclass
class Answers:
    """What the teacher said, by item; ``second`` holds the independent second askings."""

    first: dict[str, LabelAnswer] = field(default_factory=dict)
    second: dict[str, LabelAnswer] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """How the answers came about, for the manifest."""

    rendering: str
    from_logprobs: bool
    second_asking: str
    provenance: dict[str, int]
    teacher: dict[str, str]
    notes: tuple[str, ...]
    drift: dict[str, Any] | None = None


def freeze(
    loaded: LoadedRecipe, inputs: Inputs, splits: Splits, answers: Answers, facts: Facts
) -> DatasetManifest:
    """Calibrate, write the dataset beside its place, and move it there in one step."""
    recipe = loaded.recipe
    paths = RunPaths(loaded.run_dir)
    calibration = _calibrate(recipe, splits, answers, facts.from_logprobs)
    partial = paths.dir / "dataset.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    rows = {name: _rows(recipe, getattr(splits, name), answers, calibration) for name in ASKED}
    rows["examples"] = [_example_row(recipe, item) for item in splits.examples]
    for name, split in rows.items():
        write_split(partial, name, split)
    if recipe.data.gold:
        write_gold(partial, {item.item: item.gold or "" for item in splits.test})
    outcomes = {name: dict(Counter(row.outcome.value for row in rows[name])) for name in ASKED}
    manifest = DatasetManifest(
        labels=tuple(recipe.task.labels),
        input_file=Path(inputs.source).name,
        input_sha256=_input_hash(loaded, inputs),
        recipe_sha256=loaded.sha256,
        counts=splits.counts(),
        outcomes=outcomes,
        exact_duplicates=inputs.exact_duplicates,
        near_duplicates=splits.near_duplicates,
        near_duplicate_threshold=recipe.data.near_duplicate,
        signal="log-probs" if facts.from_logprobs else "votes",
        rendering=facts.rendering,
        second_asking=facts.second_asking,
        calibration=calibration,
        provenance=facts.provenance,
        teacher=dict(facts.teacher),
        files={path.name: file_sha256(path) for path in sorted(partial.glob("*.parquet"))},
        notes=tuple(inputs.notes()) + facts.notes,
        drift=facts.drift,
    )
    write_manifest(partial, manifest)
    shutil.rmtree(paths.dataset, ignore_errors=True)
    partial.replace(paths.dataset)
    return manifest


def _calibrate(
    recipe: Recipe, splits: Splits, answers: Answers, from_logprobs: bool
) -> TeacherCalibration:
    """Fit on the training pool. Votes are shares of answers already: no prior is forced on them."""
    labels = list(recipe.task.labels)
    train = [item.item for item in splits.train]
    valid = [item for item in train if answers.first[item].outcome is Outcome.ANSWERED]
    if not valid:
        return TeacherCalibration(bias=tuple(0.0 for _ in labels))
    points = np.array([answers.first[item].point for item in valid])
    prior = _prior(recipe, splits) if from_logprobs else None
    bias = np.zeros(len(labels)) if prior is None else fit_bias(log_masses(points), prior)
    twice = [
        item
        for item in valid
        if item in answers.second and answers.second[item].outcome is Outcome.ANSWERED
    ]
    second = None
    if twice:
        again = log_masses(np.array([answers.second[item].point for item in twice])) + bias
        second = (np.array([answers.first[item].point for item in twice]), again.argmax(axis=1))
    fitted_on = "training inputs, no gold"
    if prior is not None and recipe.task.prior == "examples":
        n = len(splits.examples)
        fitted_on = f"training inputs; the prior from the gold labels of {n} examples"
    return fit_calibration(points, prior, second, fitted_on=fitted_on)


def _prior(recipe: Recipe, splits: Splits) -> NDArray[np.float64] | None:
    labels = list(recipe.task.labels)
    prior = recipe.task.prior
    if prior == "none":
        return None
    if isinstance(prior, dict):
        return np.array([prior[label] for label in labels])
    if prior == "examples":  # one more of each: a label absent from a small pool is not impossible
        counts = Counter(item.gold for item in splits.examples)
        return np.array([counts[x] + 1 for x in labels]) / (len(splits.examples) + len(labels))
    return np.full(len(labels), 1 / len(labels))


def _rows(
    recipe: Recipe, items: list[InputItem], answers: Answers, calibration: TeacherCalibration
) -> list[LabelRow]:
    labels = list(recipe.task.labels)
    rows = []
    for item in items:
        answer = answers.first[item.item]
        second = answers.second.get(item.item)
        valid = answer.outcome is Outcome.ANSWERED
        soft = apply_calibration(answer.point[None], calibration)[0] if valid else np.zeros(0)
        again = None
        if second is not None and second.outcome is Outcome.ANSWERED:
            again = labels[int(apply_calibration(second.point[None], calibration)[0].argmax())]
        rows.append(
            LabelRow(
                item=item.item,
                text=item.text,
                outcome=answer.outcome,
                label=labels[int(soft.argmax())] if valid else None,
                probabilities=tuple(map(float, soft)),
                low=tuple(map(float, answer.low)) if valid else (),
                high=tuple(map(float, answer.high)) if valid else (),
                second=again,
                second_outcome=second.outcome if second else None,
                request_keys=answer.request_keys,
            )
        )
    return rows


def _example_row(recipe: Recipe, item: InputItem) -> LabelRow:
    """An example was never put to the teacher: it carries no distribution."""
    shown = item.gold if recipe.task.examples_per_label else None
    return LabelRow(item=item.item, text=item.text, outcome=Outcome.ANSWERED, label=shown)


def _input_hash(loaded: LoadedRecipe, inputs: Inputs) -> str:
    files = [path for path in (loaded.input_file, loaded.test_file) if path is not None]
    if not files:
        return content_hash([item.item for item in inputs.items])
    return content_hash([file_sha256(path) for path in files])


def write_failed(path: Path, splits: Splits, answers: Answers) -> None:
    """Write the inputs without a valid answer, one JSON object a line with the reason."""
    lines = [
        json.dumps(
            {
                "split": name,
                "item": item.item,
                "text": item.text,
                "outcome": answers.first[item.item].outcome.value,
                "reason": answers.first[item.item].error,
            },
            ensure_ascii=False,
        )
        for name in ASKED
        for item in getattr(splits, name)
        if answers.first[item.item].outcome is not Outcome.ANSWERED
    ]
    path.unlink(missing_ok=True)
    if lines:
        write_atomically(path, "\n".join(lines) + "\n")
