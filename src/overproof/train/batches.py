"""Token sequences into padded batches of nearly equal length.

Shapes: B batch, T tokens of the longest text in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

__all__ = ["Tokens", "bucketed", "encode", "in_order_of_length", "pad"]

Tokens = list[list[int]]

BUCKET = 50  # batches that are sorted by length together


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokens:
    """Token ids of each text, truncated as the tokenizer says, without padding."""
    return [
        [token for token, real in zip(e.ids, e.attention_mask, strict=True) if real]
        for e in tokenizer.encode_batch(list(texts))
    ]


def pad(tokens: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """``input_ids`` and ``attention_mask``, int64 (B, T), padded right with masked zeros."""
    longest = max(len(ids) for ids in tokens)
    input_ids = np.zeros((len(tokens), longest), dtype=np.int64)
    attention_mask = np.zeros_like(input_ids)
    for row, ids in enumerate(tokens):
        input_ids[row, : len(ids)] = ids
        attention_mask[row, : len(ids)] = 1
    return torch.from_numpy(input_ids), torch.from_numpy(attention_mask)


def bucketed(tokens: Tokens, size: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.intp]]:
    """One epoch: indices of batches, each of texts of nearly equal length, in random order.

    The texts are shuffled, cut into buckets of ``BUCKET`` batches, and sorted by length within
    each bucket only, so that batches differ from epoch to epoch.
    """
    order = rng.permutation(len(tokens))
    lengths = np.array([len(ids) for ids in tokens])
    batches: list[npt.NDArray[np.intp]] = []
    for start in range(0, len(order), size * BUCKET):
        bucket = order[start : start + size * BUCKET]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        batches.extend(bucket[i : i + size] for i in range(0, len(bucket), size))
    for i in rng.permutation(len(batches)):
        yield batches[i]


def in_order_of_length(tokens: Tokens, size: int) -> Iterator[npt.NDArray[np.intp]]:
    """Indices of batches for inference: shortest texts first."""
    order = np.argsort([len(ids) for ids in tokens], kind="stable")
    for start in range(0, len(order), size):
        yield order[start : start + size]
