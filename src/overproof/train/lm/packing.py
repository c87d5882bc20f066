"""Which chats make a step, and how a step is cut into pieces that fit into memory.

The chats of a step depend on data, seed and ``batch_tokens`` alone. How they are then shared among
processes, packed into rows and cut into pieces of ``micro_tokens`` changes no gradient, because
the loss is a sum over answer tokens that is divided once by their number in the whole step. So a
run can be repeated with less memory or more processes, and follows the same curve.

Attention costs the square of a row's length, so packed rows are only about twice as long as the
longest chat among them, and a piece has several of them.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from overproof.errors import DataError

__all__ = ["Piece", "StepPlan", "pieces_of", "plan_prompts", "plan_steps", "rows_of", "shared_out"]

Piece = tuple[tuple[int, ...], ...]  # rows of one forward pass, each of chats by their number

SHORTEST_ROW = 256  # packed rows are no shorter: attention costs little there


@dataclass(frozen=True)
class StepPlan:
    """The chats of one step, by number, over all processes; ``tokens`` with prompts."""

    chats: tuple[int, ...]
    tokens: int


def plan_steps(
    lengths: Sequence[int],
    *,
    batch_tokens: int,
    epochs: float,
    max_tokens: int | None,
    seed: int,
) -> list[StepPlan]:
    """The steps of a training run.

    Every epoch is shuffled by (``seed``, epoch) and cut into steps of equal size, of about
    ``batch_tokens`` at most, so that no step is a small remainder. A fraction of an epoch is that
    fraction of its steps, rounded, and at least one.

    Args:
        lengths: tokens of each chat, prompt included.
        batch_tokens: of a step, over all processes.
        epochs: how often every chat is seen.
        max_tokens: no more than this many are read; the last step is shortened to that.
        seed: decides the order.

    Raises:
        DataError: there are no chats, or ``max_tokens`` is less than one of them.
    """
    if not lengths:
        raise DataError("the training chats", "there are none", "collect some first")
    steps: list[StepPlan] = []
    left = math.inf if max_tokens is None else max_tokens
    for epoch in range(math.ceil(epochs)):
        of_epoch = _cut(_shuffled(len(lengths), seed, epoch), lengths, batch_tokens)
        if (share := epochs - epoch) < 1:
            of_epoch = of_epoch[: max(1, round(share * len(of_epoch)))]
        for chats in of_epoch:
            tokens = sum(lengths[i] for i in chats)
            while chats and tokens > left:
                tokens -= lengths[chats.pop()]
            if chats:
                steps.append(StepPlan(tuple(chats), tokens))
            left -= tokens
            if left <= 0 or not chats:
                return _some(steps, max_tokens)
    return _some(steps, max_tokens)


def _some(steps: list[StepPlan], max_tokens: int | None) -> list[StepPlan]:
    if not steps:
        raise DataError(
            f"max_tokens = {max_tokens}", "is less than one chat", "raise it, or take it out"
        )
    return steps


def plan_prompts(lengths: Sequence[int], *, prompts: int, steps: int, seed: int) -> list[StepPlan]:
    """Steps of ``prompts`` chats each, for a method that writes its own answers to them.

    The order is that of ``plan_steps``; one epoch follows the other within a step.

    Raises:
        DataError: there are no chats.
    """
    if not lengths:
        raise DataError("the training chats", "there are none", "collect some first")
    prompts = min(prompts, len(lengths))
    epochs = math.ceil(prompts * steps / len(lengths))
    order = [i for epoch in range(epochs) for i in _shuffled(len(lengths), seed, epoch)]
    drawn = (tuple(order[at : at + prompts]) for at in range(0, prompts * steps, prompts))
    return [StepPlan(chats, sum(lengths[i] for i in chats)) for chats in drawn]


def _shuffled(n: int, seed: int, epoch: int) -> list[int]:
    return [int(i) for i in np.random.default_rng((seed, epoch)).permutation(n)]


def _cut(order: list[int], lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Groups of about equal size; a chat belongs where its middle lies."""
    total = sum(lengths[i] for i in order)
    count = max(1, math.ceil(total / batch_tokens))
    groups: list[list[int]] = [[] for _ in range(count)]
    before = 0
    for i in order:
        middle = before + lengths[i] / 2
        groups[min(count - 1, int(middle * count / total))].append(i)
        before += lengths[i]
    return [group for group in groups if group]


def shared_out(
    chats: Sequence[int], lengths: Sequence[int], processes: int
) -> list[tuple[int, ...]]:
    """The chats of a step for each process, about equally many tokens; one may have none."""
    if processes == 1:
        return [tuple(chats)]
    loads = [0] * processes
    shares: list[list[int]] = [[] for _ in range(processes)]
    for i in sorted(chats, key=lambda i: (-lengths[i], i)):
        least = loads.index(min(loads))
        shares[least].append(i)
        loads[least] += lengths[i]
    return [tuple(share) for share in shares]


def rows_of(chats: Sequence[int], lengths: Sequence[int], capacity: int) -> list[tuple[int, ...]]:
    """Best-fit packing: the longest first, each into the fullest row that has room for it.

    Args:
        chats: by number.
        lengths: tokens of each chat.
        capacity: of a row; a chat that is longer has a row of its own.

    Returns:
        Rows, longest first.
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens that fit, row), in order
    for i in sorted(chats, key=lambda i: (-lengths[i], i)):
        at = bisect_left(room, (lengths[i], -1))
        if at < len(room):
            free, row = room.pop(at)
            rows[row].append(i)
        else:
            free, row = capacity, len(rows)
            rows.append([i])
        if free > lengths[i]:
            insort(room, (free - lengths[i], row))
    packed = [tuple(row) for row in rows]
    return sorted(packed, key=lambda row: -sum(lengths[i] for i in row))


def pieces_of(
    chats: Sequence[int],
    lengths: Sequence[int],
    *,
    micro_tokens: int,
    packing: bool,
    one_row: bool = False,
) -> list[Piece]:
    """Cut the chats of a step into pieces of at most ``micro_tokens``, padding included.

    A chat that is longer than that is a piece of its own.

    Args:
        chats: by number.
        lengths: tokens of each chat.
        micro_tokens: of a piece.
        packing: several chats a row; otherwise one, and shorter rows are padded.
        one_row: a piece is a single row (flash attention tells packed chats apart only there).
    """
    if not chats:
        return []
    if not packing:
        rows = rows_of(chats, lengths, 0)
    elif one_row:
        rows = rows_of(chats, lengths, micro_tokens)
        return [(row,) for row in rows]
    else:
        longest = max(lengths[i] for i in chats)
        wanted = max(SHORTEST_ROW, 2 * longest)
        rows = rows_of(chats, lengths, micro_tokens // max(1, micro_tokens // wanted))
    pieces: list[list[tuple[int, ...]]] = []
    for row in rows:  # longest first, so that the first row of a piece is the widest
        width = sum(lengths[i] for i in pieces[-1][0]) if pieces else 0
        if pieces and width * (len(pieces[-1]) + 1) <= micro_tokens:
            pieces[-1].append(row)
        else:
            pieces.append([row])
    return [tuple(piece) for piece in pieces]
