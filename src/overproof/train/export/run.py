"""Export a finished student to another format, proved: nothing is left that was not."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from overproof.errors import MissingExtraError, StudentError
from overproof.records.hashing import content_hash, file_sha256
from overproof.records.lm_export import ExportFormat, ExportReport, Exports, GgufProof, HfProof
from overproof.records.lm_student import LmStudentCard

__all__ = ["export_student", "student_of"]

Say = Callable[[str], None]


def export_student(
    directory: Path, to: ExportFormat, out: Path | None = None, *, say: Say = lambda _: None
) -> ExportReport:
    """Export a student, prove the result, and write ``export.json`` beside it.

    What is written stands in its place only once it is proved; an earlier export of the same
    format stays until then. A LoRA beside its base is merged.

    Args:
        directory: ``RUN/students/NAME``, or a run with one student.
        to: the format.
        out: the directory to write into; ``DIRECTORY/export`` where unsaid.
        say: told what is being done.

    Raises:
        StudentError: no finished student; an architecture, tokenizer or weight that the format
            cannot hold; an answer out of tolerance; a full disk.
        MissingExtraError: a library that the format or its proof needs is not installed.
    """
    if to not in get_args(ExportFormat):
        known = ", ".join(get_args(ExportFormat))
        raise StudentError(f"--to {to}", "is no format that students are exported to", known)
    modules = ("torch", "transformers", *(("gguf",) if to != "safetensors" else ()))
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, "train")
    if to != "safetensors" and importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtraError("xllamacpp", "embedded")
    directory = student_of(directory)
    card = LmStudentCard.load(directory)
    place = directory / "export" if out is None else out
    began = time.monotonic()
    with _room(place), _alone(place):
        path, proof, notes = (
            _safetensors(directory, card, place, say)
            if to == "safetensors"
            else _gguf(directory, card, place, to, say)
        )
        size, digest = _fingerprint(path)
        report = ExportReport(
            format=to,
            student=card.name,
            file=path.name,
            bytes=size,
            sha256=digest,
            seconds=round(time.monotonic() - began, 3),
            proof=proof,
            notes=notes,
        )
        Exports.load(place).add(report, place)
    return report


def student_of(directory: Path) -> Path:
    """The directory of a student: itself, or a run's only one.

    Raises:
        StudentError: there is none, or there are several.
    """
    if (directory / "student.json").is_file() or not (directory / "students").is_dir():
        return directory
    found = sorted(path.parent for path in directory.glob("students/*/student.json"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise StudentError(str(directory), "has no finished student", "run `overproof train`")
    names = ", ".join(path.name for path in found)
    raise StudentError(
        str(directory), f"has several students ({names})", f"name one: {directory}/students/NAME"
    )


def _safetensors(
    directory: Path, card: LmStudentCard, place: Path, say: Say
) -> tuple[Path, HfProof, tuple[str, ...]]:
    from overproof.train.export import hf
    from overproof.train.export.card import facts_of
    from overproof.train.lm.parts import LmStudent

    say("reading the weights")
    module, tokenizer = hf.load_lm(directory)
    named = module.generation_config.eos_token_id
    ends = named if isinstance(named, list) else [named]
    student = LmStudent(
        name=card.name,
        module=module,
        tokenizer=tokenizer,
        base=card.base,
        base_dir=card.base_dir,
        base_licence=card.base_licence,
        end=ends[0],
        ends=frozenset(ends),
        context=card.context_length,
    )
    say("writing and loading again")
    target = place / "safetensors"
    base = (directory / card.base_dir).resolve()
    base_dir = os.path.relpath(base, target.resolve()) if base.exists() else card.base_dir
    whole = card.model_copy(update={"adapter": False, "base_dir": base_dir})
    proof = hf.save_lm(student, whole, target, facts=facts_of(directory))
    notes = ("the LoRA is merged into the weights",) if card.adapter else ()
    return target, proof, notes


def _gguf(
    directory: Path, card: LmStudentCard, place: Path, to: Any, say: Say
) -> tuple[Path, GgufProof, tuple[str, ...]]:
    from overproof.train.export.gguf_file import write_gguf
    from overproof.train.export.gguf_proof import prove_gguf, reference_of
    from overproof.train.export.hf import load_lm, merged
    from overproof.train.export.samples import sample_chats

    say("reading the weights")
    module, tokenizer = load_lm(directory)
    module = merged(module)
    inside = (module, tokenizer) if card.adapter else None
    weights = directory / "adapter" if card.adapter else directory
    target = place / f"{card.name}.{to.removeprefix('gguf-')}.gguf"
    # Beside the target, and not called *.gguf in the place itself while it is not proved.
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=place) as partial:
        path = Path(partial) / target.name
        say(f"writing {target.name}")
        written = write_gguf(
            weights, path, to, name=card.name, licence=card.base_licence, model=inside
        )
        say("asking llama.cpp and transformers the same")
        reference = reference_of(module, tokenizer, sample_chats(directory))
        del module, inside
        proof = prove_gguf(directory, path, kind=to, reference=reference)
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        path.replace(target)
    types = ", ".join(f"{n} {name}" for name, n in written.types.items())
    return target, proof, (f"weights by type: {types}", *written.notes)


def _fingerprint(path: Path) -> tuple[int, str]:
    """Bytes and hash of a file; of a directory, the hash of its files' hashes by name."""
    if path.is_file():
        return path.stat().st_size, f"sha256:{file_sha256(path)}"
    files = sorted(file for file in path.rglob("*") if file.is_file())
    hashes = {str(file.relative_to(path)): file_sha256(file) for file in files}
    return sum(file.stat().st_size for file in files), content_hash(hashes)


@contextmanager
def _room(place: Path) -> Iterator[None]:
    """Say clearly when there is no room or no right to write."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno not in (
            errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM, errno.EEXIST,
            errno.ENOTDIR,
        ):  # fmt: skip
            raise
        raise StudentError(
            str(place),
            f"cannot be written: {error.strerror}",
            "make room, or name another place with --out; earlier exports are untouched",
        ) from error


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One export into a place at a time; what a killed one left half-written is removed."""
    with (place / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StudentError(
                str(place), "is being exported into by another process", "wait until it is done"
            ) from None
        for left in place.glob(".partial-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
