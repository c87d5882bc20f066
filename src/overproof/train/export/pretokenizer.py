"""Which of llama.cpp's pre-tokenizers splits text as a ``tokenizer.json`` does.

llama.cpp knows them by name (``tokenizer.ggml.pre``) and has their rules built in: a name that
does not fit gives other tokens without a word. The names and rules are those of its
``llama-vocab.cpp``; the proof afterwards compares the tokens of awkward texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overproof.errors import StudentError

__all__ = ["SUPPORTED", "pretokenizer_of"]

WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
# Regular expressions of a Split before ByteLevel, as tokenizer.json files spell them. The second
# name is for byte-pair models that merge even where the whole word is a token.
SPLITS: Mapping[str, tuple[str, str]] = {
    rf"{CONTRACTIONS}|{WORDS}|\p{{N}}{{1,3}}|{REST}": ("llama-bpe", "smaug-bpe"),
    rf"{CONTRACTIONS}|{WORDS}|\p{{N}}|{REST}": ("", "qwen2"),
}
SUPPORTED = "those of GPT-2, SmolLM2 (digits alone), Llama 3 and Qwen2"


def pretokenizer_of(tokenizer: Mapping[str, Any], culprit: str) -> str:
    """The name of llama.cpp's pre-tokenizer.

    Args:
        tokenizer: the content of ``tokenizer.json``.
        culprit: what an error names.

    Raises:
        StudentError: llama.cpp has none of that kind, or this exporter does not know it.
    """
    model = tokenizer.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        kind = "byte-fallback BPE (SentencePiece)" if model.get("byte_fallback") else None
        raise _refused(culprit, f"a {kind or model.get('type', 'nameless')} model")
    for setting in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(setting):
            raise _refused(culprit, f"a BPE model with {setting}")
    normalizer = tokenizer.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise _refused(culprit, f"a normaliser ({normalizer.get('type')})")
    steps = _steps(tokenizer.get("pre_tokenizer"))
    ignores_merges = bool(model.get("ignore_merges"))
    match steps:
        case [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]:
            return _merging("gpt-2", ignores_merges, culprit)
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        ]:
            return _merging("smollm", ignores_merges, culprit)
        case [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ] if regex in SPLITS:
            name = SPLITS[regex][0 if ignores_merges else 1]
            if name:
                return name
    described = " + ".join(str(step.get("type")) for step in steps) or "none"
    if any(step.get("add_prefix_space") for step in steps):
        described += " with a space put before the text"
    raise _refused(culprit, f"a pre-tokenizer ({described}) that is none of them")


def _merging(name: str, ignores_merges: bool, culprit: str) -> str:
    if ignores_merges:
        raise _refused(culprit, f"ignore_merges, which llama.cpp's {name!r} does not have")
    return name


def _steps(pre: Any) -> list[Mapping[str, Any]]:
    """The steps in order, with the defaults that older files leave unsaid."""
    if pre is None:
        return []
    if pre.get("type") == "Sequence":
        return [step for part in pre["pretokenizers"] for step in _steps(part)]
    defaults = {"ByteLevel": {"use_regex": True}, "Split": {"invert": False}}
    return [{**defaults.get(pre.get("type"), {}), **pre}]


def _refused(culprit: str, what: str) -> StudentError:
    return StudentError(
        culprit,
        f"has {what}; exports to GGUF know byte-level BPE with pre-tokenizers like {SUPPORTED}",
        "export it with --to safetensors, which vLLM and transformers load",
    )
