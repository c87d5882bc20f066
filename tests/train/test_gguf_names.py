"""Names, order and types of a GGUF file; tokenizers that llama.cpp has; what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tiny_exports import QWEN2, saved, tiny_student, tiny_tokenizer

from overproof.errors import StudentError
from overproof.train.export.gguf_file import write_gguf
from overproof.train.export.llama_names import (
    FAMILIES,
    family_of,
    gguf_name,
    in_ggml_order,
    rope_factors,
)
from overproof.train.export.pretokenizer import pretokenizer_of

LLAMA3 = QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def split_then_bytes(regex: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, {**BYTES, "use_regex": False}]}


@pytest.mark.parametrize(
    ("pre", "model", "name"),
    [
        (BYTES, {}, "gpt-2"),
        ({k: v for k, v in BYTES.items() if k != "use_regex"}, {}, "gpt-2"),
        (
            {
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTES],
            },
            {},
            "smollm",
        ),
        (split_then_bytes(QWEN2), {}, "qwen2"),
        (split_then_bytes(LLAMA3), {"ignore_merges": True}, "llama-bpe"),
        (split_then_bytes(LLAMA3), {"ignore_merges": False}, "smaug-bpe"),
    ],
)
def test_pretokenizers_by_their_rules(pre: Any, model: dict[str, Any], name: str) -> None:
    content = {"model": {"type": "BPE", **model}, "pre_tokenizer": pre, "normalizer": None}
    assert pretokenizer_of(content, "t") == name


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"pre_tokenizer": {**BYTES, "add_prefix_space": True}}, "space put before"),
        ({"pre_tokenizer": split_then_bytes(r"\w+")}, "none of them"),
        ({"pre_tokenizer": split_then_bytes(QWEN2), "ignore": True}, "none of them"),
        ({"pre_tokenizer": BYTES, "ignore": True}, "ignore_merges"),
        ({"pre_tokenizer": None}, "none of them"),
        ({"pre_tokenizer": BYTES, "normalizer": {"type": "Lowercase"}}, "normaliser"),
        ({"pre_tokenizer": BYTES, "model": {"type": "Unigram"}}, "Unigram"),
        ({"pre_tokenizer": None, "model": {"type": "BPE", "byte_fallback": True}}, "SentencePiece"),
    ],
)
def test_tokenizers_that_llama_cpp_lacks_are_refused(content: dict[str, Any], said: str) -> None:
    ignore = content.pop("ignore", False)
    whole = {"model": {"type": "BPE", "ignore_merges": ignore}, "normalizer": None, **content}
    with pytest.raises(StudentError, match=said) as raised:
        pretokenizer_of(whole, "tokenizer.json")
    assert "safetensors" in raised.value.way_out


def test_rows_of_q_and_k_turn_alike() -> None:
    """Rotating halves of the weights as they were is rotating pairs of the reordered ones."""
    rng, heads, width = np.random.default_rng(0), 3, 8
    weight = rng.normal(size=(heads * width, 5)).astype(np.float32)

    class Config:
        num_attention_heads = heads
        num_key_value_heads = heads

    name = "model.layers.0.self_attn.q_proj.weight"
    moved = in_ggml_order(name, weight, FAMILIES["llama"], Config)
    x, angles = rng.normal(size=5), rng.normal(size=width // 2)
    cos, sin = np.cos(angles), np.sin(angles)

    def halves(q: Any) -> Any:
        a, b = q[: width // 2], q[width // 2 :]
        return np.stack([a * cos - b * sin, b * cos + a * sin], axis=1).ravel()  # as pairs

    def pairs(q: Any) -> Any:
        a, b = q[0::2], q[1::2]
        return np.stack([a * cos - b * sin, b * cos + a * sin], axis=1).ravel()

    for head in range(heads):
        rows = slice(head * width, (head + 1) * width)
        np.testing.assert_allclose(pairs(moved[rows] @ x), halves(weight[rows] @ x), rtol=1e-5)
    assert in_ggml_order(name, weight, FAMILIES["qwen2"], Config) is weight
    assert in_ggml_order(name.replace("q_proj", "v_proj"), weight, FAMILIES["llama"], Config) is (
        weight
    )


def test_llama3_factors_are_what_transformers_divides_by() -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    }
    config = LlamaConfig(hidden_size=256, num_attention_heads=4, rope_parameters=rope)
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 10000.0 ** -(np.arange(0, 64, 2) / 64)
    factors = rope_factors(config)
    np.testing.assert_allclose(plain / factors, expected.numpy(), rtol=1e-5)
    assert len({float(f) for f in factors}) > 1
    assert rope_factors(LlamaConfig()) is None


@pytest.mark.parametrize(
    ("family", "settings", "said"),
    [
        ("gpt2", {}, "architecture 'gpt2'"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act"),
        ("mistral", {"sliding_window": 8, "max_position_embeddings": 64}, "sliding window"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
    ],
)
def test_settings_that_llama_cpp_lacks_are_refused(
    family: str, settings: dict[str, Any], said: str
) -> None:
    from transformers import AutoConfig

    with pytest.raises(StudentError, match=said):
        family_of(AutoConfig.for_model(family, **settings), "student")


def test_a_weight_without_a_place_is_refused() -> None:
    assert gguf_name("model.layers.11.mlp.up_proj.bias", "s") == "blk.11.ffn_up.bias"
    for name in ("model.layers.0.mlp.experts.0.w1.weight", "model.layers.x.mlp.up_proj.weight"):
        with pytest.raises(StudentError, match="no place"):
            gguf_name(name, "s")


def fields(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    reader = gguf.GGUFReader(path)
    return {k: f.contents() for k, f in reader.fields.items()}, {t.name: t for t in reader.tensors}


def test_a_file_holds_the_weights_and_the_vocabulary(tmp_path: Path) -> None:
    student = tiny_student(tie_word_embeddings=False, attention_bias=True)
    directory = saved(student, tmp_path / "s")
    written = write_gguf(directory, tmp_path / "f.gguf", "gguf-f16", name="tiny", licence="mit")
    told, tensors = fields(tmp_path / "f.gguf")
    assert told["general.architecture"] == "llama"
    assert told["general.name"] == "tiny"
    assert told["llama.attention.head_count_kv"] == 2
    assert told["llama.context_length"] == 512
    assert told["tokenizer.ggml.pre"] == "smollm"
    assert told["tokenizer.ggml.eos_token_id"] == student.end
    assert told["tokenizer.ggml.eot_token_id"] == min(student.ends - {student.end})
    assert told["tokenizer.ggml.add_bos_token"] is False
    assert told["tokenizer.chat_template"] == student.tokenizer.chat_template
    rows = student.module.config.vocab_size
    assert len(told["tokenizer.ggml.tokens"]) == rows == len(student.tokenizer) + 4
    assert told["tokenizer.ggml.tokens"][-1] == f"[PAD{rows - 1}]"
    assert told["tokenizer.ggml.token_type"][-1] == gguf.TokenType.UNUSED
    assert told["tokenizer.ggml.token_type"][student.end] == gguf.TokenType.CONTROL
    state = student.module.state_dict()
    assert len(tensors) == len(state)
    for ours, theirs in (
        ("lm_head.weight", "output.weight"),
        ("model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"),
        ("model.layers.0.self_attn.v_proj.bias", "blk.0.attn_v.bias"),
    ):
        expected = state[ours].numpy().astype(tensors[theirs].data.dtype)
        assert np.array_equal(tensors[theirs].data, expected)
    assert written.types == {"F16": 16, "F32": 13}


def test_narrow_weights_stay_f16_and_large_ones_f32(tmp_path: Path) -> None:
    student = tiny_student(intermediate_size=40)
    with torch.no_grad():
        student.module.model.layers[0].mlp.up_proj.weight[0, 0] = 1e5
    directory = saved(student, tmp_path / "s")
    written = write_gguf(directory, tmp_path / "f.gguf", "gguf-q4_0")
    _, tensors = fields(tmp_path / "f.gguf")
    assert tensors["blk.1.ffn_down.weight"].tensor_type.name == "F16"  # 40 wide
    assert tensors["blk.1.ffn_up.weight"].tensor_type.name == "Q4_0"  # 64 wide
    assert tensors["token_embd.weight"].tensor_type.name == "Q8_0"
    assert any("blk.1.ffn_down.weight stays F16" in note for note in written.notes)
    write_gguf(directory, tmp_path / "g.gguf", "gguf-f16")
    assert fields(tmp_path / "g.gguf")[1]["blk.0.ffn_up.weight"].tensor_type.name == "F32"


def test_a_tokenizer_larger_than_the_weights_is_refused(tmp_path: Path) -> None:
    directory = saved(tiny_student(padding=0), tmp_path / "s")
    content = json.loads((directory / "tokenizer.json").read_text())
    added = {**content["added_tokens"][-1], "id": 400, "content": "<|more|>"}
    content["added_tokens"].append(added)
    (directory / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(StudentError, match="embedding has"):
        write_gguf(directory, tmp_path / "f.gguf", "gguf-f16")


def test_nan_weights_are_no_export(tmp_path: Path) -> None:
    directory = saved(tiny_student(), tmp_path / "s")
    from safetensors.torch import load_file, save_file

    weights = load_file(directory / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StudentError, match="NaN"):
        write_gguf(directory, tmp_path / "f.gguf", "gguf-q8_0")


def test_user_defined_tokens_are_read_in_plain_text(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("gpt-2")
    tokenizer.add_tokens(["<think>"])
    directory = saved(tiny_student(tokenizer=tokenizer), tmp_path / "s")
    write_gguf(directory, tmp_path / "f.gguf", "gguf-f16")
    told, _ = fields(tmp_path / "f.gguf")
    at = told["tokenizer.ggml.tokens"].index("<think>")
    assert told["tokenizer.ggml.token_type"][at] == gguf.TokenType.USER_DEFINED
