"""Who is related: accounts of one organisation or with one payer have one owner.

Ten keys of one company are one witness, not ten: whatever is counted as rare is counted by owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["Tenants", "owners_of"]

DAY_S = 86400.0
TENURE_S = 30 * DAY_S
LOOK_BACK_S = 60 * DAY_S


def owners_of(accounts: Sequence[AccountState]) -> npt.NDArray[np.int64]:
    """The owner of each account, (N,), numbered by first appearance.

    Accounts are joined by organisation and by payer, transitively (union–find; Tarjan 1975). One
    with neither is its own owner.
    """
    parent = list(range(len(accounts)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    seen: dict[tuple[str, str], int] = {}
    for at, account in enumerate(accounts):
        for what, value in (("org", account.org), ("payer", account.payer)):
            if value:
                other = root(seen.setdefault((what, value), at))
                mine = root(at)
                parent[max(other, mine)] = min(other, mine)
    names: dict[int, int] = {}
    return np.array(
        [names.setdefault(root(at), len(names)) for at in range(len(accounts))], dtype=np.int64
    )


class Tenants:
    """Who was a customer long before a thing appeared.

    What such tenants use is no mark of a campaign, however many newcomers use it too. An account
    counts for a thing if it was thirty days old when the thing was first shared, so that a
    campaign does not become its own tenant by lasting. Sixty days after, the accounts that have
    stayed count as well: an old framework's prompt is nobody's secret. Where nothing says when an
    account was made, it was when guard first saw it.

    Args:
        accounts: N of them.
        owners: (N,).
        trusted: names of accounts or organisations that are tenants whatever their age.
    """

    def __init__(
        self,
        accounts: Sequence[AccountState],
        owners: npt.NDArray[np.int64],
        trusted: frozenset[str],
        now: float,
    ) -> None:
        made = [(account.created, account.first_seen) for account in accounts]
        created = np.array(
            [seen if isnan(created) else created for created, seen in made], dtype=np.float64
        )
        known = np.array(
            [account.account in trusted or account.org in trusted for account in accounts],
            dtype=np.bool_,
        )
        self.since = np.where(known, -np.inf, created)
        self._now = now
        count = int(owners.max()) + 1 if owners.size else 0
        self.owners = count
        oldest = np.full(count, np.inf)
        np.minimum.at(oldest, owners, self.since)
        self._oldest = np.sort(oldest)

    def before(self, first: float) -> float:
        """An account made by then is a tenant for a thing first shared at ``first``."""
        return max(first, self._now - LOOK_BACK_S) - TENURE_S

    def count(self, before: float) -> int:
        """How many owners had an account by then."""
        return int(np.searchsorted(self._oldest, before, side="right"))
