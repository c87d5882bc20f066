"""A chunked loss is an ordinary node of the graph: DDP averages its gradients over processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from chunked_in_ddp import model_and_data, train
from torch import multiprocessing


@pytest.mark.slow
def test_gradients_are_those_of_one_process(tmp_path: Path) -> None:
    world = 2
    multiprocessing.spawn(train, (world, str(tmp_path)), nprocs=world)
    tiny, ids, targets = model_and_data()
    logits = tiny(ids) @ tiny.embedding.weight.t()
    torch.nn.functional.cross_entropy(logits, targets).backward()
    for rank in range(world):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name, parameter in tiny.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=1e-7)
