"""Commitments of a served log: drawing what to serve, sealing what was, checking it later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overproof.errors import ConfigError, DataError

if TYPE_CHECKING:
    from overproof.audit.commitments import CommitmentCheck, Manifest, SealedRequest
    from overproof.audit.served import ServedRequest

__all__ = [
    "LOG",
    "LOG_MANIFEST",
    "audit_commit",
    "audit_draw",
    "audit_verify",
    "require_folder",
]

LOG, LOG_MANIFEST = "log.secret.jsonl", "log.manifest.json"
INDICES, INDEX_MANIFEST = "indices.secret.jsonl", "indices.manifest.json"


def require_folder(out: Path) -> None:
    """Refuse a file where a folder belongs, or a folder under a file."""
    for path in (out, *out.parents):
        if path.exists():
            if not path.is_dir():
                raise ConfigError(str(path), "is a file", "name a folder, with --out")
            return


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """A full disk or a missing permission, told as what it is."""
    try:
        yield
    except OSError as error:
        raise DataError(
            str(out), f"cannot be written to: {error.strerror or error}",
            "make room or give permission, and name a new folder",
        ) from error  # fmt: skip


def audit_draw(slots: int, answers: int, out: Path) -> Manifest:
    """Draw which answer each slot will serve, and commit to it, before anything is generated.

    Args:
        slots: how many requests the log may hold.
        answers: K + 1 answers drawn for each.
        out: gets the secret openings and the manifest with the root to publish.

    Raises:
        ConfigError: fewer than two answers, no slot, or indices that were drawn there before.
    """
    from overproof.audit.commitment_files import write_index_openings, write_manifest
    from overproof.audit.commitments import commit_indices, draw_indices

    if slots < 1 or answers < 2:
        raise ConfigError(
            f"{slots} slots of {answers} answers", "leave nothing to choose from",
            "give one slot or more, and two answers or more (one is served, the others are ghosts)",
        )  # fmt: skip
    require_folder(out)
    _refuse_existing(out / INDICES, out / INDEX_MANIFEST)
    openings = draw_indices(slots, answers)
    manifest = commit_indices(openings)
    with _writing(out):
        write_index_openings(out / INDICES, openings)
        write_manifest(out / INDEX_MANIFEST, manifest)
    return manifest


def _refuse_existing(*paths: Path) -> None:
    for path in paths:
        if path.exists():
            raise ConfigError(
                str(path), "exists already", "what was committed stays: name another directory"
            )


def audit_commit(log: Path, out: Path) -> Manifest:
    """Seal a served log: salts, leaves and the root to publish.

    Each line needs its ``position``. Where indices were drawn into ``out`` before, each line's
    ``slot`` (its place in the log where it says nothing) must have served what was drawn.

    Raises:
        DataError: a line without a position, or one that did not serve what was drawn.
        ConfigError: a log was committed there before.
    """
    from overproof.audit.commitment_files import (
        read_index_openings,
        write_manifest,
        write_sealed_log,
    )
    from overproof.audit.commitments import commit_log
    from overproof.audit.sealed_requests import seal_served
    from overproof.audit.served import read_served

    requests = read_served(log)
    require_folder(out)
    _refuse_existing(out / LOG, out / LOG_MANIFEST)
    drawn = None
    if (out / INDICES).exists():
        drawn = {opening.slot: opening for opening in read_index_openings(out / INDICES)}
    sealed: list[SealedRequest] = []
    for place, (request, slot) in enumerate(zip(requests, _slots(log), strict=True)):
        opening = _opening(request, place if slot is None else slot, drawn)
        sealed.append(seal_served(opening, request, place))
    slots = [each.index.slot for each in sealed]
    if len(set(slots)) < len(slots):
        raise DataError(str(log), "uses a slot twice", "give each request its own slot")
    manifest = commit_log(sealed)
    with _writing(out):
        write_sealed_log(out / LOG, sealed)
        write_manifest(out / LOG_MANIFEST, manifest)
    return manifest


def _slots(log: Path) -> list[int | None]:
    from overproof.records.log_lines import json_rows

    found: list[int | None] = []
    for where, row, _ in json_rows(log, "utf-8"):
        slot = (row or {}).get("slot")
        if slot is not None and (type(slot) is not int or slot < 0):
            raise DataError(where, "its slot is not a count", "number slots from 0")
        found.append(slot)
    return found


def _opening(request: ServedRequest, slot: int, drawn: Mapping[int, Any] | None) -> Any:
    """The opening of a request's slot, drawn before, or made now from what was served."""
    import secrets

    from overproof.audit.commitments import SALT_BYTES, IndexOpening

    answers, position = 1 + len(request.ghosts), request.position
    if position is None:
        raise DataError(
            request.where,
            "has no position: which of its answers was served, in the order of generation",
            "log it; ghosts that were redrawn afterwards have none and are not committed this way",
        )
    if drawn is None:
        return IndexOpening(slot, answers, position, secrets.token_hex(SALT_BYTES))
    opening = drawn.get(slot)
    if opening is None:
        raise DataError(request.where, f"uses slot {slot}, which was never drawn", "check slots")
    if (opening.answers, opening.served) != (answers, position):
        raise DataError(
            request.where,
            f"served answer {position} of {answers}; drawn for slot {slot} was answer "
            f"{opening.served} of {opening.answers}",
            "what is served must be what was drawn; give the line the slot that it used",
        )
    return opening


def audit_verify(
    directory: Path, *, root: str | None = None, index_root: str | None = None
) -> tuple[CommitmentCheck, list[SealedRequest]]:
    """Hold a committed log against its roots.

    Args:
        directory: of `audit_commit`.
        root: of the log as it was published; the manifest's own where it is None.
        index_root: that of the served indices.

    Raises:
        DataError: a file cannot be read.
    """
    from overproof.audit.commitment_files import read_manifest, read_sealed_log
    from overproof.audit.commitments import verify_log

    manifest, requests = read_manifest(directory / LOG_MANIFEST), read_sealed_log(directory / LOG)
    path = directory / INDEX_MANIFEST
    if index_root is not None and not path.exists():
        raise DataError(str(path), "is not there", "without it no root of indices can be checked")
    indices = read_manifest(path) if path.exists() else None
    check = verify_log(requests, manifest, root=root, indices=indices, index_root=index_root)
    return check, requests
