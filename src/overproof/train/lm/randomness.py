"""Random states of a process: kept in checkpoints, and given back to whoever had them before."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["random_states", "randomness_kept", "set_random_states"]


def random_states() -> dict[str, Any]:
    """The states of Python, numpy and torch on every device, as plain values and tensors."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    states = {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "cpu": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def set_random_states(states: Mapping[str, Any]) -> None:
    """Go on from states that ``random_states`` gave."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.random.set_rng_state(states["cpu"])
    if torch.cuda.is_available() and len(states.get("cuda", ())) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


@contextmanager
def randomness_kept() -> Iterator[None]:
    """Leave the caller's random states as they were: training seeds all of them."""
    before = random_states()
    try:
        yield
    finally:
        set_random_states(before)
