"""The sparse signal of a local teacher: its weights read prompts and answers once.

Shapes: B chats, T tokens, N answer tokens, C of them in a chunk, D width, V vocabulary, K places.

The pass stops short of the logits, which are made for answer tokens alone, chunk by chunk. What is
kept of each distribution is either its K likeliest tokens, or tokens drawn from all of it: random-
sampling KD (arXiv 2503.16870), whose shares are right on average where the likeliest tokens alone
are not. What is drawn for a chat depends on the seed and the chat's row, not on what else is in
its batch, as far as rounding goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from overproof.clients.local_model import LocalModel
from overproof.errors import CapabilityError, DataError, ModelError
from overproof.records.hashing import content_hash
from overproof.records.logprob_codec import Kind, SparseRow
from overproof.records.logprob_store import LogprobStore, StoreWriter
from overproof.train.lm.forward import Head, answer_hidden, whole_head_of
from overproof.train.lm.made_bases import weights_fingerprint
from overproof.train.lm.parts import IGNORED, TokenizedChat
from overproof.train.lm.reread import Reread, reread
from overproof.train.lm.signal_report import (
    SignalReport,
    SignalTally,
    finished,
    told,
)
from overproof.train.lm.student_tokens import tokenizer_hash

__all__ = ["signal_from_weights"]

VERSION = 1  # of what is computed: a store of an earlier one is made anew
LOGITS_BYTES = 64 * 2**20  # logits made at a time, in float64
WINDOW = 256  # chats that are sorted by length together
ROUNDING = 1e-6  # of mass: what rounding leaves of a sum of one
Progress = Callable[[float], None]


def signal_from_weights(
    teacher: LocalModel,
    chats: Sequence[TokenizedChat],
    tokenizer: Any,
    out: Path,
    *,
    k: int | None = None,
    draws: int | None = None,
    seed: int,
    rows: Sequence[Mapping[str, Any]] | None = None,
    batch_tokens: int = 4096,
    progress: Progress | None = None,
) -> tuple[LogprobStore, SignalReport]:
    """Have the teacher's weights read prompts and answers, and keep what they think in a store.

    Args:
        teacher: the weights.
        chats: the training chats in the student's tokens.
        tokenizer: the student's.
        out: the store's directory; one that was made of the same is used again.
        k: keep the likeliest ``k`` tokens; either this or ``draws``.
        draws: draw so many tokens from the whole distribution, at most 255.
        seed: of the draws.
        rows: the dataset's rows (``read_chats``), which ``TokenizedChat.row`` counts the answered
            ones of: needed where the teacher's tokenizer or chat template is not the student's.
        batch_tokens: tokens that are read at a time, padding included.
        progress: told the share that is done.

    Raises:
        CapabilityError: ``draws`` with a teacher of another vocabulary.
        DataError: the rows are needed and not given, or the store cannot be written.
        ModelError: the teacher computes no numbers, or there is not enough memory.
        StudentError: the student's tokenizer does not keep bytes, where that matters.
    """
    if (k is None) == (draws is None):
        raise ValueError("either k or draws")
    size = k or draws or 1
    fingerprint = content_hash(
        {
            "made_by": f"weights {VERSION}",
            "teacher": [weights_fingerprint(teacher), teacher.fingerprint],
            "chats": content_hash([[c.row, c.n_prompt, *c.ids] for c in chats]),
            "tokenizer": tokenizer_hash(tokenizer),
            "k": k,
            "draws": [draws, seed] if draws else None,
        }
    )
    if (ready := finished(out, fingerprint)) is not None:
        return ready
    started = time.monotonic()
    asked = reread(teacher, chats, tokenizer, rows)
    if asked.bytes is not None and draws is not None:
        raise CapabilityError(
            f"teacher {teacher.name}",
            "has another vocabulary than the student, so its draws are no tokens of the student",
            "take method = 'sparse_kd', whose log-probs are mapped by bytes, or a base of the "
            "teacher's family",
        )
    kind: Kind = "top" if draws is None else "sampled"
    scorer = _Scorer(teacher, asked, k, draws, seed)
    with StoreWriter(
        out, k=size, vocabulary=asked.vocabulary, kind=kind, fingerprint=fingerprint
    ) as writer:
        tally = _write(writer, scorer, asked, size, batch_tokens, progress)
        report = tally.report(
            "weights", aligned=asked.bytes is not None, ms=1000 * (time.monotonic() - started)
        )
        store = writer.finish(report.model_dump(mode="json"))
    return store, told(store, reused=False)


def _write(  # noqa: PLR0917
    writer: StoreWriter,
    scorer: _Scorer,
    asked: Reread,
    k: int,
    batch_tokens: int,
    progress: Progress | None,
) -> SignalTally:
    """Score all chats, window by window, and write them in their order."""
    tally, n = SignalTally(), len(asked.chats)
    for start in range(0, n, WINDOW):
        window = range(start, min(start + WINDOW, n))
        scored = scorer.window(window, batch_tokens)
        for i in window:
            row, parted = asked.in_students_tokens(i, scored.get(i), k)
            tally.without += i not in scored
            tally.add(row, parted)
            writer.append(*row)
        if progress is not None:
            progress(window.stop / n)
    if not tally.known:
        raise DataError(
            "the training chats",
            f"the teacher can read none of {n}",
            "lower max_length, or raise teacher.context_length if the model allows",
        )
    return tally


class _Scorer:
    """The teacher's pass over prompts and answers."""

    def __init__(
        self, teacher: LocalModel, asked: Reread, k: int | None, draws: int | None, seed: int
    ) -> None:
        self._teacher, self._asked = teacher, asked
        self._k, self._draws, self._seed = k, draws, seed
        self._head: Head = whole_head_of(teacher.module)

    def window(self, numbers: Sequence[int], batch_tokens: int) -> dict[int, SparseRow]:
        """Score chats, alike long ones together; those that the teacher cannot read are left."""
        readable = [i for i in numbers if self._asked.chats[i] is not None]
        by_length = sorted(readable, key=lambda i: (-len(self._ids(i)), i))
        scored: dict[int, SparseRow] = {}
        while by_length:
            fit = max(1, batch_tokens // len(self._ids(by_length[0])))
            scored |= self._batch(by_length[:fit])
            by_length = by_length[fit:]
        return scored

    def _ids(self, i: int) -> tuple[int, ...]:
        chat = self._asked.chats[i]
        return () if chat is None else chat.ids

    def _batch(self, numbers: list[int]) -> dict[int, SparseRow]:
        try:
            with torch.inference_mode():
                return self._scored(numbers)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
        # Outside of the handler, whose traceback would hold on to the tensors.
        if self._teacher.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(numbers) == 1:
            raise ModelError(
                f"teacher {self._teacher.name}",
                f"there is not enough memory to read {len(self._ids(numbers[0]))} tokens",
                "lower max_length, or set teacher.dtype to 'bfloat16'",
            )
        half = len(numbers) // 2
        return self._batch(numbers[:half]) | self._batch(numbers[half:])

    def _scored(self, numbers: list[int]) -> dict[int, SparseRow]:
        chats = [chat for i in numbers if (chat := self._asked.chats[i]) is not None]
        hidden_nd, targets_n, _ = answer_hidden(
            self._teacher.module, _batch_of(chats, self._teacher)
        )
        vocabulary = self._asked.vocabulary_read
        chunk = max(1, LOGITS_BYTES // (8 * vocabulary))
        uniform_nr = self._uniform(chats)
        parts: list[SparseRow] = []
        weight = self._head.weight
        for start in range(0, len(hidden_nd), chunk):
            hidden_cd = hidden_nd[start : start + chunk]
            logits_cv = torch.nn.functional.linear(
                hidden_cd.to(weight.dtype), weight[:vocabulary], _upto(self._head.bias, vocabulary)
            )
            logits_cv = self._asked.swapped(self._head.capped(logits_cv).float())
            if bool(logits_cv.isnan().any()):
                raise ModelError(
                    f"teacher {self._teacher.name}",
                    "computed no number (NaN)",
                    "set teacher.dtype to 'bfloat16' or 'float32'",
                )
            if uniform_nr is None:
                own_c = targets_n[start : start + chunk] if self._asked.bytes else None
                parts.append(likeliest(logits_cv, self._asked.places(self._k or 1), own_c))
            else:
                parts.append(drawn(logits_cv, uniform_nr[start : start + chunk]))
        whole = SparseRow(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.logprobs for part in parts]),
            np.concatenate([part.tail for part in parts]),
            np.concatenate([part.known for part in parts]),
        )
        starts = np.cumsum([0, *(chat.n_answer for chat in chats)])
        spans = [slice(first, end) for first, end in pairwise(starts.tolist())]
        return {
            i: SparseRow(whole.ids[at], whole.logprobs[at], whole.tail[at], whole.known[at])
            for i, at in zip(numbers, spans, strict=True)
        }

    def _uniform(self, chats: Sequence[TokenizedChat]) -> npt.NDArray[np.float64] | None:
        """Numbers in [0, 1) for every answer token, N x R, which depend on seed and row alone."""
        if self._draws is None:
            return None
        return np.concatenate(
            [
                np.random.default_rng([self._seed, chat.row]).random((chat.n_answer, self._draws))
                for chat in chats
            ]
        )


