"""Which files of a student's directory its answers depend on, and their hash."""

from __future__ import annotations

from pathlib import Path

from overproof.records.hashing import content_hash, file_sha256

__all__ = ["has_weights", "weights_sha256"]

# What answers depend on; a model card or a log beside them may change.
_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
_BESIDE = ("student.json", "training.json", "export.json")
_FOLDERS = ("", "adapter/")


def weights_sha256(directory: Path) -> str:
    """Content hash of weights, shape, tokenizer, chat template and how answers are generated.

    Of an adapter in it, too; not of an adapter's base, which lies elsewhere.
    """
    return content_hash(
        {path.relative_to(directory).as_posix(): file_sha256(path) for path in _files(directory)}
    )


def has_weights(directory: Path) -> bool:
    """Whether there are weights, or an adapter's, in a directory."""
    return any(path.suffix == ".safetensors" for path in _files(directory))


def _files(directory: Path) -> list[Path]:
    patterns = [folder + pattern for folder in _FOLDERS for pattern in _PATTERNS]
    found = {path for pattern in patterns for path in directory.glob(pattern)}
    return sorted(path for path in found if path.name not in _BESIDE)
