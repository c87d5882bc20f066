"""One process or several: who writes, and how several of them are started.

``torchrun`` starts the same command several times. Every process trains on its share of each step
and they add up their gradients; the first one alone writes and speaks.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from overproof.config.lm_students import LmStudentConfig
from overproof.errors import ConfigError

__all__ = [
    "add_up_gradients",
    "check_processes",
    "first_process_first",
    "gathered",
    "is_first_process",
    "is_launched",
    "launcher_line",
    "process_group",
    "process_number",
    "processes",
    "same_everywhere",
    "summed",
    "wait_for_all",
]

PATIENCE = timedelta(days=2)  # the others wait while the first process reads a teacher's weights


def processes() -> int:
    """How many processes train together: what ``torchrun`` says, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_number() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first_process() -> bool:
    """Whether this is the process that writes and speaks."""
    return process_number() == 0


def is_launched() -> bool:
    """Whether ``torchrun`` started this process, if only one of them."""
    return "LOCAL_RANK" in os.environ


def launcher_line(recipe: str | Path, config: LmStudentConfig | Sequence[LmStudentConfig]) -> str:
    """The command that trains a recipe's students with as many processes as it asks for.

    Args:
        recipe: its path.
        config: one student, or all of them: the most that one asks for counts.
    """
    students = [config] if isinstance(config, LmStudentConfig) else config
    count = max((student.processes for student in students), default=1)
    path = shlex.quote(str(recipe))
    if count == 1:
        return f"overproof train {path}"
    return f"torchrun --nproc-per-node {count} -m overproof train {path}"


def check_processes(recipe: str | Path, students: Sequence[LmStudentConfig]) -> None:
    """Check that as many processes run as the recipe asks for.

    A student that asks for one is trained by all there are: that changes the time it takes, and
    its curve no more than rounding does.

    Raises:
        ConfigError: a student asks for another number of processes.
    """
    for student in students:
        if student.processes not in (1, processes()):
            running = processes()
            raise ConfigError(
                f"students.{student.name}.processes = {student.processes}",
                "but one process runs" if running == 1 else f"but {running} processes run",
                f"run: {launcher_line(recipe, students)}",
            )


@contextmanager
def process_group() -> Iterator[None]:
    """Within the block, the processes that ``torchrun`` started can speak to one another.

    Without ``torchrun``, or where they can already, it does nothing.
    """
    if not is_launched():
        yield
        return
    import torch
    from torch import distributed

    if distributed.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@contextmanager
def first_process_first() -> Iterator[None]:
    """The first process runs the block before the others do: it makes what they then find.

    Use it inside ``process_group``. Where the first one fails, ``torchrun`` ends the others.
    """
    if not is_first_process():
        wait_for_all()
        yield
        return
    yield
    wait_for_all()


def wait_for_all() -> None:
    """Go on when every process has come this far."""
    if processes() > 1:
        from torch import distributed

        distributed.barrier()


def summed(values: Sequence[float], device: Any) -> list[float]:
    """Sums over all processes, in float64."""
    if processes() == 1:
        return list(values)
    import torch
    from torch import distributed

    tensor = torch.tensor(list(values), dtype=torch.float64, device=device)
    distributed.all_reduce(tensor)
    return [float(value) for value in tensor.tolist()]


def gathered(value: Any) -> list[Any]:
    """One object of every process, in their order, for every process."""
    if processes() == 1:
        return [value]
    from torch import distributed

    values: list[Any] = [None] * processes()
    distributed.all_gather_object(values, value)
    return values


def add_up_gradients(parameters: Sequence[Any], bucket: int = 2**24) -> None:
    """Give every process the sum of all gradients.

    A process that had no share of a step counts as zeros. They are summed in buckets of ``bucket``
    numbers, in the order of the parameters, so that the sum is the same in every process.
    """
    if processes() == 1:
        return
    import torch
    from torch import distributed

    waiting: list[Any] = []

    def send() -> None:
        flat = torch.cat([parameter.grad.reshape(-1) for parameter in waiting])
        distributed.all_reduce(flat)
        at = 0
        for parameter in waiting:
            size = parameter.numel()
            parameter.grad.copy_(flat[at : at + size].view_as(parameter))
            at += size
        waiting.clear()

    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if waiting and waiting[0].grad.dtype != parameter.grad.dtype:
            send()
        waiting.append(parameter)
        if sum(each.numel() for each in waiting) >= bucket:
            send()
    if waiting:
        send()


def same_everywhere(tensors: Sequence[Any]) -> None:
    """Give every process the first one's values."""
    if processes() > 1:
        from torch import distributed

        for tensor in tensors:
            distributed.broadcast(tensor.data, src=0)