def likeliest(logits_cv: torch.Tensor, k: int, own_c: torch.Tensor | None = None) -> SparseRow:
    """The ``k`` likeliest tokens of each distribution, with the tail.

    Args:
        logits_cv: C x V.
        k: how many.
        own_c: tokens that have to be among them, in the place of the least likely one.
    """
    logprobs_cv = torch.log_softmax(logits_cv, -1)
    values_ck, ids_ck = logprobs_cv.topk(min(k, logits_cv.shape[-1]), -1)
    if own_c is not None:
        is_missing = (ids_ck != own_c[:, None]).all(-1)
        own = logprobs_cv.gather(-1, own_c[:, None]).squeeze(-1)
        ids_ck[:, -1] = torch.where(is_missing, own_c, ids_ck[:, -1])
        values_ck[:, -1] = torch.where(is_missing, own, values_ck[:, -1])
    logprobs = values_ck.cpu().numpy().astype(np.float64)
    left = 1.0 - np.exp(logprobs).sum(-1)
    tail = np.where(left > ROUNDING, np.log(np.maximum(left, ROUNDING)), -np.inf)
    return SparseRow(
        ids_ck.cpu().numpy().astype(np.int32),
        logprobs.astype(np.float32),
        tail.astype(np.float32),
        np.ones(len(logprobs), np.bool_),
    )


