"""Tiny language models to train, prune and distil: a byte tokenizer, random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_lm import TEMPLATE, write_tiny_lm

from overproof.clients.local_model import LocalModel, Source, load
from overproof.config.lm_students import AnyLmStudent
from overproof.config.teacher import TeacherConfig
from overproof.train.lm.parts import LmStudent, TokenizedChat

EXCHANGES = [
    ("what is a bee", "a bee is a fly"),
    ("name the third", "the third"),
    ("add two and three", "five"),
    ("say nothing", ""),
    ("spell the word there", "t h e r e"),
]


def write_model(
    directory: Path,
    *,
    layers: int = 4,
    padding: int = 0,
    seed: int = 0,
    template: str | None = TEMPLATE,
    **config: Any,
) -> Path:
    """A random Llama over ``write_tiny_lm``'s tokenizer; ``padding`` rows more than tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from overproof.clients.quiet import quiet_transformers

    write_tiny_lm(directory, template=template)
    made = LlamaConfig.from_pretrained(directory)
    for name, value in {"num_hidden_layers": layers, **config}.items():
        setattr(made, name, value)
    made.vocab_size += padding
    with quiet_transformers(), torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(made).save_pretrained(directory)
    return directory


def load_model(directory: Path) -> LocalModel:
    """Its weights as a local teacher has them."""
    teacher = TeacherConfig(kind="local", model=str(directory), device="cpu")
    return load(Source(directory.name, str(directory)), teacher)


def student_of(model: LocalModel, name: str = "tiny") -> LmStudent:
    """A student that is ``model`` itself, with no ceremony."""
    tokenizer = model.chat.tokenizer
    tokenizer.pad_token = tokenizer.pad_token or "<|tools|>"
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    return LmStudent(
        name=name,
        module=model.module,
        tokenizer=tokenizer,
        base=model.name,
        base_dir="",
        base_licence="unknown",
        end=end,
        ends=frozenset({end}),
        context=model.context,
    )


def chats_of(model: LocalModel) -> list[TokenizedChat]:
    """``EXCHANGES`` in tokens."""
    tokenizer = model.chat.tokenizer
    chats = []
    for row, (question, answer) in enumerate(EXCHANGES):
        prompt = model.chat.ids(f"<|user|>{question}<|end|><|assistant|>")
        ids = (*prompt, *model.chat.ids(answer), tokenizer.convert_tokens_to_ids("<|end|>"))
        chats.append(TokenizedChat(row, f"item{row}", 0, ids, len(prompt)))
    return chats


def rows_of_exchanges() -> list[dict[str, Any]]:
    """``EXCHANGES`` as rows of a dataset."""
    return [
        {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        }
        for question, answer in EXCHANGES
    ]


def configured(method: str, **more: Any) -> AnyLmStudent:
    """A student's section of a recipe."""
    from pydantic import TypeAdapter

    section: dict[str, Any] = {"name": "tiny", "method": method, **more}
    if "start" not in section:
        section.setdefault("base", "teacher")
    return TypeAdapter(AnyLmStudent).validate_python(section)
