"""The plan, sealed before any data is seen, and what was tested under it.

A sealed plan is a file: the plan with every default written out, a time, and the SHA-256 of the
canonical bytes of both (RFC 8785 where it matters). A hash inside the file shows only accidents:
whoever can edit the plan can hash it again, and the time is the sealing machine's own. What binds
is the hash given away in time: published, mailed to the other side, or stamped by a third party
(RFC 3161). `read_sealed_plan` therefore takes the hash that was given away.

What a test is run on is recorded at the time of testing, by digest, in a journal beside the plan:
its files, and all that it was run with (key, settings, models). Testing other data under the same
plan, or the same data with other settings, leaves a line that the verdict shows and counts.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from overproof.config.audit import AuditPlan
from overproof.errors import ConfigError, DataError
from overproof.records.hashing import canonical_json, content_hash, file_sha256

__all__ = [
    "DataDigest",
    "SealedPlan",
    "changed_fields",
    "plan_bytes",
    "read_data_digests",
    "read_sealed_plan",
    "record_data",
    "require_unchanged",
    "require_used",
    "runs_of",
    "seal_plan",
]

FORMAT = "overproof-audit-plan/1"


@dataclass(frozen=True)
class SealedPlan:
    """A plan as it was sealed.

    Attributes:
        plan: the plan.
        sealed_at: UTC, ISO 8601, by the sealing machine's clock.
        sha256: ``sha256:`` and 64 hex digits of `plan_bytes`.
        path: its file; None before it was written.
        attested: whether the hash was compared with one given away earlier.
    """

    plan: AuditPlan
    sealed_at: str
    sha256: str
    path: Path | None = None
    attested: bool = False


@dataclass(frozen=True)
class DataDigest:
    """What a test was run on, and with.

    Attributes:
        test: its name in the plan.
        at: UTC, when.
        plan_sha256: under which plan.
        files: of each file name its SHA-256.
        settings: ``sha256:`` and the hash of all that it was run with; empty where none was noted.
    """

    test: str
    at: str
    plan_sha256: str
    files: dict[str, str]
    settings: str = ""


def plan_bytes(plan: AuditPlan, sealed_at: str) -> bytes:
    """The canonical bytes that are hashed: the plan with all its defaults, and the time."""
    return canonical_json(_body(plan, sealed_at))


def _body(plan: AuditPlan, sealed_at: str) -> dict[str, Any]:
    return {"format": FORMAT, "sealed_at": sealed_at, "plan": plan.model_dump(mode="json")}


def seal_plan(plan: AuditPlan, path: Path, now: datetime.datetime | None = None) -> SealedPlan:
    """Write the sealed plan; an existing file is never overwritten.

    Raises:
        ConfigError: the file exists already, or cannot be written.
    """
    moment = (now or datetime.datetime.now(datetime.UTC)).astimezone(datetime.UTC)
    sealed_at = moment.isoformat(timespec="seconds")
    body = _body(plan, sealed_at)
    sha256 = content_hash(body)
    text = json.dumps(body | {"sha256": sha256}, indent=2, ensure_ascii=False) + "\n"
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(partial, path)  # unlike a rename, refuses to replace what is there
    except FileExistsError:
        raise ConfigError(
            str(path), "is sealed already", "a new plan is a new file; the old one stays on record"
        ) from None
    except OSError as error:
        raise ConfigError(
            str(path), f"cannot be written: {error.strerror or error}",
            "make room or give permission, or name another folder",
        ) from error  # fmt: skip
    finally:
        partial.unlink(missing_ok=True)
    return SealedPlan(plan, sealed_at, sha256, path)


def read_sealed_plan(path: Path, given_away: str | None = None) -> SealedPlan:
    """Read a sealed plan and check its hash.

    Args:
        path: the file that `seal_plan` wrote.
        given_away: the hash as it was published, with or without ``sha256:``.

    Raises:
        ConfigError: no such file.
        DataError: it is not a sealed plan, or not the one that was sealed.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        stored, sealed_at, written = raw["sha256"], raw["sealed_at"], raw["plan"]
        if raw["format"] != FORMAT or not isinstance(sealed_at, str):
            raise ValueError("another format")
    except FileNotFoundError:
        raise ConfigError(str(path), "no such plan", "`overproof audit plan` seals one") from None
    except OSError as error:
        raise ConfigError(
            str(path), f"cannot be read: {error.strerror or error}", "give permission to read it"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            str(path), "is not a sealed plan", "`overproof audit plan` writes one"
        ) from error
    try:
        sha256 = content_hash({"format": FORMAT, "sealed_at": sealed_at, "plan": written})
    except ValueError:
        sha256 = ""
    if sha256 != stored:
        raise DataError(
            str(path),
            "was changed after it was sealed: its bytes do not have the hash that it states",
            "restore the sealed file; a changed plan counts for nothing",
        )
    plan = _plan_of(written, path)
    if given_away is not None and given_away.removeprefix("sha256:").lower() != sha256[7:]:
        raise DataError(
            str(path),
            f"has the hash {sha256}, not {given_away}: it is not the plan that was given away",
            "use the plan whose hash was published",
        )
    return SealedPlan(plan, sealed_at, sha256, path, given_away is not None)


def _plan_of(written: Any, path: Path) -> AuditPlan:
    """The plan of an unaltered file; one sealed by an earlier version may lack what is asked."""
    try:
        return AuditPlan.model_validate(written)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
    # Raised out here: the library's error holds the file's values.
    raise DataError(
        str(path), f"is whole, but is no plan that this version can use: {reason}",
        "seal a new plan, or use the version of overproof that sealed it",
    )  # fmt: skip


