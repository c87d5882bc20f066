"""The frozen dataset: what collecting leaves behind and training and certifying read.

Layout, under ``RUN/dataset/``::

    train.parquet  tune.parquet  test.parquet  examples.parquet   columns of ``LabelRow``
    gold.parquet                                                  ``item`` and ``gold``, test only
    manifest.json                                                 ``DatasetManifest``

Gold labels live in a file of their own that training never opens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from overproof.errors import RunError
from overproof.records.exchange import Outcome, Record
from overproof.records.files import write_atomically
from overproof.records.hashing import file_sha256

__all__ = ["SPLITS", "DatasetManifest", "LabelRow", "TeacherCalibration", "read_gold", "read_split"]

SPLITS = ("train", "tune", "test", "examples")
Split = Literal["train", "tune", "test", "examples"]


class LabelRow(Record):
    """One input with what the teacher said of it.

    ``item`` is the input's content hash. The distributions run over the manifest's labels:
    ``low`` and ``high`` bound the mass that the teacher's log-probs (or votes) put on each label,
    ``probabilities`` is the calibrated soft label and sums to one; all three are empty where the
    outcome is not ``answered``. ``label`` is the arg max of ``probabilities``. ``second`` is the
    label of an independent second asking, where there was one. ``request_keys`` lead into the
    ledger.
    """

    item: str
    text: str
    outcome: Outcome
    label: str | None = None
    probabilities: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    second: str | None = None
    second_outcome: Outcome | None = None
    request_keys: tuple[str, ...] = ()


class TeacherCalibration(Record):
    """Prior correction and temperature of the teacher, fitted on training inputs, then frozen.

    The calibrated soft label is ``softmax((log p + bias) / temperature)``.
    """

    bias: tuple[float, ...]
    temperature: float = 1.0
    method: str = "none"
    fitted_on: str = "nothing"
    n: int = 0
    n_repeats: int = 0


class DatasetManifest(Record):
    """What was frozen, from what, and how."""

    labels: tuple[str, ...]
    input_file: str
    input_sha256: str
    recipe_sha256: str
    counts: dict[str, int]
    outcomes: dict[str, dict[str, int]]
    exact_duplicates: int
    near_duplicates: int
    near_duplicate_threshold: float
    signal: Literal["log-probs", "votes"]
    rendering: str
    second_asking: str
    calibration: TeacherCalibration
    provenance: dict[str, int] = Field(default_factory=dict)
    teacher: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    drift: dict[str, Any] | None = None

    @classmethod
    def load(cls, directory: Path) -> DatasetManifest:
        """Read a manifest and check that no file of the dataset has changed since.

        Raises:
            RunError: when there is no dataset, or a file differs from its recorded hash.
        """
        path = directory / "manifest.json"
        if not path.exists():
            raise RunError(str(directory), "holds no frozen dataset", "run `overproof collect`")
        try:
            manifest = cls.model_validate_json(path.read_text())
        except ValueError as error:
            raise RunError(
                str(path),
                "is damaged: " + str(error).splitlines()[0],
                f"remove {directory} and run `overproof collect` again: the ledger has "
                "every answer",
            ) from error
        for name, digest in manifest.files.items():
            if not (directory / name).exists() or file_sha256(directory / name) != digest:
                raise RunError(
                    str(directory / name),
                    "is not the file that was frozen",
                    f"restore it, or remove {directory} and run `overproof collect` again: "
                    "the ledger has every answer, so nothing is paid twice",
                )
        return manifest


def write_split(directory: Path, split: str, rows: list[LabelRow]) -> None:
    """Write one split as Parquet."""
    schema = pa.schema(
        [
            ("item", pa.string()),
            ("text", pa.string()),
            ("outcome", pa.string()),
            ("label", pa.string()),
            ("probabilities", pa.list_(pa.float64())),
            ("low", pa.list_(pa.float64())),
            ("high", pa.list_(pa.float64())),
            ("second", pa.string()),
            ("second_outcome", pa.string()),
            ("request_keys", pa.list_(pa.string())),
        ]
    )
    table = pa.Table.from_pylist([row.model_dump(mode="json") for row in rows], schema=schema)
    pq.write_table(table, directory / f"{split}.parquet")


def read_split(directory: Path, split: Split) -> list[LabelRow]:
    """Rows of one split of the dataset at ``directory``, in file order."""
    table = pq.read_table(directory / f"{split}.parquet")
    return [LabelRow.model_validate(row) for row in table.to_pylist()]


def write_gold(directory: Path, gold: dict[str, str]) -> None:
    """Write the gold labels of the test split, by item."""
    table = pa.table(
        {
            "item": pa.array(list(gold), pa.string()),
            "gold": pa.array(list(gold.values()), pa.string()),
        }
    )
    pq.write_table(table, directory / "gold.parquet")


def read_gold(directory: Path) -> dict[str, str]:
    """Gold labels of the test split by item; empty where the recipe has no gold."""
    path = directory / "gold.parquet"
    if not path.exists():
        return {}
    return {row["item"]: row["gold"] for row in pq.read_table(path).to_pylist()}


def write_manifest(directory: Path, manifest: DatasetManifest) -> None:
    """Write the manifest last: a dataset without one is not frozen."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False)
    write_atomically(directory / "manifest.json", text + "\n")
