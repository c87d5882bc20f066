"""Training chats as the teacher reads them: its own template, its own tokens.

Where teacher and student share vocabulary and chat template, the student's tokens are the
teacher's. With the same vocabulary and another template, the teacher's prompt goes before the
student's answer. Otherwise the teacher reads its own tokens of the same answer, and what it thinks
of them is put onto the student's by bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from overproof.clients.local_model import LocalModel
from overproof.errors import DataError
from overproof.records.exchange import Outcome
from overproof.records.logprob_codec import MOST_PLACES, SparseRow
from overproof.train.lm.alignment import Ends, align, place
from overproof.train.lm.chats import tokenize_chats
from overproof.train.lm.endings import endings_of
from overproof.train.lm.parts import TokenizedChat
from overproof.train.lm.signal_report import nothing_known
from overproof.train.lm.student_tokens import TokenBytes, vocabulary_size
from overproof.train.lm.teacher_text import TeacherText, TeacherToken
from overproof.train.lm.vocabularies import same_vocabulary

if TYPE_CHECKING:
    import torch

__all__ = ["ByBytes", "Reread", "reread"]

SAMPLE = 512  # answers by which it is counted where tokens end
UNLIMITED = 1 << 30
MORE, LEAST = 2, 64  # several of the teacher's tokens may begin with one of the student's


@dataclass(frozen=True)
class ByBytes:
    """What alignment by bytes needs: the tokens of both, their ends, the answers' text."""

    student: TokenBytes
    teacher: TokenBytes
    end: int
    ends: frozenset[int]
    answers: Sequence[str]
    counted: Ends


@dataclass
class Reread:
    """Chats in the teacher's tokens.

    ``chats`` has one entry a training chat, ``None`` for what the teacher cannot read. ``bytes``
    is set where the answers' tokens are not the student's. ``swap`` are two ids that change places
    in the logits: the ends of teacher and student, where templates differ. ``vocabulary`` is the
    student's, ``vocabulary_read`` how many logits are looked at: rows beyond are padding.
    """

    chats: list[TokenizedChat | None]
    students: Sequence[TokenizedChat]
    vocabulary: int
    vocabulary_read: int
    swap: tuple[int, int] | None = None
    bytes: ByBytes | None = None

    def swapped(self, logits_cv: torch.Tensor) -> torch.Tensor:
        """Logits with the teacher's end in the place of the student's."""
        if self.swap is None:
            return logits_cv
        one, other = self.swap
        logits_cv[:, [one, other]] = logits_cv[:, [other, one]]
        return logits_cv

    def in_students_tokens(self, i: int, row: SparseRow | None, k: int) -> tuple[SparseRow, int]:
        """What the teacher thinks of chat ``i``, and how many tokens lie where texts part."""
        chat = self.students[i]
        if row is None:
            return nothing_known(chat.n_answer), 0
        if self.bytes is None:
            return row, 0
        by = self.bytes
        text = self._text(i, row)
        answer = chat.ids[chat.n_prompt :]
        placed = place(text, answer, by.student, by.end, by.answers[i])
        aligned = align(text, answer, by.student, end=by.end, k=k, ends=by.counted, placed=placed)
        return aligned.row, aligned.parted

    def places(self, k: int) -> int:
        """How many of the teacher's tokens are looked at, for ``k`` of the student."""
        return k if self.bytes is None else min(max(MORE * k, LEAST), MOST_PLACES)

    def _text(self, i: int, row: SparseRow) -> TeacherText:
        """Chat ``i``'s answer with what was likely in place of each token."""
        by, chat = self.bytes, self.chats[i]
        if by is None or chat is None:
            raise ValueError("nothing to align")
        tokens: list[tuple[bytes, TeacherToken | None]] = []
        after = None
        for n, token in enumerate(chat.ids[chat.n_prompt :]):
            told = _told(by, token, row.ids[n], row.logprobs[n])
            if token in by.ends:
                after = told
                break
            tokens.append((by.teacher.bytes_of(token), told if told.data else None))
        return TeacherText.of(tokens, after)


def _told(
    by: ByBytes, token: int, ids: npt.NDArray[np.int32], logprobs: npt.NDArray[np.float32]
) -> TeacherToken:
    """One token of the teacher with the likeliest in its place, itself among them."""
    others: dict[bytes, float] = {}
    mass = end = 0.0
    masses = np.exp(logprobs, dtype=np.float64)
    for other, value in zip(ids.tolist(), masses.tolist(), strict=True):
        data = by.teacher.bytes_of(other)
        if other in by.ends:
            end += value
        elif other == token:
            mass = value
        elif data:
            others[data] = others.get(data, 0.0) + value
    return TeacherToken(
        by.teacher.bytes_of(token), mass, tuple(others.items()), end, is_end=token in by.ends
    )


