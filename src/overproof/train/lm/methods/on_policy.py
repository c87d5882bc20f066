"""On-policy KD: the teacher scores what the student itself writes (GKD, arXiv 2306.13649).

A student that learns from the teacher's text alone meets its own mistakes for the first time when
it is used. Here it writes, and the teacher says at every token what it would have thought there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from overproof.clients.local_model import LocalModel
from overproof.config.lm_students import OnPolicyConfig
from overproof.errors import TeacherError
from overproof.records.logprob_codec import SparseRow
from overproof.train.lm.forward import Places, answer_sum
from overproof.train.lm.methods.dense_kd import dense_sum
from overproof.train.lm.parts import IGNORED, Batch, LmStudent, TokenizedChat
from overproof.train.lm.rollouts import rollout_seed, rollouts
from overproof.train.losses.divergences import divergence
from overproof.train.losses.sparse import sparse_divergence

__all__ = ["OnPolicy", "Scorer"]


@runtime_checkable
class Scorer(Protocol):
    """Who scores text of the student where the teacher's weights are elsewhere."""

    def score(self, chats: Sequence[TokenizedChat]) -> list[SparseRow]:
        """What the teacher thinks of the answers.

        Raises:
            TeacherError: it does not say.
        """
        ...


class OnPolicy:
    """The student learns from the teacher's judgement of its own text.

    Args:
        config: the student's section of the recipe.
        student: for its tokens and its context.
        chats: the training chats, which a batch names by number.
        seed: of everything that is drawn, together with the step and the chat.
        teacher: weights of the student's vocabulary, with ``shared`` ids in common; or
        scorer: who is asked instead.
        shared: see ``vocabularies.SharedVocabulary``.
    """

    name = "on_policy"

    def __init__(
        self,
        config: OnPolicyConfig,
        student: LmStudent,
        chats: Sequence[TokenizedChat],
        *,
        seed: int,
        teacher: LocalModel | None = None,
        scorer: Scorer | None = None,
        shared: int = 0,
    ) -> None:
        self._config = config
        self._chats = chats
        self._seed = seed
        self._teacher = teacher
        self._scorer = scorer
        self._shared = shared
        self._ends = student.ends
        self._pad = int(student.tokenizer.pad_token_id)
        contexts = [student.context, teacher.context if teacher else None]
        self._context = min((n for n in contexts if n is not None), default=None)

    def prepare(self, model: Any, batch: Batch, step: int) -> Batch:
        """The batch's chats, some answered anew by the student as it is now; one a row, padded.

        What is drawn depends on the seed, the step and the chat alone.

        Raises:
            TeacherError: a server said nothing of any answer.
        """
        numbers = [int(i) for i in batch["chat_index"].tolist()]
        chats = [self._chats[i] for i in numbers]
        seeds = [rollout_seed(self._seed, step, i) for i in numbers]
        limits = [self._limit(chat, seed) for chat, seed in zip(chats, seeds, strict=True)]
        said = rollouts(
            model,
            [chat.ids[: chat.n_prompt] for chat in chats],
            ends=self._ends,
            limits=limits,
            seeds=seeds,
            temperature=self._config.rollout_temperature,
            in_bfloat16=self._in_bfloat16(batch["chat_index"].device),
        )
        answered = [
            dataclasses.replace(chat, ids=(*chat.ids[: chat.n_prompt], *answer)) if answer else chat
            for chat, answer in zip(chats, said, strict=True)
        ]
        prepared = _padded(answered, self._pad) | {"chat_index": batch["chat_index"]}
        if self._scorer is not None:
            prepared |= _scored(prepared["labels"], self._scorer.score(answered))
        device = batch["chat_index"].device
        return {name: value.to(device) for name, value in prepared.items()}

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        """The summed divergence of the answer tokens, whoever wrote them."""
        config = self._config

        def of_both(student_cv: torch.Tensor, teacher_cv: torch.Tensor) -> torch.Tensor:
            return divergence(
                student_cv,
                teacher_cv,
                config.divergence,
                temperature=config.temperature,
                skew=config.skew,
            )

        if self._teacher is not None:
            return dense_sum(model, self._teacher, batch, self._shared, of_both)

        def of_chunk(
            logits_cv: torch.Tensor, chunk: slice, _targets_c: torch.Tensor, places: Places
        ) -> torch.Tensor:
            at = (places[0][chunk], places[1][chunk])
            return sparse_divergence(
                logits_cv,
                batch["teacher_ids"][at].long(),
                batch["teacher_logprobs"][at],
                batch["teacher_tail"][at],
                config.divergence,
                temperature=config.temperature,
                skew=config.skew,
            )

        return answer_sum(model, batch, of_chunk)

    def _in_bfloat16(self, device: torch.device) -> bool:
        """Whether the student writes in the precision that it is trained in."""
        precision = self._config.precision
        return precision == "bfloat16" or (precision == "auto" and device.type == "cuda")

    def _limit(self, chat: TokenizedChat, seed: int) -> int:
        """How many tokens the student may write; none where the teacher's text is to be read."""
        if rollout_seed(seed, 1) >= self._config.on_policy_share * 2.0**63:
            return 0
        room = self._config.rollout_tokens
        if self._context is not None:
            room = min(room, self._context - chat.n_prompt)
        return max(0, room)


