"""Train the study's teacher: a Llama of 4 million parameters that solves small verifiable tasks.

    OMP_NUM_THREADS=1 python studies/teacher.py --out studies/teacher

One core for about forty minutes; transformers, torch and reasoning-gym are all it needs. The seeds
are fixed: the same versions on the same kind of processor give the same weights, another processor
gives weights whose last digits differ. At the end it prints how many of 400 fresh problems of every
task the saved weights solve, with Wilson 95 % intervals, and writes ``scores.json`` beside them.

``--evaluate DIR`` only scores what is there.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import TASKS, problems, verify

# Reasoning-gym adds the index of an entry to the seed. Overproof's recipes take seeds below 2**31
# and training here those from 2**40 on, so that no entry is drawn twice. The score's are elsewhere
# again. (Small tasks have few different questions: "2 + 3" comes up whatever the seed.)
TRAINING_SEED = 1 << 40
SCORING_SEED = 1 << 50

SYSTEM, USER, ASSISTANT, END, PAD = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"
SPECIALS = (SYSTEM, USER, ASSISTANT, END, PAD)
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
WORDS = ("Up", "Down", "Backward", "Count", "Reverse")
VOCABULARY = 288
LONGEST = 128


def build_tokenizer() -> Any:
    """Byte-level BPE with GPT-2's pre-tokenizer and few merges: the words questions begin with.

    What the tasks are about, numbers and the letters of words, stays in single bytes: a model this
    small has no room to learn how hundreds of tokens are spelled.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    merges = list(
        dict.fromkeys((word[:end], word[end]) for word in WORDS for end in range(1, len(word)))
    )
    ids = {token: index for index, token in enumerate(alphabet)}
    for left, right in merges:
        ids[left + right] = len(ids)
    spare = VOCABULARY - len(ids) - len(SPECIALS)
    for token in (*(f"<|spare_{n}|>" for n in range(spare)), *SPECIALS):
        ids[token] = len(ids)
    backend = Tokenizer(models.BPE(vocab=ids, merges=merges))
    backend.pre_tokenizer = split
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in list(ids)[-spare - 5 :]]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=PAD,
        chat_template=TEMPLATE,
        model_max_length=LONGEST,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: Any) -> Any:
    """A Llama of ten layers and 4.0 million weights, drawn by torch's seed."""
    from transformers import LlamaConfig, LlamaForCausalLM

    end, pad = tokenizer.convert_tokens_to_ids([END, PAD])
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=10,
        num_attention_heads=3,
        num_key_value_heads=1,
        max_position_embeddings=LONGEST,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    model = LlamaForCausalLM(config)
    # What layers add is small at first, and tokens are far apart: deep models learn sooner.
    for layer in model.model.layers:
        for added in (layer.self_attn.o_proj, layer.mlp.down_proj):
            added.weight.data.mul_((2 * config.num_hidden_layers) ** -0.5)
    model.model.embed_tokens.weight.data.mul_(2.5)
    return model


def examples(tokenizer: Any, count: int) -> list[tuple[list[int], int]]:
    """``count`` problems, less repeats: the tokens, and how many are the question's."""
    made: list[tuple[list[int], int]] = []
    for name, task in TASKS.items():
        drawn = problems(name, TRAINING_SEED, round(count * task.share))
        for question, answer in sorted({(one.question, one.answer) for one in drawn}):
            prompt = tokenizer(f"{USER}{question}{END}{ASSISTANT}")["input_ids"]
            made.append((prompt + tokenizer(f"{answer}{END}")["input_ids"], len(prompt)))
    return made


def batches(
    known: list[tuple[list[int], int]], tokens: int, pad: int, rng: random.Random
) -> Iterator[tuple[Any, Any]]:
    """One pass over the problems, in batches of like lengths and about ``tokens`` tokens."""
    import torch

    order = list(range(len(known)))
    rng.shuffle(order)
    cut: list[list[int]] = []
    for start in range(0, len(order), 4096):
        batch: list[int] = []
        for index in sorted(order[start : start + 4096], key=lambda i: len(known[i][0])):
            if batch and (len(batch) + 1) * len(known[index][0]) > tokens:
                cut.append(batch)
                batch = []
            batch.append(index)
        cut.append(batch)
    rng.shuffle(cut)
    for batch in cut:
        longest = max(len(known[index][0]) for index in batch)
        ids = torch.full((len(batch), longest), pad)
        labels = torch.full((len(batch), longest), -100)
        for row, index in enumerate(batch):
            whole, n_prompt = known[index]
            ids[row, : len(whole)] = torch.tensor(whole)
            labels[row, n_prompt : len(whole)] = torch.tensor(whole[n_prompt:])
        yield ids, labels  # causal attention never looks at the padding on the right


