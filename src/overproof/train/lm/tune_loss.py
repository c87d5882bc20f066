"""How well a model foretells the teacher's text: plain cross-entropy an answer token, in nats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from overproof.train.lm.collator import Collator
from overproof.train.lm.forward import answer_sum
from overproof.train.lm.launch import process_number, processes, summed
from overproof.train.lm.packing import pieces_of, shared_out
from overproof.train.lm.parts import TokenizedChat
from overproof.train.losses.cross_entropy import cross_entropy

__all__ = ["mean_cross_entropy"]


def mean_cross_entropy(
    model: Any,
    chats: Sequence[TokenizedChat],
    *,
    pad: int,
    micro_tokens: int,
    packing: bool,
    one_row: bool = False,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> float | None:
    """The mean over all answer tokens of all chats, over all processes; ``None`` without any.

    Args:
        model: in any mode, which it gets back.
        chats: of a split.
        pad: fills rows up.
        micro_tokens: of one forward pass.
        packing: several chats a row.
        one_row: see ``packing.pieces_of``.
        autocast: the precision to compute in.
    """
    if not chats:
        return None
    lengths = [len(chat.ids) for chat in chats]
    share = shared_out(range(len(chats)), lengths, processes())[process_number()]
    collator = Collator(chats, pad, packing)
    total, device = 0.0, model.device
    was_training = model.training
    model.eval()
    try:
        for piece in pieces_of(
            share, lengths, micro_tokens=micro_tokens, packing=packing, one_row=one_row
        ):
            batch = {name: value.to(device) for name, value in collator(piece).items()}
            with torch.no_grad(), autocast():
                total += float(
                    answer_sum(
                        model, batch, lambda logits, _c, wanted, _p: cross_entropy(logits, wanted)
                    )
                )
    finally:
        model.train(was_training)
    (total,) = summed([total], device)
    return total / sum(chat.n_answer for chat in chats)
