"""Base encoders: a local directory in transformers' format, in; module and tokenizer, out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from overproof.clients.quiet import quiet_transformers
from overproof.errors import ModelError

__all__ = ["Base", "load_base", "read_licence"]

WAY_OUT = "name an encoder that `overproof models list` shows, or a complete local directory"


@dataclass(frozen=True)
class Base:
    """A base encoder.

    Attributes:
        name: as the recipe calls it.
        encoder: a transformers module, float32, in evaluation mode.
        tokenizer: truncates to ``max_length`` and pads a batch to its longest text.
        max_length: in tokens; the recipe's, or the encoder's own limit where that is lower.
        licence: as the directory's README declares it, else ``unknown``.
    """

    name: str
    encoder: Any
    tokenizer: Tokenizer
    max_length: int
    licence: str


def load_base(name: str, directory: Path, max_length: int) -> Base:
    """Load an encoder and its fast tokenizer from local files alone.

    Raises:
        ModelError: when the directory is no encoder, lacks weights or has no fast tokenizer.
    """
    from transformers import AutoModel, AutoTokenizer

    with quiet_transformers():
        try:
            encoder, loading = AutoModel.from_pretrained(
                directory,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
            fast = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError) as error:
            first = str(error).strip().partition("\n")[0]
            raise ModelError(
                f"{name} ({directory})", f"cannot be loaded: {first}", WAY_OUT
            ) from error
    # The pooler is removed, so a checkpoint without one lacks nothing.
    missing = sorted(key for key in loading["missing_keys"] if not key.startswith("pooler."))
    if missing or loading["mismatched_keys"]:
        lacks = missing or sorted(str(key) for key in loading["mismatched_keys"])
        raise ModelError(
            f"{name} ({directory})",
            f"lacks {len(lacks)} of its weights, {lacks[0]} first",
            WAY_OUT,
        )
    if getattr(encoder.config, "is_encoder_decoder", False):
        raise ModelError(name, "is an encoder-decoder, not an encoder", WAY_OUT)
    backend = getattr(fast, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(name, "has no fast tokenizer (tokenizer.json)", WAY_OUT)
    length = min(max_length, _longest(encoder.config, fast))
    tokenizer = Tokenizer.from_str(backend.to_str())
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(
        pad_id=fast.pad_token_id or 0, pad_token=fast.pad_token or "[PAD]", direction="right"
    )
    encoder.eval()
    return Base(name, encoder, tokenizer, length, read_licence(directory))


def _longest(config: Any, tokenizer: Any) -> int:
    """The longest input in tokens that the encoder takes."""
    positions = getattr(config, "max_position_embeddings", None) or 1 << 30
    if getattr(config, "model_type", "") in {"roberta", "xlm-roberta", "camembert", "mpnet"}:
        positions -= 2  # their positions are counted from padding_idx + 1
    return int(min(positions, tokenizer.model_max_length))


def read_licence(directory: Path) -> str:
    """The ``license:`` of a model card's front matter, ``unknown`` where none is declared."""
    card = directory / "README.md"
    if not card.exists():
        return "unknown"
    front = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8"), re.DOTALL)
    found = re.search(r"^license:\s*(\S+)\s*$", front.group(1), re.MULTILINE) if front else None
    return found.group(1).strip("'\"") if found else "unknown"