def changed_fields(sealed: Any, now: Any, where: str = "") -> list[tuple[str, Any, Any]]:
    """Each field that differs, with what it was and what it is; dotted names, ``tests.0.keys``."""
    if isinstance(sealed, Mapping) and isinstance(now, Mapping):
        names = [*sealed, *(name for name in now if name not in sealed)]
        return [
            change
            for name in names
            for change in changed_fields(
                sealed.get(name), now.get(name), f"{where}.{name}".strip(".")
            )
        ]
    if isinstance(sealed, list) and isinstance(now, list) and len(sealed) == len(now):
        return [
            change
            for i, (a, b) in enumerate(zip(sealed, now, strict=True))
            for change in changed_fields(a, b, f"{where}.{i}".strip("."))
        ]
    return [] if sealed == now and type(sealed) is type(now) else [(where, sealed, now)]


def require_unchanged(sealed: SealedPlan, now: AuditPlan, name: str = "the plan") -> None:
    """Refuse a plan that says anything else than the sealed one.

    Raises:
        ConfigError: the first field that was changed is named.
    """
    changes = changed_fields(sealed.plan.model_dump(mode="json"), now.model_dump(mode="json"))
    if changes:
        field, before, after = changes[0]
        more = f", and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise ConfigError(
            f"{name}: {field}",
            f"was {before!r} when the plan was sealed on {sealed.sealed_at}, "
            f"is {after!r} now{more}",
            "test under the plan as sealed; a new question needs a new plan and new data",
        )


def require_used(sealed: SealedPlan, test: str, used: Mapping[str, Any]) -> None:
    """Refuse a test that is not in the plan, or is run with other settings than planned.

    Args:
        sealed: the plan.
        test: name of the test.
        used: settings it is run with, by their names in the plan; ``alpha`` and ``seed`` too.

    Raises:
        ConfigError: the setting is named.
    """
    names = sealed.plan.names()
    if test not in names:
        known = ", ".join(names)
        raise ConfigError(test, "is not in the sealed plan", f"planned: {known}")
    planned = sealed.plan.tests[names.index(test)].model_dump(mode="json")
    planned |= {"alpha": sealed.plan.alpha, "seed": sealed.plan.seed}
    for name, value in used.items():
        plain = list(value) if isinstance(value, tuple) else value
        if name not in planned or planned[name] != plain:
            was = repr(planned[name]) if name in planned else "not in the plan"
            raise ConfigError(
                f"{test}.{name}",
                f"was planned as {was}, is {plain!r} now",
                "test under the plan as sealed",
            )


def _journal(path: Path) -> Path:
    return path.with_name(path.name + ".data.jsonl")


def record_data(
    sealed: SealedPlan,
    test: str,
    files: Sequence[Path],
    now: datetime.datetime | None = None,
    used: Mapping[str, Any] | None = None,
) -> DataDigest:
    """Note by digest what a test is run on, before it is run; a line is added, none replaced.

    Args:
        sealed: the plan.
        test: its name in the plan.
        files: the data.
        now: the moment; the clock's where it is None.
        used: all else that the outcome depends on, as plain values; secrets by their hash.

    Raises:
        ConfigError: the test is not planned, or the plan was never written.
        DataError: a file cannot be read, or the journal not written.
    """
    require_used(sealed, test, {})
    if sealed.path is None:
        raise ConfigError("the plan", "was not sealed to a file", "seal it first")
    digests: dict[str, str] = {}
    for file in files:
        try:
            digests[str(file)] = "sha256:" + file_sha256(file)
        except OSError as error:
            raise DataError(
                str(file), f"cannot be read: {error.strerror or error}", "check the path"
            ) from error
    moment = (now or datetime.datetime.now(datetime.UTC)).astimezone(datetime.UTC)
    digest = DataDigest(
        test, moment.isoformat(timespec="seconds"), sealed.sha256, digests,
        content_hash(dict(used)) if used else "",
    )  # fmt: skip
    line = canonical_json(digest.__dict__) + b"\n"
    try:
        with _journal(sealed.path).open("ab") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise DataError(
            str(_journal(sealed.path)), f"cannot be written: {error.strerror or error}",
            "make room or give permission; nothing is tested that was not noted before",
        ) from error  # fmt: skip
    return digest


def read_data_digests(sealed: SealedPlan) -> tuple[DataDigest, ...]:
    """All that was tested under a plan, in order; none where nothing was.

    Raises:
        DataError: FILE:LINE of a line that is no digest, or is of another plan.
    """
    if sealed.path is None or not _journal(sealed.path).exists():
        return ()
    found: list[DataDigest] = []
    journal = _journal(sealed.path)
    for number, line in enumerate(journal.read_bytes().split(b"\n"), start=1):
        if not line:
            continue
        try:
            row = json.loads(line)
            digest = DataDigest(
                row["test"], row["at"], row["plan_sha256"], dict(row["files"]),
                str(row.get("settings", "")),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{journal}:{number}", "is no record of data", "a line was cut off or edited"
            ) from error
        if digest.plan_sha256 != sealed.sha256:
            raise DataError(
                f"{journal}:{number}", "belongs to another plan", "keep one journal a plan"
            )
        found.append(digest)
    return tuple(found)


def runs_of(test: str, data: Sequence[DataDigest]) -> int:
    """On how many different sets of data and settings a test was run; 0 where none was noted.

    The same data with the same settings give the same p-value, so running them again is no new
    run. File names do not count: a renamed copy is the same data.
    """
    return len({(tuple(sorted(d.files.values())), d.settings) for d in data if d.test == test})
