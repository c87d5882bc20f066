"""Models of a hub by name: fetched by ``huggingface_hub``, then pinned by a lock file.

The first pull records the revision and the hash of every file in ``overproof-lock.json``; whatever
differs later is refused.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from overproof.clients import fetch
from overproof.clients.registry import ModelInfo, PinnedFile, models_dir
from overproof.errors import HashMismatchError, MissingExtraError, ModelError
from overproof.records.files import write_atomically
from overproof.records.hashing import file_sha256

__all__ = ["home_of", "pull", "pulled", "read"]

LOCK = "overproof-lock.json"
# Weights as safetensors or GGUF alone: the other formats run code when they are loaded.
PATTERNS = ["*.safetensors", "*.json", "*.txt", "*.model", "README.md", "LICENSE*"]


def home_of(name: str) -> Path:
    """Directory of a hub model; a revision that was asked for has one of its own."""
    return models_dir() / "hub" / name.replace("/", "--")


def read(name: str) -> ModelInfo:
    """A hub model that was pulled.

    Raises:
        ModelError: it was not.
    """
    lock_file = home_of(name) / LOCK
    if not lock_file.is_file():
        raise ModelError(
            f"model {name!r}",
            "is neither a path here nor a model that was pulled",
            f"run: overproof models pull {name}",
        )
    return _model(json.loads(lock_file.read_text()))


def pulled() -> list[ModelInfo]:
    """Every hub model that was pulled, by name."""
    locks = sorted((models_dir() / "hub").glob(f"*/{LOCK}"))
    return [_model(json.loads(lock.read_text())) for lock in locks]


def pull(name: str, *, force: bool = False) -> Path:
    """Fetch ``ORG/NAME[/FILE][@REVISION]``, or check what an earlier pull left.

    Args:
        name: a repository with its safetensors, or one file of it such as a GGUF.
        force: fetch again and lock anew.

    Raises:
        ModelError: the hub is out of reach, or has no such model.
        HashMismatchError: a file is not the locked one.
        MissingExtraError: without ``huggingface_hub``.
    """
    home = home_of(name)
    locked = read(name) if (home / LOCK).is_file() else None
    complete = locked is not None and all((home / f.path).is_file() for f in locked.files)
    if locked is not None and complete and not force:
        fetch.verify(home, locked.files, name)
        return home / locked.main
    path, _, revision = name.partition("@")
    organisation, repository, *inside = path.split("/")
    repo, file = f"{organisation}/{repository}", "/".join(inside)
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".pull-", dir=home.parent) as work:
        staged = Path(work) / "files"
        wanted = locked.version if locked is not None and not force else revision
        commit, licence = _snapshot(repo, wanted or None, [file] if file else PATTERNS, staged)
        lock = {
            "name": name,
            "repository": repo,
            "revision": commit,
            "licence": licence,
            "main": file or ".",
            "files": [
                {
                    "path": found.relative_to(staged).as_posix(),
                    "size": found.stat().st_size,
                    "sha256": file_sha256(found),
                }
                for found in sorted(staged.rglob("*"))
                if found.is_file()
            ],
        }
        model = _model(lock)
        _has_weights(model, file)
        if locked is not None and not force and locked.files != model.files:
            raise HashMismatchError(
                f"model {name}",
                f"revision {commit} is no longer what was locked in {home / LOCK}",
                f"look into it; to take the new files: overproof models pull {name} --force",
            )
        write_atomically(staged / LOCK, json.dumps(lock, indent=2) + "\n")
        fetch.put_in_place(staged, home)
    return home / model.main


def _snapshot(repo: str, revision: str | None, patterns: list[str], into: Path) -> tuple[str, str]:
    """Download a snapshot; returns its commit and its licence as the hub states it."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtraError("huggingface_hub", "train")
    import huggingface_hub
    from huggingface_hub import errors

    try:
        about = huggingface_hub.HfApi().model_info(repo, revision=revision)
        huggingface_hub.snapshot_download(
            repo, revision=about.sha, local_dir=into, allow_patterns=patterns
        )
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"model {repo}",
            f"could not be fetched from the hub: {reason}",
            "check the name, the revision and the network; offline, name a local directory",
        ) from error
    # The downloader leaves its own book-keeping beside the files.
    shutil.rmtree(into / ".cache", ignore_errors=True)
    card = about.card_data
    licence = getattr(card, "license", None) if card is not None else None
    return about.sha or "unknown", licence if isinstance(licence, str) else "not stated"


def _has_weights(model: ModelInfo, file: str) -> None:
    weights = [f for f in model.files if f.path.endswith((".safetensors", ".gguf"))]
    if not weights and not any(f.path == file for f in model.files):
        raise ModelError(
            f"model {model.name}",
            "the hub offers no such file" if file else "has no safetensors",
            "name a repository with safetensors, or one GGUF file: ORG/NAME/FILE.gguf",
        )


def _model(lock: Mapping[str, object]) -> ModelInfo:
    files = lock["files"]
    if not isinstance(files, list):
        raise ModelError(f"lock of model {lock['name']}", "is not readable", "pull it --force")
    return ModelInfo(
        name=str(lock["name"]),
        kind="hub",
        licence=str(lock["licence"]),
        version=str(lock["revision"]),
        source=str(lock["repository"]),
        main=str(lock["main"]),
        files=tuple(PinnedFile.model_validate(file) for file in files),
    )
