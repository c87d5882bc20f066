"""Llama-family weights and settings by the names of GGUF (its specification, and llama.cpp)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from overproof.errors import StudentError

__all__ = ["FAMILIES", "Family", "family_of", "gguf_name", "in_ggml_order", "rope_factors"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Family:
    """How llama.cpp runs a model: ``arch`` is its name there.

    ``pairs`` says that rotary embeddings turn neighbouring pairs there and halves of a head in
    transformers, so that rows of q and k are put in another order.
    """

    arch: str
    pairs: bool


FAMILIES: Mapping[str, Family] = {
    "llama": Family("llama", pairs=True),
    "mistral": Family("llama", pairs=True),
    "qwen2": Family("qwen2", pairs=False),
    "qwen3": Family("qwen3", pairs=False),
}
TOP = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def family_of(config: Any, culprit: str) -> Family:
    """The family of a model's config, with what llama.cpp would leave out refused.

    Raises:
        StudentError: another architecture, or a setting that llama.cpp does not have.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise _refused(
            culprit,
            f"is of architecture {config.model_type!r}; exports to GGUF know {', '.join(FAMILIES)}",
        )
    if config.hidden_act != "silu":
        raise _refused(culprit, f"has hidden_act {config.hidden_act!r}, and llama.cpp runs silu")
    window = getattr(config, "sliding_window", None)
    windowed = config.model_type == "mistral" or getattr(config, "use_sliding_window", False)
    if windowed and window is not None and window < config.max_position_embeddings:
        raise _refused(culprit, f"attends to a sliding window of {window} tokens")
    rope = rope_of(config)
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise _refused(culprit, "turns only a part of each head (partial_rotary_factor)")
    if rope.get("rope_type", "default") not in ("default", "linear", "llama3", "yarn"):
        raise _refused(culprit, f"scales its positions by {rope['rope_type']!r}")
    return family


def rope_of(config: Any) -> dict[str, Any]:
    """The settings of rotary embeddings, wherever the config keeps them."""
    rope = dict(getattr(config, "rope_parameters", None) or {})
    rope.setdefault("rope_theta", getattr(config, "rope_theta", None) or 10000.0)
    return rope


def head_width(config: Any) -> int:
    """The width of one attention head."""
    explicit = getattr(config, "head_dim", None)
    return int(explicit or config.hidden_size // config.num_attention_heads)


def gguf_name(name: str, culprit: str) -> str:
    """A weight's name in GGUF.

    Raises:
        StudentError: a weight that has no place there.
    """
    stem, _, kind = name.rpartition(".")
    if stem in TOP:
        return f"{TOP[stem]}.{kind}"
    if stem.startswith("model.layers."):
        number, _, part = stem.removeprefix("model.layers.").partition(".")
        if number.isdigit() and part in LAYER:
            return f"blk.{number}.{LAYER[part]}.{kind}"
    raise _refused(culprit, f"has a weight {name!r} that the GGUF of its family has no place for")


def in_ggml_order(name: str, weight: Floats, family: Family, config: Any) -> Floats:
    """Rows of q and k as llama.cpp turns them: halves of each head become neighbouring pairs."""
    if not family.pairs or ".self_attn." not in name:
        return weight
    heads = {
        "q_proj": config.num_attention_heads,
        "k_proj": config.num_key_value_heads,
    }.get(name.rpartition(".")[0].rpartition(".")[2])
    if heads is None:
        return weight
    rows, rest = weight.shape[0], weight.shape[1:]
    halves = weight.reshape(heads, 2, rows // heads // 2, *rest)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, *rest))


def rope_factors(config: Any) -> Floats | None:
    """What Llama 3.1's scaling divides each frequency by, ``None`` for other kinds.

    As ``_compute_llama3_parameters`` of transformers: long waves are slowed by ``factor``, short
    ones stay, between them it goes over smoothly.
    """
    rope = rope_of(config)
    if rope.get("rope_type") != "llama3":
        return None
    factor, context = rope["factor"], rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    width = head_width(config)
    frequencies = rope["rope_theta"] ** -(np.arange(0, width, 2, dtype=np.float64) / width)
    waves = 2 * math.pi / frequencies
    smooth = np.clip((context / waves - low) / (high - low), 0.0, 1.0)
    return np.asarray(1.0 / ((1 - smooth) / factor + smooth), dtype=np.float32)


def _refused(culprit: str, reason: str) -> StudentError:
    way_out = "export it with --to safetensors, which vLLM and transformers load"
    return StudentError(culprit, reason, way_out)
