"""A compact token table for fine-tuning: only the rows that the texts use.

Half of a small encoder's weights are its token table (11.7 of 22.6 million in MiniLM), of which a
few thousand texts touch a few thousand rows. The other rows have a gradient of exactly zero, yet a
dense table makes every step clear, clip and update them. While training, the table is cut to the
rows in use; the update of those is the same, and afterwards they are written back. This is exact
as long as the table is not decayed, and it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["compact_vocabulary"]


class _CompactEmbedding(nn.Module):
    """Looks ids of the whole vocabulary up in a table of the rows in use."""

    def __init__(self, whole: nn.Embedding, used: torch.Tensor) -> None:
        super().__init__()
        place = torch.full((whole.num_embeddings,), -1, dtype=torch.long)
        place[used] = torch.arange(len(used))
        self.register_buffer("place", place)
        self.weight = nn.Parameter(whole.weight.detach()[used].clone())

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return nn.functional.embedding(self.place[input_ids], self.weight)  # type: ignore[index]


@contextmanager
def compact_vocabulary(encoder: Any, tokens: Iterable[Iterable[int]]) -> Iterator[None]:
    """Within the block ``encoder`` knows only the ids in ``tokens``, and id zero.

    An id outside them is an ``IndexError``, never another token's vector. An encoder whose input
    table is no plain ``nn.Embedding`` is left as it is.
    """
    whole = encoder.get_input_embeddings()
    if type(whole) is not nn.Embedding:
        yield
        return
    used = torch.tensor(sorted({0, *(token for ids in tokens for token in ids)}))
    used = used.to(whole.weight.device)
    compact = _CompactEmbedding(whole, used).to(whole.weight.device)
    encoder.set_input_embeddings(compact)
    try:
        yield
    finally:
        with torch.no_grad():
            whole.weight[used] = compact.weight.detach()
        encoder.set_input_embeddings(whole)
