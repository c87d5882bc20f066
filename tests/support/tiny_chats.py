"""Chats over the tiny language model, a student of it, and the shortest method there is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from overproof.config.lm_students import SftConfig
from overproof.train.lm.parts import IGNORED, Batch, LmStudent, TokenizedChat


def make_row(prompt: str, answer: str, **more: Any) -> dict[str, Any]:
    """A row as ``read_chats`` gives it."""
    return {
        "messages": [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": answer},
        ],
        "outcome": "answered",
        "item": f"item-{prompt}",
        "sample": 0,
        "request_keys": [f"key-{prompt}"],
    } | more


def make_chats(n: int, seed: int = 0, *, longest: int = 40) -> list[TokenizedChat]:
    """Ragged chats of random bytes; answers repeat their prompt's first letters, so they learn."""
    numbers = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=numbers))

    chats = []
    for row in range(n):
        prompt = [draw(60, 90) for _ in range(draw(3, longest // 2))]
        answer = (prompt * 3)[: draw(1, longest // 2)]
        ids = (262, *prompt, 260, 263, *answer, 260)
        chats.append(TokenizedChat(row, f"item-{row}", 0, ids, len(prompt) + 3))
    return chats


def load_tiny(directory: Path, *, attention: str = "sdpa") -> LmStudent:
    """The tiny model as a student; ``directory`` is where ``write_tiny_lm`` put it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from overproof.clients.quiet import quiet_transformers

    with quiet_transformers():
        module = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, attn_implementation=attention
        )
        tokenizer = AutoTokenizer.from_pretrained(directory)
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    return LmStudent(
        name="small",
        module=module,
        tokenizer=tokenizer,
        base="tiny",
        base_dir=str(directory),
        base_licence="mit",
        end=end,
        ends=frozenset({end}),
        context=512,
    )


def make_config(**changes: Any) -> SftConfig:
    """A quick one: 6 steps of about 300 tokens for 24 chats and two epochs."""
    quick = {
        "name": "small", "base": "tiny", "method": "sft", "epochs": 2, "batch_tokens": 300,
        "micro_tokens": 100, "learning_rate": 3e-3, "warmup": 0.2, "checkpoint_every": 2,
    }  # fmt: skip
    return SftConfig.model_validate(quick | changes)


class Plain:
    """Sequence-level distillation with the whole tensor of logits."""

    name = "sft"

    def prepare(self, model: Any, batch: Batch, step: int) -> Batch:
        del model, step
        return batch

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        names = ("input_ids", "position_ids", "attention_mask")
        logits = model(**{n: batch[n] for n in names if n in batch}, use_cache=False).logits
        return torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(),
            batch["labels"][:, 1:].flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )


def train_once(base: str, out: str, settings: str, result: str) -> None:
    """Train as a process of its own does, which may be killed, and write down what came of it."""
    from safetensors.torch import save_file

    from overproof.train.lm.launch import is_first_process
    from overproof.train.lm.trainer import fit

    torch.set_num_threads(1)
    told = json.loads(settings)
    student = load_tiny(Path(base))
    dropout = told.pop("dropout", 0.0)
    for layer in student.module.model.layers:
        layer.self_attn.attention_dropout = dropout
    done = fit(
        student,
        Plain(),
        make_chats(24),
        make_chats(6, seed=1),
        make_config(**told),
        out=Path(out),
        seed=5,
        progress=lambda _share, facts: print("step", facts["step"], flush=True),
    )
    if is_first_process():
        weights = {name: p.detach().clone() for name, p in student.module.named_parameters()}
        save_file(weights, result)
        facts = {"losses": done.losses, "tune": done.tune_loss, "tokens": done.tokens}
        facts |= {"base": done.base_tune_loss, "notes": done.notes}
        Path(result).with_suffix(".json").write_text(json.dumps(facts))


if __name__ == "__main__":
    train_once(*sys.argv[1:])
