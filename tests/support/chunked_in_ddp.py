"""One backward pass of a chunked loss under DDP, in a process of its own."""

from __future__ import annotations

import torch
from torch import distributed

from overproof.train.losses.chunked import chunked_sum
from overproof.train.losses.cross_entropy import cross_entropy

V, D, N = 17, 5, 12


class Tiny(torch.nn.Module):
    """A body and a head whose weights are those of the embedding, as small models have them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(V, D)
        self.body = torch.nn.Linear(D, D)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.body(self.embedding(ids)).tanh()
        return hidden


def model_and_data() -> tuple[Tiny, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return Tiny(), torch.randint(V, (N,)), torch.randint(V, (N,))


def loss_of(tiny: Tiny, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return chunked_sum(
        lambda z, at: cross_entropy(z, targets[at]), hidden, tiny.embedding.weight, chunk=2
    )


def train(rank: int, world: int, directory: str) -> None:
    """One backward pass on this process's share of the positions; the first two have more."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{directory}/rendezvous", rank=rank, world_size=world
    )
    try:
        tiny, ids, targets = model_and_data()
        shares = (slice(0, 9), slice(9, N)) if world == 2 else (slice(0, N),)
        wrapped = torch.nn.parallel.DistributedDataParallel(tiny)
        loss = loss_of(tiny, wrapped(ids[shares[rank]]), targets[shares[rank]])
        (world * loss / N).backward()  # DDP takes the mean over processes
        gradients = {name: p.grad for name, p in tiny.named_parameters()}
        torch.save(gradients, f"{directory}/{rank}.pt")
    finally:
        distributed.destroy_process_group()
