"""From a recipe's ``[teacher]`` to a teacher."""

from __future__ import annotations

from pathlib import Path

from overproof.clients.protocol import Teacher
from overproof.clients.secrets import redaction_of
from overproof.config.recipe import TeacherConfig

__all__ = ["connect", "redaction_of"]


def connect(config: TeacherConfig, *, log_dir: Path | None = None) -> Teacher:
    """The teacher that the recipe names, not yet started: use it with ``async with``.

    Send ``teacher.model`` as the model of a request: for a model file it is the file's name, not
    a path of this machine.

    Args:
        config: the recipe's ``[teacher]``.
        log_dir: where an embedded teacher leaves ``teacher.log``.

    Raises:
        SecretError: an environment variable that the recipe names is missing or empty.
        MissingExtraError: an embedded teacher without xllamacpp.
        ModelError: an embedded model that was not pulled.
    """
    if config.kind == "embedded":
        from overproof.clients.embedded import EmbeddedTeacher

        return EmbeddedTeacher(config, log_dir=log_dir)
    if config.kind == "openai":
        from overproof.clients.openai_compatible import OpenAICompatibleTeacher

        return OpenAICompatibleTeacher(config)
    if config.kind == "fake":
        from overproof.clients.fake import FakeTeacher

        return FakeTeacher(config.model)
    from overproof.clients.ledger_only import LedgerOnlyTeacher

    return LedgerOnlyTeacher(config.model)
