"""Write a student of the Llama family to a GGUF file for llama.cpp, one weight at a time.

The layout is the GGUF specification's; names, settings and the order of rows are those that
llama.cpp's loader of each architecture expects. ``gguf`` (from llama.cpp) does the packing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import numpy.typing as npt

from overproof.errors import StudentError
from overproof.train.export import llama_names
from overproof.train.export.gguf_vocabulary import vocabulary_of
from overproof.train.export.llama_names import Family

__all__ = ["GgufKind", "Written", "write_gguf"]

GgufKind = Literal["gguf-f16", "gguf-q8_0", "gguf-q4_0"]
Floats = npt.NDArray[np.float32]

# By the names of gguf.GGMLQuantizationType.
TYPES = {"gguf-f16": "F16", "gguf-q8_0": "Q8_0", "gguf-q4_0": "Q4_0"}
PLAIN = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16)}
FILE_TYPES = {
    "gguf-f16": gguf.LlamaFileType.MOSTLY_F16,
    "gguf-q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "gguf-q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
F16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class _Weight:
    """One weight: ``read`` gives it in float32, in llama.cpp's order."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Floats]


@dataclass(frozen=True)
class Written:
    """What was written, and what is not as asked; ``types`` counts weights by their type."""

    types: dict[str, int]
    notes: tuple[str, ...]


def write_gguf(
    directory: Path,
    path: Path,
    kind: GgufKind,
    *,
    name: str = "",
    licence: str = "",
    model: tuple[Any, Any] | None = None,
) -> Written:
    """Write ``directory`` (transformers' format) as one GGUF file.

    Vectors stay float32. In ``gguf-q4_0`` the embedding and the output head are Q8_0, as quantised
    files commonly have them. A weight whose rows are no multiple of 32 wide stays float16.

    Args:
        directory: config, weights and tokenizer.
        path: the file; its directory exists.
        kind: the type of the matrices.
        name: what the file calls the model.
        licence: of the base.
        model: model and tokenizer in memory, where the weights are not in ``directory`` as they
            are to be written (a LoRA merged meanwhile).

    Raises:
        StudentError: an architecture, tokenizer or weight that llama.cpp would not run as it is.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    if model is None:
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    else:
        config, tokenizer = model[0].config, model[1]
    family = llama_names.family_of(config, str(directory))
    generation = GenerationConfig.from_pretrained(directory, local_files_only=True)
    ends = generation.eos_token_id
    ends = ends if isinstance(ends, list) else [tokenizer.eos_token_id if ends is None else ends]
    vocabulary = vocabulary_of(directory, tokenizer, ends, config.vocab_size)
    with contextlib.ExitStack() as stack:
        found = _in_memory(model[0]) if model else stack.enter_context(_in_files(directory))
        weights = list(_ordered(found, family, config, str(directory)))
        notes = list(vocabulary.notes)
        types = [_type_of(weight, kind, notes) for weight in weights]
        writer = gguf.GGUFWriter(path, family.arch)
        try:
            _describe(writer, config, kind, name, licence)
            vocabulary.write(writer)
            _pack(writer, weights, types)
        finally:
            writer.close()
    return Written({each: types.count(each) for each in dict.fromkeys(types)}, tuple(notes))


_Found = dict[str, tuple[tuple[int, ...], Callable[[], Floats]]]


def _in_memory(module: Any) -> _Found:
    found: _Found = {}
    for name, tensor in module.state_dict().items():

        def read(tensor: Any = tensor) -> Floats:
            return np.asarray(tensor.detach().float().cpu().numpy())

        found[name] = (tuple(tensor.shape), read)
    return found


@contextlib.contextmanager
def _in_files(directory: Path) -> Iterator[_Found]:
    """The weights of one or several safetensors files, read when asked."""
    from safetensors import safe_open

    index = directory / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        content = json.loads(index.read_text(encoding="utf-8"))
        names = sorted(set(content["weight_map"].values()))
    with contextlib.ExitStack() as stack:
        found: _Found = {}
        for name in names:
            if not (directory / name).is_file():
                raise StudentError(str(directory / name), "is missing", "train it again")
            file = stack.enter_context(safe_open(directory / name, framework="pt"))
            for key in file.keys():  # noqa: SIM118 - no mapping

                def read(file: Any = file, key: str = key) -> Floats:
                    return np.asarray(file.get_tensor(key).float().numpy())

                found[key] = (tuple(file.get_slice(key).get_shape()), read)
        yield found


def _ordered(found: _Found, family: Family, config: Any, culprit: str) -> Iterator[_Weight]:
    """Every weight under its name there; a tied output head is the embedding itself."""
    head = "lm_head.weight"
    if not config.tie_word_embeddings and head not in found:
        raise StudentError(culprit, "has no output head (lm_head.weight)", "train it again")
    for name, (shape, read) in found.items():
        if name == head and config.tie_word_embeddings:
            continue

        def in_order(name: str = name, read: Callable[[], Floats] = read) -> Floats:
            return llama_names.in_ggml_order(name, read(), family, config)

        yield _Weight(llama_names.gguf_name(name, culprit), shape, in_order)
    factors = llama_names.rope_factors(config)
    if factors is not None:
        yield _Weight("rope_freqs.weight", factors.shape, lambda: factors)


def _type_of(weight: _Weight, kind: GgufKind, notes: list[str]) -> str:
    if len(weight.shape) == 1:
        return "F32"
    wanted = TYPES[kind]
    if kind == "gguf-q4_0" and weight.name in ("token_embd.weight", "output.weight"):
        wanted = "Q8_0"
    if wanted != "F16" and weight.shape[-1] % 32:
        notes.append(f"{weight.name} stays F16: its rows are {weight.shape[-1]} wide, not 32 · n")
        wanted = "F16"
    if wanted == "F16" and float(np.abs(weight.read()).max(initial=0.0)) > F16_MAX:
        notes.append(f"{weight.name} stays F32: it has values beyond float16")
        wanted = "F32"
    return wanted


def _pack(writer: gguf.GGUFWriter, weights: list[_Weight], types: list[str]) -> None:
    """Write the weights, each once it is its turn: one is in memory at a time."""
    for weight, name in zip(weights, types, strict=True):
        kind = gguf.GGMLQuantizationType[name]
        packed = gguf.quant_shape_to_byte_shape(weight.shape, kind)
        shape = weight.shape if name in PLAIN else packed
        dtype, size = PLAIN.get(name, np.dtype(np.uint8)), int(np.prod(packed))
        writer.add_tensor_info(weight.name, shape, dtype, size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for weight, name in zip(weights, types, strict=True):
        values = weight.read()
        if not np.isfinite(values).all():
            way_out = "its training broke: train it again"
            raise StudentError(weight.name, "holds NaN or infinite values", way_out)
        writer.write_tensor_data(gguf.quantize(values, gguf.GGMLQuantizationType[name]))


def _describe(
    writer: gguf.GGUFWriter, config: Any, kind: GgufKind, name: str, licence: str
) -> None:
    rope, width = llama_names.rope_of(config), llama_names.head_width(config)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name or config.model_type)
    if licence:
        writer.add_license(licence)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope.get("rope_type") == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        before = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        writer.add_rope_scaling_orig_ctx_len(before)
