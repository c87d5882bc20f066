"""The test split as arrays: gold, what the teacher said, and what every other candidate said.

Shapes: N test inputs, L labels. A label of -1 is an answer that was not valid.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from overproof.errors import DataError, StudentError
from overproof.records.dataset import DatasetManifest, LabelRow
from overproof.records.exchange import Outcome

__all__ = [
    "MAJORITY",
    "RAW",
    "TEACHER",
    "Answers",
    "HeldOut",
    "Prediction",
    "majority_label",
    "student_answers",
]

TEACHER, RAW, MAJORITY = "teacher", "teacher, raw", "majority"


Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
INVALID = -1


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a student said of the test split: calibrated probabilities, N x L, in file order."""

    probabilities: Floats


@dataclass(frozen=True, eq=False)
class Answers:
    """One candidate's labels (N) with its confidence in each, NaN where it gave none."""

    label: Ints
    confidence: Floats

    @property
    def valid(self) -> Bools:
        """Where there is a valid answer, N booleans."""
        return np.not_equal(self.label, INVALID)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The test split.

    ``gold`` is ``None`` where the recipe has none. ``second`` is the teacher's label when it was
    asked again, read only where ``asked_twice``.
    """

    labels: tuple[str, ...]
    texts: tuple[str, ...]
    gold: Ints | None
    teacher: Answers
    teacher_raw: Answers
    second: Ints
    asked_twice: Bools
    width: Floats

    @classmethod
    def from_rows(
        cls, rows: list[LabelRow], gold: dict[str, str], manifest: DatasetManifest
    ) -> Self:
        """Read the rows of the test split.

        Raises:
            DataError: no rows, a label that the manifest does not know, or gold for some inputs
                but not for all.
        """
        if not rows:
            raise DataError("the test split", "is empty", "set data.test in the recipe")
        number = {label: i for i, label in enumerate(manifest.labels)}
        return cls(
            labels=manifest.labels,
            texts=tuple(row.text for row in rows),
            gold=_gold(rows, gold, number),
            teacher=_teacher(rows, number),
            teacher_raw=_teacher_raw(rows),
            second=_numbers([row.second for row in rows], number, rows),
            asked_twice=np.array(
                [row.second is not None or row.second_outcome is not None for row in rows]
            ),
            width=np.array(
                [
                    max(h - w for w, h in zip(row.low, row.high, strict=True))
                    if row.low
                    else np.nan
                    for row in rows
                ],
                dtype=np.float64,
            ),
        )

    def __len__(self) -> int:
        return len(self.texts)

    def right(self, answers: Answers) -> Bools:
        """Where the answers are gold, N booleans; an invalid answer is wrong."""
        if self.gold is None:
            raise ValueError("there is no gold")
        return np.equal(answers.label, self.gold)

    def agrees(self, answers: Answers) -> Bools:
        """Where the answers are the teacher's, over the inputs that it answered validly."""
        valid = self.teacher.valid
        agree: Bools = answers.label[valid] == self.teacher.label[valid]
        return agree

    @cached_property
    def repeats(self) -> Bools:
        """Inputs with a valid first answer that the teacher was asked twice, N booleans."""
        return self.asked_twice & self.teacher.valid

    @cached_property
    def same_again(self) -> Bools:
        """Where the second asking gave the first one's label; an invalid second did not."""
        return np.equal(self.second, self.teacher.label)


def _gold(rows: list[LabelRow], gold: dict[str, str], number: dict[str, int]) -> Ints | None:
    if not gold:
        return None
    missing = [row for row in rows if not gold.get(row.item)]
    if missing:
        raise DataError(
            f"test input {missing[0].item}",
            f"has no gold label, nor have {len(missing) - 1} others of {len(rows)}",
            "fill the gold column, or take data.gold out of the recipe",
        )
    return _numbers([gold[row.item] for row in rows], number, rows)


def _numbers(names: list[str | None], number: dict[str, int], rows: list[LabelRow]) -> Ints:
    for name, row in zip(names, rows, strict=True):
        if name is not None and name not in number:
            raise DataError(
                f"test input {row.item}",
                f"has the label {name!r}, which the task lacks",
                "rename it with data.gold_map, or add it to task.labels",
            )
    return np.array([INVALID if name is None else number[name] for name in names], dtype=np.int64)


def _teacher(rows: list[LabelRow], number: dict[str, int]) -> Answers:
    """The teacher as calibrated and frozen."""
    valid = [row.outcome is Outcome.ANSWERED for row in rows]
    names = [row.label if ok else None for row, ok in zip(rows, valid, strict=True)]
    confidence = [
        max(row.probabilities) if ok and row.probabilities else np.nan
        for row, ok in zip(rows, valid, strict=True)
    ]
    return Answers(_numbers(names, number, rows), np.array(confidence, dtype=np.float64))


def _teacher_raw(rows: list[LabelRow]) -> Answers:
    """The teacher before calibration: middles of the mass intervals, normalised."""
    label = np.full(len(rows), INVALID, dtype=np.int64)
    confidence = np.full(len(rows), np.nan)
    for i, row in enumerate(rows):
        middle = (np.array(row.low) + np.array(row.high)) / 2
        total = float(middle.sum()) if len(middle) else 0.0
        if row.outcome is Outcome.ANSWERED and total > 0:
            label[i] = int(middle.argmax())
            confidence[i] = middle.max() / total
    return Answers(label, confidence)


def student_answers(
    name: str, prediction: Prediction, labels: tuple[str, ...], held: HeldOut
) -> Answers:
    """A student's answers.

    Args:
        name: the student's.
        prediction: its probabilities, N x L.
        labels: the student's labels, in its order.
        held: the test split.

    Raises:
        StudentError: for other labels than the dataset's, or probabilities that are none.
    """
    if labels != held.labels:
        raise StudentError(
            f"student {name}",
            f"was trained for the labels {', '.join(labels)}; the dataset has "
            f"{', '.join(held.labels)}",
            "train it again with `overproof train`",
        )
    shape = (len(held), len(held.labels))
    p = np.asarray(prediction.probabilities, dtype=np.float64)
    if p.shape != shape or not np.isfinite(p).all() or np.abs(p.sum(axis=1) - 1).max() > 1e-4:
        raise StudentError(
            f"student {name}",
            f"gave no {shape[0]} x {shape[1]} table of probabilities (its shape is {p.shape})",
            "train it again with `overproof train`",
        )
    return Answers(p.argmax(axis=1).astype(np.int64), np.clip(p.max(axis=1), 0.0, 1.0))


def majority_label(train: list[LabelRow]) -> tuple[str, float]:
    """The teacher's commonest label on the training split with its share of the valid answers.

    Gold plays no part: training never sees it. Ties go to the label first in the alphabet.

    Raises:
        DataError: when no training input has a valid answer.
    """
    counts = Counter(row.label for row in train if row.label is not None)
    if not counts:
        raise DataError(
            "the training split",
            "holds no valid answer of the teacher",
            "see RUN/failed.jsonl for the reasons, mend the cause and collect again",
        )
    label, count = min(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return label, count / counts.total()
