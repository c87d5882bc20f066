"""Files of a committed ghost log: the secret openings, the sealed log, the public manifests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from overproof.audit.commitments import (
    FORMAT,
    LOG_FORMAT,
    IndexOpening,
    Manifest,
    Marks,
    SealedRequest,
)
from overproof.errors import DataError
from overproof.records.files import write_atomically
from overproof.records.hashing import canonical_json
from overproof.records.log_lines import json_rows

__all__ = [
    "read_index_openings",
    "read_manifest",
    "read_sealed_log",
    "write_index_openings",
    "write_manifest",
    "write_sealed_log",
]


def write_sealed_log(path: Path, requests: Sequence[SealedRequest]) -> None:
    """Write a log as JSONL, whole or not at all, for its owner alone: it holds the salts."""
    _write_rows(path, [asdict(request) for request in requests])


def write_index_openings(path: Path, openings: Sequence[IndexOpening]) -> None:
    """Write the secret openings as JSONL, whole or not at all, for their owner alone."""
    _write_rows(path, [asdict(opening) for opening in openings])


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_atomically(path, b"".join(canonical_json(row) + b"\n" for row in rows), private=True)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest as JSON, whole or not at all."""
    write_atomically(path, json.dumps(asdict(manifest), indent=1) + "\n")


def read_index_openings(path: Path) -> list[IndexOpening]:
    """Read secret openings.

    Raises:
        DataError: a line that is none; it is named.
    """
    return [_opening(where, row) for where, row in _rows(path)]


def read_sealed_log(path: Path) -> list[SealedRequest]:
    """Read a log written by `write_sealed_log`.

    Raises:
        DataError: a line that is none; it is named.
    """
    return [_sealed(where, row) for where, row in _rows(path)]


def _rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    rows = []
    for where, row, reason in json_rows(path, "utf-8"):
        if row is None:
            raise DataError(where, reason, "restore the log from a copy")
        rows.append((where, row))
    return rows


def _opening(where: str, row: Any) -> IndexOpening:
    try:
        numbers = (row["slot"], row["answers"], row["served"])
        if any(type(n) is not int for n in numbers) or not isinstance(row["salt"], str):
            raise TypeError("slot, answers and served are whole numbers, salt is a text")
        return IndexOpening(row["slot"], row["answers"], row["served"], row["salt"])
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(
            where, f"is no opening of a served index: {error!r}", "restore the log from a copy"
        ) from error


def _sealed(where: str, row: dict[str, Any]) -> SealedRequest:
    index = _opening(where, row.get("index"))
    answers, salts = _texts(row.get("answers")), _texts(row.get("salts"))
    if answers is None or salts is None or not isinstance(row.get("id"), str):
        reason = "a sealed request has an id, answers and salts, all of them texts"
    elif not len(salts) - 1 == len(answers) == index.answers:
        reason = f"{len(answers)} answers, {len(salts)} salts, a slot of {index.answers}"
    elif not (row.get("group") is None or isinstance(row["group"], str)):
        reason = "its group is not a text"
    elif row.get("prompt") is None:
        reason = "it has no prompt"
    elif (marks := _marks(row.get("marks"), len(answers))) is None:
        reason = "its marks are not cached, retries, and a value an answer"
    else:
        return SealedRequest(
            row["id"], row["prompt"], answers, salts, index, row.get("group"), marks
        )
    raise DataError(where, reason, "restore the log from a copy")


def _texts(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return tuple(value)


def _marks(value: Any, answers: int) -> Marks | None:
    """Marks of a log of the present form, none of an older one; None where they are malformed."""
    if value is None:
        return Marks()
    try:
        marks = Marks(
            value["cached"],
            value["retries"],
            tuple(value["tokens"]),
            tuple(value["finish_reasons"]),
            tuple(value["teacher"]),
        )
    except (LookupError, TypeError):
        return None
    kinds: tuple[tuple[tuple[Any, ...], type], ...] = (
        (marks.tokens, int), (marks.finish_reasons, str), (marks.teacher, float),
    )  # fmt: skip
    fits = all(
        len(values) in (0, answers) and all(each is None or type(each) is kind for each in values)
        for values, kind in kinds
    )
    is_count = type(marks.retries) is int and marks.retries >= 0
    return marks if fits and is_count and type(marks.cached) is bool else None


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        DataError: missing, not a manifest, or of another format.
    """
    try:
        row = json.loads(path.read_bytes())
        leaves = tuple(row["leaves"])
        if row["format"] not in (FORMAT, LOG_FORMAT):
            raise ValueError(f"its format is {row['format']!r}, not {LOG_FORMAT!r}")
        for text in (*leaves, row["root"]):
            if len(bytes.fromhex(text)) != 32:
                raise ValueError("a hash is not 32 bytes")
        return Manifest(str(row["what"]), row["root"], leaves, str(row["at"]), row["format"])
    except OSError as error:
        raise DataError(
            str(path), f"cannot be read: {error.strerror or error}", "check the path"
        ) from error
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            str(path), f"is no manifest of a ghost log: {error}", "restore it from a copy"
        ) from error
