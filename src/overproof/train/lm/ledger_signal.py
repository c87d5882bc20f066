"""The sparse signal of a plain chat API: the log-probs that its answers came with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from overproof.clients.local_model import ENDS
from overproof.errors import DataError
from overproof.records.exchange import Exchange
from overproof.records.hashing import content_hash
from overproof.records.logprob_store import LogprobStore, StoreWriter
from overproof.train.lm.alignment import Ends, Placed, align, place
from overproof.train.lm.parts import TokenizedChat
from overproof.train.lm.signal_report import (
    SignalReport,
    SignalTally,
    finished,
    nothing_known,
    told,
)
from overproof.train.lm.student_tokens import TokenBytes, tokenizer_hash
from overproof.train.lm.teacher_text import TeacherText
from overproof.train.lm.teacher_text import told as teacher_text

__all__ = ["signal_from_ledger"]

VERSION = 1  # of the alignment: a store of an earlier one is made anew
SAMPLE = 512  # answers by which it is counted where tokens end


def signal_from_ledger(  # noqa: PLR0917
    lookup: Callable[[str], Exchange | None],
    chats: Sequence[TokenizedChat],
    answers: Sequence[str],
    tokenizer: Any,
    end: int,
    out: Path,
    *,
    k: int,
) -> tuple[LogprobStore, SignalReport]:
    """Put the teacher's log-probs onto the student's tokens, and keep them in a store.

    Args:
        lookup: ``Ledger.lookup``.
        chats: the training chats; the last of a chat's request keys is the answer's.
        answers: their answers' text.
        tokenizer: the student's.
        end: the student's token that ends an answer.
        out: the store's directory; one that was made of the same is used again.
        k: alternatives kept at each token.

    Raises:
        DataError: no answer has log-probs, or the store cannot be written.
        StudentError: the student's tokenizer does not keep bytes.
        LedgerCorruptError: an exchange is not what was written.
    """
    fingerprint = content_hash(
        {
            "made_by": f"ledger alignment {VERSION}",
            "chats": content_hash([[c.n_prompt, *c.request_keys[-1:], *c.ids] for c in chats]),
            "answers": content_hash(list(answers)),
            "tokenizer": tokenizer_hash(tokenizer),
            "end": end,
            "k": k,
        }
    )
    if (ready := finished(out, fingerprint)) is not None:
        return ready
    started = time.monotonic()
    work = _Work(lookup, chats, answers, TokenBytes(tokenizer), end)
    work.end_names |= {str(tokenizer.convert_ids_to_tokens(end))}
    ends, tally = work.ends(), SignalTally()
    size = work.student.size
    with StoreWriter(out, k=k, vocabulary=size, kind="top", fingerprint=fingerprint) as writer:
        for i, chat in enumerate(chats):
            text = work.text(i)
            if text is None:
                row, parted = nothing_known(chat.n_answer), 0
                tally.without += 1
            else:
                placed = work.placed(i, text)
                aligned = align(
                    text, work.answer(i), work.student, end=end, k=k, ends=ends, placed=placed
                )
                row, parted = aligned.row, aligned.parted
            tally.add(row, parted)
            writer.append(*row)
        if not tally.known:
            raise _none_known(len(chats), tally)
        report = tally.report("ledger", aligned=True, ms=1000 * (time.monotonic() - started))
        store = writer.finish(report.model_dump(mode="json"))
    return store, told(store, reused=False)


class _Work:
    """The answers with their exchanges."""

    def __init__(
        self,
        lookup: Callable[[str], Exchange | None],
        chats: Sequence[TokenizedChat],
        answers: Sequence[str],
        student: TokenBytes,
        end: int,
    ) -> None:
        if len(answers) != len(chats):
            raise ValueError(f"{len(answers)} answers for {len(chats)} chats")
        self.student = student
        self.end_names = frozenset(ENDS)
        self._lookup, self._chats, self._answers, self._end = lookup, chats, answers, end

    def text(self, i: int) -> TeacherText | None:
        """Chat ``i``'s answer in the teacher's tokens, ``None`` where it has no log-probs."""
        keys = self._chats[i].request_keys
        exchange = self._lookup(keys[-1]) if keys else None
        if exchange is None or not exchange.completion.logprobs:
            return None
        return teacher_text(exchange.completion.logprobs, self._answers[i], self.end_names)

    def answer(self, i: int) -> tuple[int, ...]:
        """Chat ``i``'s answer in the student's tokens."""
        chat = self._chats[i]
        return chat.ids[chat.n_prompt :]

    def placed(self, i: int, text: TeacherText) -> Placed:
        """Where the student's tokens lie in the teacher's bytes."""
        return place(text, self.answer(i), self.student, self._end, self._answers[i])

    def ends(self) -> Ends:
        """Where tokens end, counted in a sample that is spread over all answers."""
        ends = Ends()
        for i in range(0, len(self._chats), max(1, len(self._chats) // SAMPLE)):
            text = self.text(i)
            if text is not None:
                ends.observe(text, self.placed(i, text))
        return ends


def _none_known(n: int, tally: SignalTally) -> DataError:
    if tally.without < n:
        return DataError(
            "the teacher's log-probs",
            f"spell other texts than the answers that they came with, in {n - tally.without} of "
            f"{n} answers",
            "look at one with `overproof ledger show`; method = 'sft' learns from the text alone",
        )
    return DataError(
        "the teacher's answers",
        f"none of {n} came with log-probs",
        "set task.top_logprobs (20 is what most APIs give) and run `overproof collect` again; if "
        "the teacher gives none, take method = 'sft'",
    )
