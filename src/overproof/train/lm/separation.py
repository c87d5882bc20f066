"""Whether a model keeps packed chats apart: measured, because one that does not says nothing.

transformers masks packed rows by ``position_ids`` that begin anew, for attention that it masks
itself. Recurrent layers, models with code of their own and other kernels may not.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

__all__ = ["keeps_packed_chats_apart", "one_row_only"]

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def one_row_only(model: Any) -> bool:
    """Whether packed chats are told apart only in a batch of one row (flash attention)."""
    return "flash" in str(getattr(model.config, "_attn_implementation", "") or "")


def keeps_packed_chats_apart(model: Any) -> bool:
    """Whether a chat's logits stay the same when another one stands before it in its row.

    Args:
        model: a causal model, in any mode; its mode and weights are left as they are.
    """
    if "position_ids" not in inspect.signature(_plain(model).forward).parameters:
        return False
    known = model.get_input_embeddings().weight.shape[0]
    first, chat = ([(7 * i + n) % known for i in range(n)] for n in (9, 6))
    rows = 1 if one_row_only(model) else 2
    ids = torch.tensor([first + chat] * rows, device=model.device)
    if rows > 1:
        ids[1] = torch.tensor(chat + first, device=model.device)
    lengths = (len(first), len(chat)), (len(chat), len(first))
    positions = torch.tensor(
        [[*range(a), *range(b)] for a, b in lengths[:rows]], device=model.device
    )
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            packed = model(input_ids=ids, position_ids=positions, use_cache=False).logits
            alone = model(
                input_ids=torch.tensor([chat], device=model.device),
                position_ids=torch.arange(len(chat), device=model.device)[None],
                use_cache=False,
            ).logits[0]
    finally:
        model.train(was_training)
    tolerance = TOLERANCE.get(alone.dtype, 1e-3) * (1 + float(alone.abs().max()))
    differences = [(packed[0, len(first) :] - alone).abs().max()]
    if rows > 1:
        differences.append((packed[1, : len(chat)] - alone).abs().max())
    return all(float(difference) <= tolerance for difference in differences)


def _plain(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
