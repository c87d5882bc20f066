"""Batches: everything said of a token stands at its own place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tiny_chats import make_chats

from overproof.errors import DataError
from overproof.train.lm.collator import Collator, cut
from overproof.train.lm.parts import IGNORED, TokenizedChat

CHATS = [
    TokenizedChat(0, "a", 0, (1, 2, 3, 9), 2),
    TokenizedChat(1, "b", 0, (4, 5, 9), 1),
    TokenizedChat(2, "c", 0, (6, 9), 1),
]
I = IGNORED  # noqa: E741


@dataclass
class Row:
    ids: np.ndarray
    logprobs: np.ndarray
    tail: np.ndarray
    known: np.ndarray


class Store:
    """A store whose numbers tell the chat and the answer token."""

    k = 2

    def __len__(self) -> int:
        return len(CHATS)

    def read(self, number: int) -> Row:
        size = CHATS[number].n_answer
        ids = np.array([[10 * number + a, 7] for a in range(size)], dtype=np.int32)
        return Row(ids, -0.5 * ids.astype(np.float32), -ids[:, 0].astype(np.float32), ids[:, 0] > 0)


def test_packed_rows() -> None:
    batch = Collator(CHATS, pad=0, packing=True)(((0, 2), (1,)))
    assert batch["input_ids"].tolist() == [[1, 2, 3, 9, 6, 9], [4, 5, 9, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 1, 2]]
    assert batch["labels"].tolist() == [[I, I, 3, 9, I, 9], [I, 5, 9, I, I, I]]
    assert "attention_mask" not in batch


def test_padded_rows() -> None:
    batch = Collator(CHATS, pad=0, packing=False, names_chats=True)(((0,), (2,)))
    assert batch["input_ids"].tolist() == [[1, 2, 3, 9], [6, 9, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[I, I, 3, 9], [I, 9, I, I]]
    assert batch["chat_index"].tolist() == [0, 2]


def test_signal_stands_at_the_answer() -> None:
    batch = Collator(CHATS, 0, True, Store())(((0, 2), (1,)))
    assert batch["teacher_ids"].dtype == torch.int32
    assert batch["teacher_ids"][0, :, 0].tolist() == [0, 0, 0, 1, 0, 20]
    assert batch["teacher_ids"][1, :3].tolist() == [[0, 0], [10, 7], [11, 7]]
    assert batch["teacher_known"].tolist() == [
        [False, False, False, True, False, True],
        [False, True, True, False, False, False],
    ]
    assert batch["teacher_tail"][0].tolist() == pytest.approx(
        [-np.inf, -np.inf, 0, -1, -np.inf, -20]
    )
    learned = batch["labels"] != IGNORED
    assert bool(torch.isneginf(batch["teacher_logprobs"][~learned]).all())
    assert bool(batch["teacher_logprobs"][learned].isfinite().all())


def test_a_signal_of_other_data() -> None:
    with pytest.raises(DataError, match="holds 3 rows for 2 training chats"):
        Collator(CHATS[:2], 0, True, Store())
    longer = [TokenizedChat(0, "a", 0, (1, 2, 3, 9, 9), 2), *CHATS[1:]]
    with pytest.raises(DataError, match="holds 2 tokens for an answer of 3"):
        Collator(longer, 0, True, Store())(((0,),))


def test_cut_keeps_every_row() -> None:
    chats = make_chats(12)
    whole = Collator(chats, 0, False, names_chats=True)(tuple((i,) for i in range(12)))
    parts = cut(whole, 80)
    assert len(parts) > 3
    assert all(part["input_ids"].numel() <= 80 for part in parts)
    seen = {}
    for part in parts:
        assert {len(value) for value in part.values()} == {len(part["chat_index"])}
        for b, i in enumerate(part["chat_index"].tolist()):
            used = part["attention_mask"][b].bool()
            seen[i] = tuple(part["input_ids"][b][used].tolist())
            assert part["labels"][b][used].tolist()[chats[i].n_prompt :] == list(
                chats[i].ids[chats[i].n_prompt :]
            )
    assert seen == {i: chat.ids for i, chat in enumerate(chats)}


def test_cut_leaves_whole_what_it_cannot_cut() -> None:
    packed = Collator(make_chats(4), 0, True)(((0, 1), (2, 3)))
    assert cut(packed, 8) == [packed]
    padded = {**Collator(make_chats(4), 0, False)(((0,), (1,))), "scores": torch.zeros(7)}
    assert cut(padded, 8) == [padded]


def test_cut_of_rows_padded_on_the_left() -> None:
    mask = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]])
    ids = torch.arange(12).view(3, 4)
    parts = cut({"input_ids": ids, "attention_mask": mask}, 8)
    assert sorted(row for part in parts for row in part["input_ids"].tolist()) == ids.tolist()
