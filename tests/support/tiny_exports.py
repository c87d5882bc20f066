"""A tiny random student in memory, of any exported family, with the card of its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MERGES = ("th", "he", "Ġa", "Ġt", "in", "er", "on", "12", "Ġth", "ĊĊ")


def tiny_tokenizer(split: str = "smollm", *, extra: tuple[str, ...] = ()) -> Any:
    """Bytes, a few merges and ChatML's names, split as ``gpt-2``, ``smollm`` or ``qwen2`` does."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*alphabet, *MERGES])}
    pairs = [("Ġt", "h") if m == "Ġth" else (m[0], m[1]) for m in MERGES]
    tokenizer = Tokenizer(BPE(vocabulary, pairs))
    first = {
        "gpt-2": [],
        "smollm": [pre_tokenizers.Digits(individual_digits=True)],
        "qwen2": [pre_tokenizers.Split(Regex(QWEN2), "isolated")],
    }[split]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split != "qwen2")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*first, last]) if first else last
    if split == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    named = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *extra)
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in named])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = CHATML
    return fast


def tiny_student(
    *,
    family: str = "llama",
    tokenizer: Any = None,
    dtype: str = "float32",
    padding: int = 4,
    seed: int = 0,
    **settings: Any,
) -> Any:
    """Two layers, width 64, four heads on two; ``padding`` rows of embeddings too many."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from overproof.clients.quiet import quiet_transformers
    from overproof.train.lm.parts import LmStudent

    tokenizer = tokenizer or tiny_tokenizer("qwen2" if family.startswith("qwen") else "smollm")
    end, other = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    config = AutoConfig.for_model(
        family,
        **{
            "vocab_size": len(tokenizer) + padding,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 96,
            "max_position_embeddings": 512,
            "initializer_range": 0.2,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": end,
            "pad_token_id": None,
            **settings,
        },
    )
    with quiet_transformers(), torch.random.fork_rng():
        torch.manual_seed(seed)
        module = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
        for name, weight in module.named_parameters():
            if name.endswith(("bias", "norm.weight", "layernorm.weight")):
                torch.nn.init.normal_(weight, mean=float("norm" in name), std=0.1)
    return LmStudent(
        name="tiny",
        module=module.eval(),
        tokenizer=tokenizer,
        base="tiny-base",
        base_dir="bases/tiny",
        base_licence="apache-2.0",
        end=end,
        ends=frozenset({end, other}),
        context=512,
    )


def tiny_card(student: Any, **changes: Any) -> Any:
    """The card of ``student``, with made-up figures."""
    from overproof.records.lm_student import LmStudentCard

    facts = {
        "name": student.name,
        "method": "sft",
        "base": student.base,
        "base_dir": "../../" + student.base_dir,
        "base_licence": student.base_licence,
        "teacher": "teacher@local",
        "parameters": sum(p.numel() for p in student.module.parameters()),
        "trainable": 1000,
        "vocabulary": len(student.tokenizer),
        "context_length": student.context,
        "layers": 2,
        "precision": "float32",
        "steps": 3,
        "tokens": 1200,
        "answer_tokens": 300,
        "n_train": 40,
        "train_seconds": 61.0,
        "seed": 0,
        "dataset_sha256": "sha256:" + "0" * 64,
        "config_sha256": "sha256:" + "1" * 64,
        "tune_loss": 1.25,
        "base_tune_loss": 2.5,
    }
    return LmStudentCard(**{**facts, **changes})


def saved(student: Any, directory: Path, **changes: Any) -> Path:
    """The student's directory, as a finished run leaves it."""
    from overproof.train.export.hf import save_lm

    save_lm(student, tiny_card(student, **changes), directory)
    return directory
