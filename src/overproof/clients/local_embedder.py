"""Sentence embeddings from local weights: what semantic near-duplicates are compared by.

Mean of the last hidden states over the tokens of a text, scaled to unit length (Reimers and
Gurevych, *Sentence-BERT*, EMNLP 2019). Shapes: N texts, T tokens, D width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from overproof.clients.quiet import quiet_transformers
from overproof.clients.registry import resolve
from overproof.errors import MissingExtraError, ModelError

__all__ = ["Embedder"]

BATCH = 64
LONGEST = 512  # tokens, where the model says nothing
WAY_OUT = "name an encoder that `overproof models list` shows, or a complete local directory"


class Embedder:
    """An encoder in memory.

    Args:
        path_or_name: a directory in transformers' format, or the name of a pulled model.
        device: ``auto`` takes an accelerator where there is one; else a device as torch names it.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ModelError: the model is unknown, not pulled, or no encoder; or there is no such device.
    """

    def __init__(self, path_or_name: str, device: str = "auto") -> None:
        try:
            import torch
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise MissingExtraError(
                str(error.name or "torch").partition(".")[0], "local"
            ) from error
        directory = resolve(path_or_name)
        self.name = path_or_name
        self.max_length = _max_length(directory)
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            self._device = torch.device(chosen)
            with quiet_transformers():
                module, loading = AutoModel.from_pretrained(
                    directory, local_files_only=True, dtype=torch.float32, output_loading_info=True
                )
                self._tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
            self._module: Any = module.eval().to(self._device)
        except (OSError, ValueError, KeyError, RuntimeError, AssertionError) as error:
            first = str(error).strip().partition("\n")[0]
            raise ModelError(
                f"{path_or_name} ({directory})", f"cannot be loaded: {first}", WAY_OUT
            ) from error
        # Weights that were missing are random now; a pooler is not used here.
        missing = [key for key in loading["missing_keys"] if "pooler" not in key]
        if missing:
            raise ModelError(
                f"{path_or_name} ({directory})", f"lacks the weights {missing[0]} ...", WAY_OUT
            )
        if self._tokenizer.pad_token is None:
            raise ModelError(path_or_name, "its tokenizer has no padding token", WAY_OUT)

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embeddings of ``texts``, N x D, each row of unit length.

        A text beyond ``max_length`` tokens is judged by its beginning.
        """
        import torch

        width = int(self._module.config.hidden_size)
        rows = np.zeros((len(texts), width), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # less padding
        for start in range(0, len(order), BATCH):
            chunk = order[start : start + BATCH]
            tokens = self._tokenizer(
                [texts[i] for i in chunk],
                padding=True,
                truncation=True,
                max_length=self.max_length,
                return_tensors="pt",
            ).to(self._device)
            with torch.inference_mode():
                hidden_btd = self._module(**tokens).last_hidden_state
                mask_bt1 = tokens["attention_mask"].unsqueeze(-1).to(hidden_btd.dtype)
                mean_bd = (hidden_btd * mask_bt1).sum(1) / mask_bt1.sum(1).clamp(min=1)
                unit_bd = torch.nn.functional.normalize(mean_bd, dim=-1)
            rows[chunk] = unit_bd.cpu().numpy()
        return rows


def _max_length(directory: Path) -> int:
    """Tokens of a text at most: what sentence-transformers wrote down, else the encoder's own."""
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("config.json", "max_position_embeddings"),
    ):
        try:
            said = json.loads((directory / name).read_text(encoding="utf-8")).get(key)
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(said, int) and said > 0:
            return min(said, LONGEST)
    return LONGEST
