from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from overproof.train.bases import load_base
from overproof.train.batches import bucketed, encode, in_order_of_length, pad
from overproof.train.vocabulary import compact_vocabulary


def test_an_epoch_holds_every_text_once_in_batches_of_like_length() -> None:
    rng = np.random.default_rng(0)
    tokens = [[1] * int(n) for n in rng.integers(1, 60, size=203)]
    batches = list(bucketed(tokens, 8, np.random.default_rng(1)))
    assert sorted(np.concatenate(batches)) == list(range(203))
    assert all(1 <= len(batch) <= 8 for batch in batches)
    padded = sum(len(b) * max(len(tokens[i]) for i in b) for b in batches)
    assert padded < 1.1 * sum(map(len, tokens))
    again = list(bucketed(tokens, 8, np.random.default_rng(1)))
    other = list(bucketed(tokens, 8, np.random.default_rng(2)))
    assert [b.tolist() for b in batches] == [b.tolist() for b in again]
    assert [b.tolist() for b in batches] != [b.tolist() for b in other]


def test_inference_goes_by_length_and_misses_nobody() -> None:
    tokens = [[1] * n for n in (5, 1, 9, 3, 3)]
    batches = list(in_order_of_length(tokens, 2))
    assert np.concatenate(batches).tolist() == [1, 3, 4, 0, 2]


def test_padding_is_masked() -> None:
    input_ids, mask = pad([[7, 8, 9], [4]])
    assert input_ids.tolist() == [[7, 8, 9], [4, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert input_ids.dtype == mask.dtype == torch.int64


def test_encode_truncates_and_does_not_pad(tiny_base: Path) -> None:
    base = load_base("tiny", tiny_base, 8)
    tokens = encode(base.tokenizer, ["word1", " ".join(["word2"] * 30)])
    assert [len(ids) for ids in tokens] == [3, 8]


def test_compact_table_gives_the_same_answers_and_is_written_back(tiny_base: Path) -> None:
    encoder = copy.deepcopy(load_base("tiny", tiny_base, 32).encoder)
    before = encoder.get_input_embeddings().weight.detach().clone()
    input_ids, mask = pad([[2, 10, 50, 3], [2, 11, 3]])
    with torch.no_grad():
        whole = encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
    with compact_vocabulary(encoder, [[2, 10, 50, 3], [2, 11, 3]]):
        table = encoder.get_input_embeddings().weight
        assert table.shape == (6, 32)  # 0, 2, 3, 10, 11, 50
        with torch.no_grad():
            compact = encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
            torch.testing.assert_close(compact, whole, rtol=0, atol=0)
            with pytest.raises(IndexError):
                encoder(input_ids=torch.tensor([[2, 12]]))
            table += 1.0
    after = encoder.get_input_embeddings().weight.detach()
    used = [0, 2, 3, 10, 11, 50]
    torch.testing.assert_close(after[used], before[used] + 1.0)
    rest = [i for i in range(len(before)) if i not in used]
    torch.testing.assert_close(after[rest], before[rest], rtol=0, atol=0)
