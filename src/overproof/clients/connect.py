"""From a recipe's ``[teacher]`` to a teacher."""

from __future__ import annotations

from pathlib import Path

from overproof.clients.protocol import Teacher
from overproof.clients.secrets import redaction_of
from overproof.config.teacher import TeacherConfig

__all__ = ["connect", "redaction_of"]


def connect(
    config: TeacherConfig, *, log_dir: Path | None = None, state_dir: Path | None = None
) -> Teacher:
    """The teacher that the recipe names, not yet started: use it with ``async with``.

    Send ``teacher.model`` as the model of a request: for a model file it is the file's name, not
    a path of this machine.

    Args:
        config: the recipe's ``[teacher]``.
        log_dir: where an embedded teacher leaves ``teacher.log``.
        state_dir: the run directory, where a teacher asked in batches keeps what is under way.

    Raises:
        ConfigError: a teacher that cannot be asked so.
        SecretError: an environment variable that the recipe names is missing or empty.
        MissingExtraError: an embedded or a local teacher without what runs it.
        ModelError: an embedded model that was not pulled.
    """
    if config.batch:
        return _in_batches(config, state_dir)
    if config.kind == "embedded":
        from overproof.clients.embedded import EmbeddedTeacher

        return EmbeddedTeacher(config, log_dir=log_dir)
    if config.kind == "openai":
        from overproof.clients.openai_compatible import OpenAICompatibleTeacher

        return OpenAICompatibleTeacher(config)
    if config.kind == "anthropic":
        from overproof.clients.anthropic_messages import AnthropicTeacher

        return AnthropicTeacher(config)
    if config.kind == "local":
        from overproof.clients.local_weights import LocalTeacher

        return LocalTeacher(config)
    if config.kind == "fake":
        from overproof.clients.fake import FakeTeacher

        return FakeTeacher(config.model)
    from overproof.clients.ledger_only import LedgerOnlyTeacher

    return LedgerOnlyTeacher(config.model)


def _in_batches(config: TeacherConfig, state_dir: Path | None) -> Teacher:
    """The same teacher, asked through its provider's batch API."""
    from overproof.clients.batch_protocol import BatchApi
    from overproof.clients.batching import BatchingTeacher

    api: BatchApi
    if config.kind == "anthropic":
        from overproof.clients.batch_anthropic import AnthropicBatches

        api = AnthropicBatches(config)
    else:
        from overproof.clients.batch_openai import OpenAIBatches

        api = OpenAIBatches(config)
    inner = connect(config.model_copy(update={"batch": False}))
    return BatchingTeacher(inner, api, config, state_dir=state_dir)
