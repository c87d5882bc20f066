"""A byte-level BPE tokenizer as GGUF holds it: tokens with types, merges, special tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from overproof.errors import StudentError
from overproof.train.export.pretokenizer import pretokenizer_of

__all__ = ["Vocabulary", "vocabulary_of"]

# Ends that llama.cpp knows by their text, besides the three that a file can name.
KNOWN_ENDS = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "<|end_of_text|>",
]


@dataclass(frozen=True)
class Vocabulary:
    """What is written of a tokenizer; ``notes`` says what could not be."""

    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    ends: tuple[int, ...]
    bos: int | None
    pad: int | None
    template: str
    notes: tuple[str, ...]

    def write(self, writer: gguf.GGUFWriter) -> None:
        """Add it to a file that is being written."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(list(self.tokens))
        writer.add_token_types(list(self.types))
        writer.add_token_merges(list(self.merges))
        setters = (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)
        for setter, end in zip(setters, self.ends, strict=False):
            setter(end)
        if self.bos is not None:
            writer.add_bos_token_id(self.bos)
        if self.pad is not None:
            writer.add_pad_token_id(self.pad)
        # A chat template writes the beginning itself; training added none to it.
        writer.add_add_bos_token(False)
        writer.add_add_eos_token(False)
        writer.add_add_space_prefix(False)
        writer.add_chat_template(self.template)


def vocabulary_of(directory: Path, tokenizer: Any, ends: Iterable[int], rows: int) -> Vocabulary:
    """Read ``tokenizer.json`` of a student.

    Args:
        directory: where it lies.
        tokenizer: the same, loaded by transformers.
        ends: tokens that end an answer, the one that training appends first.
        rows: of the embedding; ids that no token has stand for nothing.

    Raises:
        StudentError: there is no such file, llama.cpp has no tokenizer of the kind, or it has
            more tokens than the model has embeddings.
    """
    path = directory / "tokenizer.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        way_out = "a fast tokenizer is needed; save it with PreTrainedTokenizerFast"
        raise StudentError(str(path), f"cannot be read: {error}", way_out) from error
    pre = pretokenizer_of(content, str(path))
    tokens: list[str | None] = [None] * rows
    types = [int(gguf.TokenType.UNUSED)] * rows
    added = {entry["id"]: entry for entry in content.get("added_tokens", ())}
    known = {**{i: token for token, i in content["model"]["vocab"].items()}}
    known |= {i: entry["content"] for i, entry in added.items()}
    if known and max(known) >= rows:
        raise StudentError(
            str(path),
            f"has a token {max(known)}, and the model's embedding has {rows} rows",
            "tokenizer and weights are not of one model: take both from the same place",
        )
    for i, token in known.items():
        tokens[i] = token
        types[i] = int(_type_of(added.get(i)))
    ends = list(dict.fromkeys(ends))
    return Vocabulary(
        pre=pre,
        tokens=tuple(f"[PAD{i}]" if token is None else token for i, token in enumerate(tokens)),
        types=tuple(types),
        merges=tuple(_merge(pair) for pair in content["model"]["merges"]),
        ends=tuple(ends),
        bos=tokenizer.bos_token_id,
        pad=tokenizer.pad_token_id,
        template=_template(tokenizer, directory),
        notes=tuple(_notes(content, added.values(), [known.get(i, "") for i in ends[3:]])),
    )


def _type_of(added: dict[str, Any] | None) -> gguf.TokenType:
    if added is None:
        return gguf.TokenType.NORMAL
    return gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED


def _merge(pair: str | list[str]) -> str:
    return pair if isinstance(pair, str) else " ".join(pair)


def _template(tokenizer: Any, directory: Path) -> str:
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not isinstance(template, str) or not template:
        raise StudentError(
            str(directory), "has no chat template", "put a chat_template.jinja into it"
        )
    return template


def _notes(content: dict[str, Any], added: Iterable[dict[str, Any]], more: list[str]) -> list[str]:
    notes = []
    if content.get("normalizer"):
        notes.append(
            "llama.cpp does not normalise text: what is not in Unicode's form NFC may be split "
            "into other tokens"
        )
    trimming = [e["content"] for e in added if e.get("lstrip") or e.get("rstrip")]
    if trimming:
        notes.append(f"llama.cpp keeps white space beside {', '.join(trimming)}")
    if unknown := [name for name in more if name not in KNOWN_ENDS]:
        notes.append(f"llama.cpp does not end an answer at {', '.join(unknown)}")
    return notes
