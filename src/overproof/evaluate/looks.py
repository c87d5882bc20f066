"""The log of looks at the test set: a test set looked at often proves less.

``RUN/looks.jsonl`` holds one object a line: the number of the look, when, what, the hashes of the
dataset and of the students, the look that it repeats (same dataset, same students) if any, and the
verdict once there is one. Every look is also chained into the run's ledger, so that the looks go
along when the ledger is copied to a new run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overproof.errors import DataError
from overproof.records.files import write_atomically
from overproof.records.hashing import content_hash, file_sha256

__all__ = ["CHAINED", "Look", "distinct_looks", "log_look", "note_verdict", "read_looks"]

Look = dict[str, Any]
CHAINED = ("when", "what", "dataset", "students")
"""Fields of a look that its note in the ledger holds."""
FILES = ("student.json", "model.safetensors", "model.onnx", "tokenizer.json")


def read_looks(path: Path) -> list[Look]:
    """The looks so far, oldest first; none where there is no log.

    Raises:
        DataError: for a line that is not a look, by its number.
    """
    if not path.exists():
        return []
    looks = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            look = json.loads(line)
        except ValueError as error:
            look, reason = None, str(error)
        else:
            reason = "not an object with a dataset and students"
        if not isinstance(look, dict) or not {"dataset", "students"} <= set(look):
            raise DataError(
                f"{path}:{number}",
                f"is not a look at the test set: {reason}",
                "restore the file; without it nobody knows how often the test set was used",
            )
        looks.append(look)
    return looks


def log_look(
    path: Path, *, now: str, dataset: Path, students: Path, chained: Sequence[Look] = ()
) -> list[Look]:
    """Log a look before its result is shown, and return all looks, this one last.

    Args:
        path: the log.
        now: ISO 8601, UTC.
        dataset: the frozen dataset's directory.
        students: the directory of the students' directories.
        chained: the ledger's notes of looks; those that the log lacks are taken into it.
    """
    hashes = {
        directory.name: _student_hash(directory)
        for directory in sorted(students.iterdir())
        if (directory / "student.json").exists()
    }
    logged = read_looks(path)
    known = {_identity(look) for look in logged}
    # What the log lacks came with a copied ledger, so it was before.
    earlier = [look for look in chained if _identity(look) not in known] + logged
    this = {"when": now, "dataset": file_sha256(dataset / "manifest.json"), "students": hashes}
    looks = _numbered([*earlier, this])
    _write(path, looks)
    return looks


def _identity(look: Look) -> tuple[str, str]:
    seen = {"dataset": look["dataset"], "students": look["students"]}
    return str(look.get("when")), content_hash(seen)


def _numbered(looks: Sequence[Look]) -> list[Look]:
    """The looks counted from 1, each with the first look that saw the same."""
    first: dict[str, int] = {}
    numbered = []
    for number, look in enumerate(looks, start=1):
        seen = content_hash({"dataset": look["dataset"], "students": look["students"]})
        repeat_of = first.get(seen)
        first.setdefault(seen, number)
        numbered.append(
            {
                "look": number,
                "when": look.get("when"),
                "what": f"certify: repeat of look {repeat_of}" if repeat_of else "certify",
                "dataset": look["dataset"],
                "students": look["students"],
                "repeat_of": repeat_of,
                "verdict": look.get("verdict"),
            }
        )
    return numbered


def note_verdict(path: Path, verdict: str) -> None:
    """Write the verdict into the newest look."""
    looks = read_looks(path)
    if not looks:
        raise ValueError(f"{path} holds no look")
    looks[-1]["verdict"] = verdict
    _write(path, looks)


def distinct_looks(looks: Sequence[Look]) -> int:
    """How many looks saw something new."""
    return sum(look.get("repeat_of") is None for look in looks)


def _student_hash(directory: Path) -> str:
    return content_hash(
        {name: file_sha256(directory / name) for name in FILES if (directory / name).exists()}
    )


def _write(path: Path, looks: Sequence[Look]) -> None:
    lines = [json.dumps(look, ensure_ascii=False) for look in looks]
    write_atomically(path, "\n".join(lines) + "\n")
