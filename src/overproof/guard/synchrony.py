"""Accounts that are active at the same times, beyond their own habits and everybody's.

Candidates are only pairs within a block: accounts with the same commonest model that are not old
customers, in order of making, cut into runs of 256. So 100,000 accounts cost at most
256 · 100,000 / 2 pairs as matrix products of 336 half hours, seconds in all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from overproof.guard.activity import DAY_SLOTS, SLOTS
from overproof.guard.facts import Population
from overproof.guard.owners import TENURE_S
from overproof.guard.shared import SharedEvidence

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["expected", "synchronous_groups"]

BLOCK = 256
LEAST_SLOTS = 24
LEAST_DAYS = 4
LEAST_NATS = 3.0
MOST_NATS = 20.0
NEIGHBOURS = 4


def expected(
    active: npt.NDArray[np.uint8], shape: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Activity, and what to expect of the account's own habits and everybody's hour.

    Args:
        active: (M, 336) requests by half hour.
        shape: (336,) everybody's activity, as a multiple of its mean.

    Returns:
        (M, 336) "active in this half hour", and the chance of it; both 0 before an account's first
        activity. An account is expected at the rate of the same half hour on the *other* days since
        then, shrunk towards its mean rate by two days' worth.
    """
    on = (active > 0).astype(np.float64)
    begun = np.maximum.accumulate(on, axis=1)
    shaped = (len(on), SLOTS // DAY_SLOTS, DAY_SLOTS)
    days, valid = on.reshape(shaped), begun.reshape(shaped)
    mean = (on.sum(axis=1) / np.maximum(begun.sum(axis=1), 1.0))[:, None, None]
    others = days.sum(axis=1, keepdims=True) - days
    other_days = valid.sum(axis=1, keepdims=True) - valid
    rate = ((others + 2 * mean) / (other_days + 2)).reshape(on.shape)
    everybody = np.clip(shape, 0.2, 5.0)[None, :]
    return on, np.clip(rate * everybody, 1e-4, 1 - 1e-4) * begun


def synchronous_groups(
    shared: SharedEvidence,
    accounts: Sequence[AccountState],
    owners: npt.NDArray[np.int64],
    now: float,
    population: Population,
) -> Iterator[tuple[list[int], float]]:
    """Groups of unrelated accounts that are active together: positions and nats.

    With c half hours in which both are active and μ expected, a pair weighs c log(c/μ) − c + μ, the
    Chernoff bound on the tail of a Poisson (honest at the small μ of slow accounts, where a normal
    is not), less a Bonferroni term, the log of the pairs tested, and 3 at least. Pairs that
    meet make one group; its nats are what the median member's four strongest pairs add up to, 20
    at most. Habits must be known from four days.
    """
    blocks = _blocks(accounts, now)
    tested = sum(len(block) * (len(block) - 1) // 2 for block in blocks)
    for block in blocks:
        rows = [shared.row(accounts[at]) for at in block]
        known = [(at, row) for at, row in zip(block, rows, strict=True) if row is not None]
        active = shared.activity.active([row for _, row in known], now)
        old = (np.cumsum(active, axis=1) > 0).sum(axis=1) >= LEAST_DAYS * DAY_SLOTS
        steady = np.flatnonzero(((active > 0).sum(axis=1) >= LEAST_SLOTS) & old)
        if steady.size < 2:
            continue
        where = np.array([known[at][0] for at in steady])
        on, chance = expected(active[steady], population.shape)
        both, usual = on @ on.T, np.maximum(chance @ chance.T, 1e-6)
        nats = both * np.log(np.maximum(both, 1.0) / usual) - both + usual
        nats = np.where(both > usual, nats, 0.0) - log(max(tested, 1))
        nats[owners[where][:, None] == owners[where][None, :]] = 0.0
        nats = np.minimum(nats, MOST_NATS)
        nats[nats < LEAST_NATS] = 0.0
        for members in _components(nats > 0):
            strongest = np.sort(nats[members], axis=1)[:, -NEIGHBOURS:].sum(axis=1)
            yield where[members].tolist(), min(float(np.median(strongest)), MOST_NATS)


def _components(tied: npt.NDArray[np.bool_]) -> Iterator[list[int]]:
    """Groups of at least two that are tied, directly or through others, by their first."""
    seen: set[int] = set()
    for start in range(len(tied)):
        if start not in seen and tied[start].any():
            group, waiting = {start}, [start]
            while waiting:
                for other in np.flatnonzero(tied[waiting.pop()]).tolist():
                    if other not in group:
                        group.add(other)
                        waiting.append(other)
            seen |= group
            yield sorted(group)


def _blocks(accounts: Sequence[AccountState], now: float) -> list[list[int]]:
    """Young accounts by commonest model and time of making, at most 256 together."""
    groups: dict[str, list[tuple[float, int]]] = {}
    for at, account in enumerate(accounts):
        made = account.created if account.created == account.created else account.first_seen
        if now - made > 2 * TENURE_S or account.requests < LEAST_SLOTS or not account.models:
            continue
        model = max((seen[1], name) for name, seen in account.models.items())[1]
        groups.setdefault(model, []).append((made, at))
    blocks = []
    for _, group in sorted(groups.items()):
        group.sort()
        for start in range(0, len(group), BLOCK):
            if len(part := group[start : start + BLOCK]) > 1:
                blocks.append(sorted(at for _, at in part))
    return blocks
