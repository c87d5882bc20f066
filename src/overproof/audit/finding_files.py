"""Findings on disk: ``findings/NAME.json`` beside the plan they were made under.

Each file states its plan and its own hash. The hash shows accidents; against whoever would edit
findings it is the verdict's signature that helps, and a second run.

Running a test again replaces its finding, and loses none: the one before is kept as
``findings/earlier/NAME.K.json``, K from 1.
"""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from overproof.errors import DataError
from overproof.records.audit import Effect, Exactness, Power, PValue, Standing, TestFinding
from overproof.records.files import write_atomically
from overproof.records.hashing import content_hash

__all__ = ["finding_of", "plain", "read_findings", "write_finding"]

FORMAT = "overproof-audit-finding/1"
FOLDER, EARLIER = "findings", "earlier"


def plain(value: Any) -> Any:
    """The same without numbers that JSON cannot hold: those become None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):  # a number of numpy's
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_finding(directory: Path, name: str, plan_sha256: str, finding: TestFinding) -> Path:
    """Write a finding, whole or not at all; an earlier one of the name is set aside, never lost.

    Raises:
        DataError: a full disk, a missing permission.
    """
    body = {"format": FORMAT, "name": name, "plan_sha256": plan_sha256,
            "finding": plain(finding.to_json())}  # fmt: skip
    text = json.dumps(body | {"sha256": content_hash(body)}, indent=1, ensure_ascii=False) + "\n"
    path = directory / FOLDER / f"{name}.json"
    try:
        _set_aside(path, text)
        write_atomically(path, text)
    except OSError as error:
        raise DataError(
            str(path), f"cannot be written: {error.strerror or error}",
            "make room or give permission, and run the same test again",
        ) from error  # fmt: skip
    return path


def _set_aside(path: Path, text: str) -> None:
    """Keep what stands at ``path`` under a name of its own, unless it is the same to the byte.

    The old name stays until the new finding replaces it, so a crash in between leaves one finding
    in both places rather than none.
    """
    with suppress(FileNotFoundError):
        before = path.read_bytes()
        if before == text.encode():
            return
        folder = path.parent / EARLIER
        folder.mkdir(exist_ok=True)
        number = 1
        while (kept := folder / f"{path.stem}.{number}.json").exists():
            number += 1
        partial = folder / f".{kept.name}.{os.getpid()}.partial"
        try:
            with partial.open("wb") as stream:
                stream.write(before)
                stream.flush()
                os.fsync(stream.fileno())
            os.link(partial, kept)  # unlike a rename, refuses to replace what is there
        finally:
            partial.unlink(missing_ok=True)


def read_findings(directory: Path, plan_sha256: str) -> dict[str, TestFinding]:
    """All findings beside a plan, by name.

    Raises:
        DataError: a file that is none, was altered, or belongs to another plan.
    """
    found: dict[str, TestFinding] = {}
    for path in sorted((directory / FOLDER).glob("*.json")):
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            sha256 = raw.pop("sha256")
            if raw["format"] != FORMAT:
                raise ValueError("another format")
            if content_hash(raw) != sha256:
                raise ValueError("its bytes do not have the hash that it states")
            name, plan, finding = raw["name"], raw["plan_sha256"], finding_of(raw["finding"])
            if name != path.stem:
                raise ValueError(f"it is the finding of {name!r}, copied or renamed")
        except OSError as error:
            raise DataError(str(path), f"cannot be read: {error.strerror or error}") from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(
                str(path), f"is not a finding as it was written: {error}", "run its test again"
            ) from error
        if plan != plan_sha256:
            raise DataError(
                str(path), "was found under another plan", "run its test again under this one"
            )
        found[str(name)] = finding
    return found


def finding_of(raw: dict[str, Any]) -> TestFinding:
    """A finding from its plain values.

    Raises:
        ValueError, LookupError, TypeError: they are none.
    """
    power = raw["power"]
    return TestFinding(
        test=raw["test"],
        standing=Standing(raw["standing"]),
        hypothesis=raw["hypothesis"],
        n=raw["n"],
        unit=raw["unit"],
        p_values=tuple(
            PValue(**(each | {"exactness": Exactness(each["exactness"])}))
            for each in raw["p_values"]
        ),
        effects=tuple(Effect(**each) for each in raw["effects"]),
        power=None if power is None else Power(**power),
        not_proved=tuple(raw["not_proved"]),
        reasons=tuple(raw["reasons"]),
        details=dict(raw["details"]),
    )
