"""Where the arithmetic runs, and forward passes over many texts.

Shapes: N texts, L labels, D width.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

from overproof.train.batches import Tokens, in_order_of_length, pad
from overproof.train.classifier import EncoderClassifier

__all__ = ["all_cores", "best_device", "embed_all", "logits_of", "one_core", "seeded"]

Floats = npt.NDArray[np.float64]
Step = Callable[[float], None]

INFERENCE_BATCH = 64


@contextmanager
def all_cores() -> Iterator[None]:
    """Let torch use every core that this process may run on, and restore its setting after.

    Processes that ``torchrun`` started on one machine share its cores.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    with _threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))):
        yield


@contextmanager
def one_core() -> Iterator[None]:
    """Let torch use one core: small matrices are done before a second one has woken up."""
    with _threads(1):
        yield


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch within the block, and leave the caller's random state as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def best_device() -> torch.device:
    """The first CUDA device where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def logits_of(module: EncoderClassifier, tokens: Tokens) -> Floats:
    """Logits (N, L) in evaluation mode, in the order of ``tokens``."""
    return _forward_all(module, module, tokens, lambda _: None)


def embed_all(module: EncoderClassifier, tokens: Tokens, step: Step = lambda _: None) -> Floats:
    """Pooled vectors (N, D) in evaluation mode; ``step`` hears the share that is done."""
    return _forward_all(module, module.pool, tokens, step)


def _forward_all(
    module: EncoderClassifier,
    forward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    tokens: Tokens,
    step: Step,
) -> Floats:
    device = module.head.weight.device
    was_training = module.training
    module.eval()
    done, parts, places = 0, [], []
    with torch.no_grad():
        for indices in in_order_of_length(tokens, INFERENCE_BATCH):
            input_ids, attention_mask = pad([tokens[i] for i in indices])
            out = forward(input_ids.to(device), attention_mask.to(device))
            parts.append(out.double().cpu().numpy())
            places.append(indices)
            done += len(indices)
            step(done / len(tokens))
    module.train(was_training)
    stacked = np.concatenate(parts)
    ordered = np.empty_like(stacked)
    ordered[np.concatenate(places)] = stacked
    return ordered
