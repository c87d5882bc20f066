"""What a student says to prompts in its present state: batched generation, drawn by seed.

Shapes: B sequences, L columns so far, V vocabulary. Prompts are padded on the left, so that all
answers begin in the same column. What is drawn for a prompt depends on its own seed, not on what
else is in the batch, as far as rounding goes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from overproof.clients.local_batch import drawn
from overproof.train.lm.forward import unwrapped

__all__ = ["generation", "rollout_seed", "rollouts"]

BATCH_TOKENS = 16_384  # prompt and answer columns at a time, times sequences: the cache's size


def rollout_seed(*parts: int) -> int:
    """A seed for one draw, such as of (seed, step, chat): the same on every machine."""
    text = ":".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rollouts(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    ends: frozenset[int],
    limits: Sequence[int],
    seeds: Sequence[int],
    temperature: float = 1.0,
    in_bfloat16: bool = False,
) -> list[list[int]]:
    """Answers of the model in its present state, in evaluation mode.

    Args:
        model: a causal model, bare or wrapped by PEFT and DDP; its mode is put back after.
        prompts: token ids.
        ends: tokens that end an answer; the one that did is part of it.
        limits: how many tokens each may say.
        seeds: of each answer.
        temperature: 0 takes the likeliest token each time.
        in_bfloat16: compute in it, whatever the weights are kept in.

    Returns:
        The tokens of each answer, in the order of the prompts; without an end where the limit came
        first.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]) + limits[i], i))
    order = [i for i in order if limits[i] > 0]
    with (
        generation(model) as inner,
        torch.autocast(inner.device.type, torch.bfloat16, enabled=in_bfloat16),
    ):
        for group in _groups(order, [len(p) + n for p, n in zip(prompts, limits, strict=True)]):
            said = _generate(
                inner,
                [prompts[i] for i in group],
                ends,
                [limits[i] for i in group],
                uniform_bt=_uniforms([seeds[i] for i in group], [limits[i] for i in group]),
                temperature=temperature,
            )
            for i, answer in zip(group, said, strict=True):
                answers[i] = answer
    return answers


@contextmanager
def generation(model: Any) -> Iterator[Any]:
    """The bare model in evaluation mode without gradients; its mode is put back after.

    In evaluation mode gradient checkpointing does not switch the cache off. Weights that autocast
    converted without a gradient must not be met again by the training step.
    """
    inner = unwrapped(model)
    modes = [(part, part.training) for part in inner.modules()]
    inner.eval()
    try:
        with torch.no_grad():
            yield inner
    finally:
        for part, training in modes:
            part.training = training
        torch.clear_autocast_cache()


def _groups(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Sequences of like length that fit into a batch together."""
    group: list[int] = []
    for i in order:
        if group and (len(group) + 1) * lengths[i] > BATCH_TOKENS:
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _uniforms(seeds: Sequence[int], limits: Sequence[int]) -> torch.Tensor:
    """Numbers in [0, 1) for every sequence and step, B x steps."""
    uniforms = torch.zeros((len(seeds), max(limits)), dtype=torch.float64)
    for i, (seed, limit) in enumerate(zip(seeds, limits, strict=True)):
        generator = torch.Generator().manual_seed(seed)
        uniforms[i, :limit] = torch.rand(limit, generator=generator, dtype=torch.float64)
    return uniforms


def _generate(
    inner: Any,
    prompts: Sequence[Sequence[int]],
    ends: frozenset[int],
    limits: Sequence[int],
    *,
    uniform_bt: torch.Tensor,
    temperature: float,
) -> list[list[int]]:
    device = inner.device
    width = max(map(len, prompts))
    padded = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    ids_bl = torch.tensor(padded, device=device)
    mask_bl = torch.tensor(
        [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device
    )
    warmth_b = torch.full((len(prompts),), temperature, device=device)
    uniform_bt = uniform_bt.to(device, torch.float32 if device.type == "mps" else torch.float64)
    answers: list[list[int]] = [[] for _ in prompts]
    going = list(range(len(prompts)))  # which sequences the rows of the batch are
    cache: Any = None
    for step in range(max(limits)):
        positions_bl = (mask_bl.cumsum(-1) - 1).clamp(min=0)
        out = inner(
            input_ids=ids_bl,
            attention_mask=mask_bl,
            position_ids=positions_bl[:, -ids_bl.shape[1] :],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = out.past_key_values
        tokens_b = drawn(
            out.logits[:, -1].float(), warmth_b, torch.ones_like(warmth_b), uniform_bt[:, step]
        )
        kept: list[int] = []
        for row, token in enumerate(tokens_b.tolist()):
            answer = answers[going[row]]
            if not _is_over(answer, ends, limits[going[row]]):
                answer.append(token)
            if not _is_over(answer, ends, limits[going[row]]):
                kept.append(row)
        if not kept:
            break
        if len(kept) <= len(going) // 2 and hasattr(cache, "batch_select_indices"):
            index = torch.tensor(kept, device=device)
            cache.batch_select_indices(index)
            going = [going[row] for row in kept]
            mask_bl, uniform_bt, warmth_b = mask_bl[index], uniform_bt[index], warmth_b[index]
            tokens_b = tokens_b[index]
        ids_bl = tokens_b.unsqueeze(-1)
        mask_bl = torch.cat([mask_bl, torch.ones_like(mask_bl[:, :1])], -1)
    return answers


def _is_over(answer: Sequence[int], ends: frozenset[int], limit: int) -> bool:
    return len(answer) >= limit or (bool(answer) and answer[-1] in ends)
