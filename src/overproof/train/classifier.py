"""The student module: an encoder, mean pooling and a linear head.

Shapes: B batch, T tokens, D width, L labels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["EncoderClassifier"]


class EncoderClassifier(nn.Module):
    """Logits from the mean of an encoder's last hidden states.

    Args:
        encoder: a transformers encoder that takes ``input_ids`` and ``attention_mask``. Its own
            pooler, which mean pooling never reads, is removed.
        n_labels: L.
        normalise: scale each pooled vector to length one before the head.
    """

    def __init__(self, encoder: Any, n_labels: int, *, normalise: bool = False) -> None:
        super().__init__()
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None
        self.encoder = encoder
        self.normalise = normalise
        self.head = nn.Linear(encoder.config.hidden_size, n_labels)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    @property
    def n_parameters(self) -> int:
        """Number of weights, encoder and head."""
        return sum(parameter.numel() for parameter in self.parameters())

    def pool(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Mean of the hidden states of the tokens that are not padding.

        Args:
            input_ids: (B, T) int64.
            attention_mask: (B, T) int64, one for a token and zero for padding.

        Returns:
            (B, D) float32.
        """
        hidden_BTD = self.encoder(  # noqa: N806
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        mask_BT1 = attention_mask.unsqueeze(-1).to(hidden_BTD.dtype)  # noqa: N806
        pooled_BD = (hidden_BTD * mask_BT1).sum(dim=1) / mask_BT1.sum(dim=1).clamp(min=1.0)  # noqa: N806
        return nn.functional.normalize(pooled_BD, dim=1) if self.normalise else pooled_BD

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits (B, L), before temperature."""
        logits_BL: torch.Tensor = self.head(self.pool(input_ids, attention_mask))  # noqa: N806
        return logits_BL
