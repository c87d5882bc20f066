"""In which precision a loss is computed."""

from __future__ import annotations

import torch

__all__ = ["at_least_float32"]


def at_least_float32(values: torch.Tensor) -> torch.Tensor:
    """``values`` in float32 where they are in half precision, as they are otherwise.

    A sum over a vocabulary in bfloat16, with its eight bits, is wrong in the third digit.
    """
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