def _padded(chats: Sequence[TokenizedChat], pad: int) -> dict[str, torch.Tensor]:
    """One chat a row, padded on the right; see ``parts.Batch``."""
    width = max(len(chat.ids) for chat in chats)
    shape = (len(chats), width)
    ids = torch.full(shape, pad, dtype=torch.int64)
    labels = torch.full(shape, IGNORED, dtype=torch.int64)
    mask = torch.zeros(shape, dtype=torch.int64)
    for row, chat in enumerate(chats):
        n = len(chat.ids)
        ids[row, :n] = torch.tensor(chat.ids)
        labels[row, chat.n_prompt : n] = ids[row, chat.n_prompt : n]
        mask[row, :n] = 1
    positions = torch.arange(width).expand(shape).clone()
    return {"input_ids": ids, "position_ids": positions, "labels": labels, "attention_mask": mask}


def _scored(labels_bt: torch.Tensor, scores: Sequence[SparseRow]) -> dict[str, torch.Tensor]:
    """The teacher's signal at its places; answer tokens of which nothing is known are not learned.

    Cross-entropy, which stands in elsewhere, would confirm the student in its own words here.
    """
    k = max((score.ids.shape[1] for score in scores), default=1)
    shape = tuple(labels_bt.shape)
    ids = torch.zeros((*shape, k), dtype=torch.int32)
    logprobs = torch.full((*shape, k), -torch.inf)
    tail = torch.full(shape, -torch.inf)
    known = torch.zeros(shape, dtype=torch.bool)
    for row, score in enumerate(scores):
        (columns,) = (labels_bt[row] != IGNORED).nonzero(as_tuple=True)
        wide = score.ids.shape[1]
        ids[row, columns, :wide] = torch.from_numpy(score.ids)
        logprobs[row, columns, :wide] = torch.from_numpy(score.logprobs)
        tail[row, columns] = torch.from_numpy(score.tail)
        known[row, columns] = torch.from_numpy(score.known)
    if not bool(known.any()):
        raise TeacherError(
            "the teacher's server",
            "said nothing that could be matched to any answer of the student",
            "check that it gives prompt_logprobs and continues a last message of role assistant; "
            "else use scorer = 'local'",
        )
    return {
        "labels": torch.where(known, labels_bt, torch.full_like(labels_bt, IGNORED)),
        "teacher_ids": ids,
        "teacher_logprobs": logprobs,
        "teacher_tail": tail,
        "teacher_known": known,
    }