def drawn(logits_cv: torch.Tensor, uniform_cr: npt.NDArray[np.float64]) -> SparseRow:
    """Tokens drawn from each whole distribution, with their shares of the R draws."""
    precise = torch.float32 if logits_cv.device.type == "mps" else torch.float64
    up_to_cv = torch.softmax(logits_cv.to(precise), -1).cumsum(-1)
    place_cr = torch.from_numpy(uniform_cr).to(precise).to(up_to_cv.device) * up_to_cv[:, -1:]
    found_cr = torch.searchsorted(up_to_cv, place_cr, right=True)
    drawn_cr = found_cr.clamp(max=logits_cv.shape[-1] - 1).cpu().numpy()
    n, r = drawn_cr.shape
    drawn_cr.sort(axis=1)
    is_new = np.ones((n, r), np.bool_)
    is_new[:, 1:] = drawn_cr[:, 1:] != drawn_cr[:, :-1]
    column_cr = is_new.cumsum(1) - 1
    row_cr = np.broadcast_to(np.arange(n)[:, None], (n, r))
    ids = np.zeros((n, r), np.int32)
    ids[row_cr, column_cr] = drawn_cr
    counts = np.bincount((row_cr * r + column_cr).ravel(), minlength=n * r).reshape(n, r)
    with np.errstate(divide="ignore"):
        logprobs = np.log(counts / r).astype(np.float32)
    return SparseRow(ids, logprobs, np.full(n, -np.inf, np.float32), np.ones(n, np.bool_))


def _batch_of(chats: Sequence[TokenizedChat], teacher: LocalModel) -> dict[str, torch.Tensor]:
    """Chats padded on the right."""
    shape = (len(chats), max(len(chat.ids) for chat in chats))
    ids, labels = torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORED)
    mask = torch.zeros(shape, dtype=torch.long)
    for b, chat in enumerate(chats):
        n = len(chat.ids)
        ids[b, :n], mask[b, :n] = torch.tensor(chat.ids), 1
        labels[b, chat.n_prompt : n] = ids[b, chat.n_prompt : n]
    positions = torch.arange(shape[1]).expand(shape).clone()
    named = {"input_ids": ids, "labels": labels, "attention_mask": mask, "position_ids": positions}
    return {name: tensor.to(teacher.device) for name, tensor in named.items()}


def _upto(bias: torch.Tensor | None, n: int) -> torch.Tensor | None:
    return None if bias is None else bias[:n]


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in text for words in ("out of memory", "can't allocate memory", "not enough memory")
    )
