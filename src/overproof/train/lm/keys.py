"""What a finished student is known by: a hash of all that it was made of."""

from __future__ import annotations

from pathlib import Path

from overproof.config.lm_students import (
    AnyLmStudent,
    DenseKdConfig,
    OnPolicyConfig,
    SampledKdConfig,
    SparseKdConfig,
)
from overproof.config.load import LoadedTextRecipe
from overproof.errors import StudentError
from overproof.records.hashing import content_hash
from overproof.records.lm_student import LmStudentCard

__all__ = ["finished", "learns_from_weights", "student_key", "wants_weights"]


def student_key(loaded: LoadedTextRecipe, config: AnyLmStudent) -> str:
    """Content hash of all that a student is made of: dataset, its section, what it starts from.

    The files of its base are part of it, and those of a local teacher whose weights it learns
    from. A name on the hub that was not pulled stands for itself, with its revision.

    Raises:
        ModelError: the base or the teacher's weights are not there.
    """
    section = config.model_dump(mode="json", exclude_defaults=True)
    for name in ("checkpoint_every", "processes"):
        section.pop(name, None)
    start: str | None = None
    if config.start is not None:
        before = next(s for s in loaded.recipe.students if s.name == config.start)
        start = student_key(loaded, before)
    teacher = loaded.recipe.teacher
    from_teacher = config.base == "teacher"
    base = None if from_teacher or config.start is not None else _weights(config.base)
    learned = teacher.kind == "local" and (from_teacher or learns_from_weights(config, loaded))
    return content_hash(
        {
            "dataset": loaded.dataset_sha256,
            "seed": loaded.recipe.run.seed,
            "student": section,
            "start": start,
            "base": base,
            "teacher": _weights(teacher.model) if learned else None,
        }
    )


def _weights(model: str) -> str:
    """Content hash of the files behind a model's name."""
    from overproof.clients.local_model import source_of
    from overproof.train.lm.made_bases import file_fingerprint, files_fingerprint

    source = source_of(model)
    place = Path(source.place)
    if not place.is_dir():
        return content_hash([source.place, source.file, source.revision])
    if source.file is not None:
        return file_fingerprint(place / source.file)
    return files_fingerprint(place)


def finished(directory: Path, key: str) -> LmStudentCard | None:
    """The card of a student that is complete and was made of the same; else ``None``."""
    try:
        card = LmStudentCard.load(directory)
    except StudentError:
        return None
    return card if card.config_sha256 == key else None


def wants_weights(config: AnyLmStudent, loaded: LoadedTextRecipe) -> bool:
    """Whether the method needs the teacher's weights here while it trains."""
    if loaded.recipe.teacher.kind != "local":
        return False
    if isinstance(config, OnPolicyConfig):
        return config.scorer != "server"
    return isinstance(config, DenseKdConfig | SampledKdConfig)


def learns_from_weights(config: AnyLmStudent, loaded: LoadedTextRecipe) -> bool:
    """Whether the teacher's weights are read for the method, be it before training."""
    is_local = loaded.recipe.teacher.kind == "local"
    reread = isinstance(config, SparseKdConfig) and not loaded.recipe.task.top_logprobs
    return wants_weights(config, loaded) or (is_local and reread)
