"""Chats to tensors: packed or padded rows, with what the teacher thought at its own places.

Shapes: B rows, T tokens, K alternatives, A answer tokens of one chat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from overproof.errors import DataError
from overproof.train.lm.packing import Piece
from overproof.train.lm.parts import IGNORED, Batch, TokenizedChat

if TYPE_CHECKING:
    from overproof.records.logprob_store import LogprobStore

__all__ = ["Collator", "cut"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Collator:
    """Makes batches of chats.

    ``pad`` fills rows up; it is never learned, and in a packed row it is a sequence of its own.
    ``signal`` holds a row for every chat of ``chats``, in their order. ``names_chats`` adds
    ``chat_index``, one a row, for methods that answer prompts anew; rows must then hold one chat.
    """

    chats: Sequence[TokenizedChat]
    pad: int
    packing: bool
    signal: LogprobStore | None = None
    names_chats: bool = False

    def __post_init__(self) -> None:
        if self.signal is not None and len(self.signal) != len(self.chats):
            raise DataError(
                "the store of log-probs",
                f"holds {len(self.signal)} rows for {len(self.chats)} training chats",
                "remove it: it was made for other data and is made anew",
            )

    def __call__(self, piece: Piece) -> Batch:
        """The batch of a piece; see ``parts.Batch``."""
        rows = [[self.chats[i] for i in row] for row in piece]
        width = max(sum(len(chat.ids) for chat in row) for row in rows)
        shape = (len(rows), width)
        ids = np.full(shape, self.pad, dtype=np.int64)
        labels = np.full(shape, IGNORED, dtype=np.int64)
        positions = np.empty(shape, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        signal = None if self.signal is None else _Signal(shape, self.signal)
        for b, (numbers, row) in enumerate(zip(piece, rows, strict=True)):
            at = 0
            for number, chat in zip(numbers, row, strict=True):
                first, end = at + chat.n_prompt, at + len(chat.ids)
                ids[b, at:end] = chat.ids
                labels[b, first:end] = ids[b, first:end]
                positions[b, at:end] = np.arange(end - at)
                if signal is not None:
                    signal.read(number, b, slice(first, end))
                at = end
            mask[b, :at] = 1
            positions[b, at:] = np.arange(width - at)
        arrays: dict[str, Array] = {"input_ids": ids, "position_ids": positions, "labels": labels}
        if not self.packing:
            arrays["attention_mask"] = mask
        if signal is not None:
            arrays |= signal.arrays
        if self.names_chats:
            arrays["chat_index"] = np.array([row[0] for row in piece], dtype=np.int64)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


class _Signal:
    """Tensors of the teacher's signal for one batch: nothing is known until it is read."""

    def __init__(self, shape: tuple[int, int], store: LogprobStore) -> None:
        self._store = store
        self.arrays: dict[str, Array] = {
            "teacher_ids": np.zeros((*shape, store.k), dtype=np.int32),
            "teacher_logprobs": np.full((*shape, store.k), -np.inf, dtype=np.float32),
            "teacher_tail": np.full(shape, -np.inf, dtype=np.float32),
            "teacher_known": np.zeros(shape, dtype=np.bool_),
        }

    def read(self, number: int, b: int, place: slice) -> None:
        """Fill in what the store holds of one chat's answer."""
        row = self._store.read(number)
        if len(row.ids) != place.stop - place.start:
            raise DataError(
                f"row {number} of the store of log-probs",
                f"holds {len(row.ids)} tokens for an answer of {place.stop - place.start}",
                "remove the store: it was made for other data and is made anew",
            )
        values = (row.ids, row.logprobs, row.tail, row.known)
        for array, value in zip(self.arrays.values(), values, strict=True):
            array[b, place] = value


def cut(batch: Batch, micro_tokens: int) -> list[Batch]:
    """Cut a padded batch into pieces of at most ``micro_tokens``, longest rows first.

    For text whose length was not known before: the student's own. A batch that is packed, or that
    holds a tensor without a row for each of its rows, stays whole.
    """
    mask = batch.get("attention_mask")
    rows, width = batch["input_ids"].shape
    whole = mask is None or any(len(value) != rows for value in batch.values())
    if whole or mask is None or rows * width <= micro_tokens:
        return [batch]
    starts_at_0 = bool(mask[:, 0].all())
    used = (mask.sum(1) if starts_at_0 else torch.full((rows,), width)).tolist()
    order = sorted(range(rows), key=lambda b: (-used[b], b))
    groups: list[list[int]] = []
    for b in order:
        if groups and used[groups[-1][0]] * (len(groups[-1]) + 1) <= micro_tokens:
            groups[-1].append(b)
        else:
            groups.append([b])
    return [_rows_of(batch, group, int(used[group[0]])) for group in groups]


def _rows_of(batch: Batch, rows: list[int], width: int) -> Mapping[str, torch.Tensor]:
    """Some rows of a batch, no wider than the longest of them."""
    whole = batch["input_ids"].shape[1]
    taken = torch.tensor(rows, device=batch["input_ids"].device)
    picked = {name: value.index_select(0, taken) for name, value in batch.items()}
    return {
        name: value[:, :width] if value.dim() > 1 and value.shape[1] == whole else value
        for name, value in picked.items()
    }
