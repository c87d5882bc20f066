"""A tiny random language model with a byte-level tokenizer and a chat template."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = (
    "{% if tools %}<|tools|>{{ tools | tojson }}<|end|>{% endif %}"
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}"
    "{% if m['tool_calls'] %}{{ m['tool_calls'] | tojson }}{% endif %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|tools|>")


def write_tiny_lm(directory: Path, *, template: str | None = TEMPLATE, context: int = 512) -> Path:
    """A random Llama of two layers, width 48, over bytes and a few special tokens."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from overproof.clients.quiet import quiet_transformers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merged = ["th", "he", "Ġa", "Ġb"]  # of two characters each
    vocabulary = {token: i for i, token in enumerate([*alphabet, *merged])}
    tokenizer = Tokenizer(BPE(vocabulary, [(m[0], m[1]) for m in merged]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL])
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        max_position_embeddings=context,
        initializer_range=0.2,  # far from uniform, so that a wrong position shows
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id("<|end|>"),
    )
    with quiet_transformers(), torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(directory)
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")
        fast.chat_template = template
        fast.save_pretrained(directory)
    return directory