def reread(
    teacher: LocalModel,
    chats: Sequence[TokenizedChat],
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]] | None,
) -> Reread:
    """Prepare training chats for the teacher to read.

    Args:
        teacher: the weights.
        chats: in the student's tokens.
        tokenizer: the student's.
        rows: the dataset's rows; ``TokenizedChat.row`` counts the answered ones.

    Raises:
        DataError: the teacher's tokenizer or template is not the student's, and there are no rows.
        StudentError: vocabularies differ and a tokenizer does not keep bytes.
    """
    theirs = teacher.chat.tokenizer
    is_same = same_vocabulary(tokenizer, theirs).same
    made = min(vocabulary_size(theirs), teacher.module.get_output_embeddings().weight.shape[0])
    vocabulary = vocabulary_size(tokenizer)
    if is_same and tokenizer.chat_template == theirs.chat_template:
        readable = [chat if _is_readable(chat, teacher, made) else None for chat in chats]
        return Reread(readable, chats, vocabulary, min(made, vocabulary))
    if rows is None:
        raise DataError(
            f"teacher {teacher.name}",
            "has another tokenizer or chat template than the student, so it has to read the chats "
            "themselves",
            "hand the dataset's rows over",
        )
    answered = [row for row in rows if row.get("outcome", "answered") == Outcome.ANSWERED.value]
    end = endings_of(teacher.module, theirs, teacher.name).end
    read = tokenize_chats(answered, theirs, end=end, max_length=teacher.context or UNLIMITED)
    by_row = {chat.row: chat for chat in read.chats}
    if not is_same:
        ends = teacher.ends | {end}
        return _by_bytes(chats, [by_row.get(c.row) for c in chats], answered, made, ends,
                         TokenBytes(tokenizer), TokenBytes(theirs))  # fmt: skip
    own_end = chats[0].ids[-1] if chats else end
    joined: list[TokenizedChat | None] = []
    for chat in chats:
        asked = by_row.get(chat.row)
        both = None if asked is None else _joined(asked, chat, own_end, end)
        joined.append(both if both and _is_readable(both, teacher, made) else None)
    looked_at = min(made, vocabulary)
    swap = (own_end, end) if own_end != end and max(own_end, end) < looked_at else None
    return Reread(joined, chats, vocabulary, looked_at, swap)


def _by_bytes(  # noqa: PLR0917
    chats: Sequence[TokenizedChat],
    theirs: list[TokenizedChat | None],
    answered: Sequence[Mapping[str, Any]],
    made: int,
    ends: frozenset[int],
    student: TokenBytes,
    teacher: TokenBytes,
) -> Reread:
    answers = [str(answered[chat.row]["messages"][-1]["content"] or "") for chat in chats]
    end = chats[0].ids[-1] if chats else 0
    counted = Ends()
    for i in range(0, len(chats), max(1, len(chats) // SAMPLE)):
        if (read := theirs[i]) is not None:
            pieces = [teacher.bytes_of(t) for t in read.ids[read.n_prompt :] if t not in ends]
            text = TeacherText.of([(p, TeacherToken(p, 1.0) if p else None) for p in pieces])
            answer = chats[i].ids[chats[i].n_prompt :]
            counted.observe(text, place(text, answer, student, end, answers[i]))
    by = ByBytes(student, teacher, end, ends, answers, counted)
    return Reread(theirs, chats, student.size, made, bytes=by)


def _joined(asked: TokenizedChat, chat: TokenizedChat, own_end: int, end: int) -> TokenizedChat:
    """The teacher's prompt with the student's answer, which ends as the teacher's do."""
    answer = tuple(end if t == own_end else t for t in chat.ids[chat.n_prompt :])
    return replace(chat, ids=asked.ids[: asked.n_prompt] + answer, n_prompt=asked.n_prompt)


def _is_readable(chat: TokenizedChat, teacher: LocalModel, vocabulary: int) -> bool:
    """Whether it fits into the context and holds no token that the teacher has no row for."""
    fits = teacher.context is None or len(chat.ids) <= teacher.context
    return fits and chat.n_prompt > 0 and max(chat.ids) < vocabulary