def train(model: Any, tokenizer: Any, arguments: argparse.Namespace) -> None:
    """AdamW, the loss on the answers alone; the rate is even, and falls linearly at the end."""
    import torch

    known = examples(tokenizer, arguments.problems)
    rng = random.Random(arguments.seed)
    pad = tokenizer.pad_token_id
    decayed = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
        lr=arguments.rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    read, step, began, shown = 0, 0, time.perf_counter(), 0.0
    model.train()
    while read < arguments.tokens:
        for ids, labels in batches(known, arguments.batch, pad, rng):
            left = max(1 - read / arguments.tokens, 0.0)
            rate = arguments.rate * min((step + 1) / 100, 1.0, 0.01 + left / arguments.decay)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(input_ids=ids, labels=labels, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            read, step = read + ids.numel(), step + 1
            shown = loss.item() if step == 1 else 0.98 * shown + 0.02 * loss.item()
            if step % 100 == 0:
                speed = read / (time.perf_counter() - began)
                print(f"{read:>9} tokens  step {step:>5}  loss {shown:.4f}  {speed:.0f} tokens/s",
                      flush=True)  # fmt: skip
            if step % 1000 == 0 and arguments.every:
                save(model, tokenizer, arguments.out)
            if read >= arguments.tokens:
                break


def save(model: Any, tokenizer: Any, directory: Path) -> None:
    """Weights in bfloat16, tokenizer, and a generation config that ends answers at ``END``."""
    import copy

    import torch

    kept = copy.deepcopy(model).to(torch.bfloat16)
    kept.generation_config.do_sample = False
    kept.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def wilson(solved: int, asked: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share = solved / asked
    middle = (share + z * z / (2 * asked)) / (1 + z * z / asked)
    half = z * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked**2)) / (1 + z * z / asked)
    return middle - half, middle + half


def answers(model: Any, tokenizer: Any, questions: list[str], size: int = 100) -> list[str]:
    """Greedy answers, ``size`` at a time."""
    import torch

    order = sorted(range(len(questions)), key=lambda index: len(questions[index]))
    said = [""] * len(questions)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        texts = [f"{USER}{questions[index]}{END}{ASSISTANT}" for index in chosen]
        asked = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
        with torch.inference_mode():
            out = model.generate(
                input_ids=asked["input_ids"],
                attention_mask=asked["attention_mask"],
                max_new_tokens=32,
                do_sample=False,
            )
        tail = out[:, asked["input_ids"].shape[1] :]
        for index, text in zip(
            chosen, tokenizer.batch_decode(tail, skip_special_tokens=True), strict=True
        ):
            said[index] = text
    return said


def scores(directory: Path, count: int, seed: int = SCORING_SEED) -> dict[str, list[int]]:
    """``[solved, asked]`` of every task and of all, each task asked equally often."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    counted: dict[str, list[int]] = {}
    for name in TASKS:
        asked = problems(name, seed, count)
        said = answers(model, tokenizer, [one.question for one in asked])
        counted[name] = [sum(map(verify, asked, said)), count]
    counted["all"] = [sum(solved for solved, _ in counted.values()), count * len(TASKS)]
    return counted


def show(counted: dict[str, list[int]]) -> None:
    """Print a line a task."""
    for task, (solved, asked) in counted.items():
        low, high = wilson(solved, asked)
        print(f"{task:<24}{solved:>5} of {asked}  {solved / asked:.3f}  [{low:.3f}, {high:.3f}]")


def main() -> None:
    """Train, save, score."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("studies/teacher"))
    parser.add_argument("--evaluate", type=Path)
    parser.add_argument("--tokens", type=int, default=3_880_428)
    parser.add_argument("--problems", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=1024, help="tokens of a step")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--decay", type=float, default=0.3, help="share of tokens of falling rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fresh", type=int, default=400, help="problems of a task for the score")
    parser.add_argument("--every", action="store_true", help="save every 1000 steps")
    arguments = parser.parse_args()
    import torch

    directory = arguments.evaluate
    if directory is None:
        directory = arguments.out
        torch.manual_seed(arguments.seed)
        tokenizer = build_tokenizer()
        model = build_model(tokenizer)
        print(f"{sum(p.numel() for p in model.parameters())} weights")
        train(model, tokenizer, arguments)
        save(model, tokenizer, directory)
    counted = scores(directory, arguments.fresh)
    show(counted)
    if arguments.evaluate is None:
        (directory / "scores.json").write_text(json.dumps(counted, indent=1) + "\n")


if __name__ == "__main__":
    main()
