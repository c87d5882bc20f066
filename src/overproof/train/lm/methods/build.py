"""The method that a recipe names, with what it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from overproof.clients.local_model import LocalModel
from overproof.clients.protocol import Teacher
from overproof.config.lm_students import (
    DenseKdConfig,
    LmStudentConfig,
    OnPolicyConfig,
    SampledKdConfig,
    SftConfig,
    SparseKdConfig,
)
from overproof.errors import CapabilityError
from overproof.train.lm.methods.dense_kd import DenseKd
from overproof.train.lm.methods.on_policy import OnPolicy, Scorer
from overproof.train.lm.methods.sampled_kd import SampledKd
from overproof.train.lm.methods.sft import Sft
from overproof.train.lm.methods.sparse_kd import SparseKd
from overproof.train.lm.parts import LmStudent, Method, TokenizedChat
from overproof.train.lm.server_scorer import ServerScorer
from overproof.train.lm.vocabularies import require_same_vocabulary

__all__ = ["build_method"]


def build_method(
    config: LmStudentConfig,
    student: LmStudent,
    *,
    teacher: LocalModel | None,
    scorer: Teacher | Scorer | None,
    chats: Sequence[TokenizedChat],
    seed: int,
    rows: Sequence[Mapping[str, Any]] = (),
) -> Method:
    """The method of a student.

    Args:
        config: its section of the recipe.
        student: what is trained.
        teacher: the local teacher's weights, for dense and on-policy KD.
        scorer: who scores the student's text where there are none: a client of the teacher's
            server, or anything with a ``score``.
        chats: the training chats.
        seed: of rollouts.
        rows: the answered rows of the training split, whose messages a server is sent.

    Raises:
        CapabilityError: the method needs what this teacher lacks, or the teacher's vocabulary is
            not the student's.
    """
    if isinstance(config, SftConfig):
        return Sft()
    if isinstance(config, SampledKdConfig):
        return SampledKd(config)
    if isinstance(config, SparseKdConfig):
        return SparseKd(config)
    if isinstance(config, DenseKdConfig) and teacher is not None:
        return DenseKd(
            teacher,
            _shared(config, student, teacher, chats),
            config.divergence,
            skew=config.skew,
            temperature=config.temperature,
            ce_weight=config.ce_weight,
        )
    if isinstance(config, OnPolicyConfig) and teacher is not None and config.scorer != "server":
        shared = _shared(config, student, teacher, chats)
        return OnPolicy(config, student, chats, seed=seed, teacher=teacher, shared=shared)
    if isinstance(config, OnPolicyConfig) and scorer is not None and config.scorer != "local":
        asked = (
            scorer
            if isinstance(scorer, Scorer)
            else ServerScorer(scorer, student, rows, k=config.top_k)
        )
        return OnPolicy(config, student, chats, seed=seed, scorer=asked)
    raise CapabilityError(
        f"students.{config.name}.method",
        "needs the teacher's weights, or a server that scores text with prompt_logprobs",
        "use teacher.kind = 'local'; 'sparse_kd' learns from top_logprobs, 'sft' from text alone",
    )


def _shared(
    config: LmStudentConfig,
    student: LmStudent,
    teacher: LocalModel,
    chats: Sequence[TokenizedChat],
) -> int:
    """How many ids both know alike, and have weights for.

    Raises:
        CapabilityError: an id means different tokens to them, they end answers differently, or the
            chats hold tokens that the teacher does not know.
    """
    method = str(getattr(config, "method", ""))
    found = require_same_vocabulary(
        student.tokenizer,
        teacher.chat.tokenizer,
        student_name=config.name,
        teacher_name=teacher.name,
        method=method,
    )
    end = student.tokenizer.convert_ids_to_tokens(student.end)
    if student.end not in teacher.ends:
        theirs = teacher.chat.tokenizer.convert_ids_to_tokens(sorted(teacher.ends))
        raise CapabilityError(
            f"student {config.name}",
            f"ends its answers with {end!r}, and {teacher.name} with {' or '.join(theirs)}: from "
            "the teacher's distribution it would learn never to stop",
            "put the teacher's chat_template.jinja into the directory of the base",
        )
    rows = [
        module.get_input_embeddings().weight.shape[0] for module in (student.module, teacher.module)
    ]
    shared = min(found.shared, *map(int, rows))
    highest = max((max(chat.ids) for chat in chats), default=0)
    if highest >= shared:
        token = student.tokenizer.convert_ids_to_tokens(highest)
        raise CapabilityError(
            f"student {config.name}",
            f"the training chats hold {token!r} ({highest}), which {teacher.name} does not know: "
            f"they share the first {shared} tokens",
            "use the teacher's own chat template and tokenizer for the base",
        )
    longest = max((len(chat.ids) for chat in chats), default=0)
    if teacher.context is not None and longest > teacher.context:
        raise CapabilityError(
            f"student {config.name}",
            f"a training chat has {longest} tokens, and {teacher.name} reads {teacher.context}",
            f"set max_length to {teacher.context} or less",
        )
    return shared
