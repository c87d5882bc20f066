"""The graph of rare evidence: accounts on one side, the things they share on the other.

A thing with m users is a star of m edges, never m² pairs, so the graph grows with the requests'
distinct things and not with the square of a crowd. An edge's weight is evidence in nats,

    w = −log p · (1 + ν)/2 · s^(1 + 2/k),   p = (e + ½)/(E + 1),   s = min(1, u / (0.05 n + 3)),

with E owners who were customers long before the thing appeared, e of them using it: p estimates
the chance that an unrelated account uses it. ν, 0 to 1, is how much newer its k owners are than
owners are at large: 1 − ((e + 2q) / (k + 2)) / q for a share q of tenants. So a thing of tenants
alone never ties anybody by itself. s shrinks what an account did in passing: u of its n requests
(1 for a payer, device or address; a quarter for a shingle, of which an instruction has several),
and the more so the fewer share it: that two heavy users once said the same is chance.
Where fewer than 30 tenants are known, as in the first month of a log without creation dates, p is
taken over all owners and ν is 1: a big crowd dilutes itself.

An edge weighs no more than all the others of its thing together: that one account says a thing all
day ties it to nobody who said it once. A thing must weigh at least half of the most that one thing
can weigh. An account stays if its edges add up to 0.6 of that most. Edges of one kind add; of the
kinds of text only the strongest counts, as one injected instruction is template, opening and
shingle at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from overproof.config.guard import CommunityConfig
from overproof.guard.facts import Population
from overproof.guard.owners import Tenants, owners_of
from overproof.guard.shared import KINDS, TEXT_KINDS, SharedEvidence
from overproof.guard.synchrony import synchronous_groups
from overproof.guard.things import Thing

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["EDGE_KINDS", "Graph", "Hub", "build_graph", "evidence"]

EDGE_KINDS = (*KINDS, "pivot", "synchrony")
LEAST_TENANTS = 30
ENOUGH = 0.6
HALF = 0.5
LEAST_NATS = 2.0
FEW = 0.25
SHINGLE = EDGE_KINDS.index("shingle")
A_QUARTER = 4.0
HOUR_S = 3600.0
PASSING = 3.0
USUAL = 0.05

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Hub:
    """A thing as a vertex.

    Attributes:
        kind: one of `EDGE_KINDS`.
        weight: −log p · (1 + ν)/2, in nats.
        first: seconds since the epoch.
        banned: since when it is known from blocked accounts; NaN if it is not.
        uses: requests with it, of all accounts.
        payers: unrelated ones among its users.
    """

    kind: str
    weight: float
    first: float
    banned: float
    uses: int
    payers: int = 1


@dataclass
class Graph:
    """Accounts, hubs and the edges between them.

    Attributes:
        accounts: N accounts, by index.
        owners: (N,).
        hubs: H hubs.
        account, hub, weight, uses: (E,) one edge each; positions, nats, requests.
        enough: nats that an account's edges must add up to.
        now: seconds since the epoch.
    """

    accounts: Sequence[AccountState]
    owners: Ints
    hubs: list[Hub]
    account: Ints
    hub: Ints
    weight: Floats
    uses: Ints
    enough: float
    now: float


@dataclass(frozen=True)
class _Scene:
    """Who is there, and what counts as rare among them."""

    accounts: Sequence[AccountState]
    owners: Ints
    tenants: Tenants
    place: dict[int, int]
    enough: float
    now: float
    config: CommunityConfig


class _Edges:
    """Edges as they are found."""

    def __init__(self) -> None:
        self.hubs: list[Hub] = []
        self.account: list[int] = []
        self.hub: list[int] = []
        self.strength: list[float] = []
        self.uses: list[int] = []

    def add(self, hub: Hub, users: Sequence[int], uses: Sequence[int]) -> None:
        self.account.extend(users)
        self.hub.extend([len(self.hubs)] * len(users))
        self.uses.extend(uses)
        self.hubs.append(hub)


def build_graph(
    shared: SharedEvidence,
    accounts: Sequence[AccountState],
    now: float,
    config: CommunityConfig,
    population: Population,
) -> Graph:
    """The graph of rare evidence at ``now``, pruned to accounts with enough of it.

    Args:
        shared: who used what.
        accounts: N, by index. Those that ``shared`` has not seen are left out.
        now: seconds since the epoch.
        config: what is rare, and for how long it counts.
        population: for synchrony beyond what everybody does at that hour.
    """
    owners = owners_of(accounts)
    tenants = Tenants(accounts, owners, shared.trusted, now)
    place = {row: at for at, one in enumerate(accounts) if (row := shared.row(one)) is not None}
    most = log((max(tenants.count(tenants.before(now)), tenants.owners, 1) + 1) / 0.5)
    scene = _Scene(accounts, owners, tenants, place, max(LEAST_NATS, ENOUGH * most), now, config)
    edges = _Edges()
    for kind in KINDS:
        for _, thing in sorted(shared.things[kind], key=lambda item: item[0]):
            if thing.room:
                _add_thing(edges, kind, thing, scene)
    _add_pivots(edges, scene)
    for members, nats in synchronous_groups(shared, accounts, owners, now, population):
        hub = Hub("synchrony", nats, now, float("nan"), len(members))
        edges.add(hub, members, [1] * len(members))
    return _pruned(edges, scene)


def _add_thing(edges: _Edges, kind: str, thing: Thing, scene: _Scene) -> None:
    """Judge one thing: rare enough to tie its users, or common for good."""
    place, owners, tenants, rare = scene.place, scene.owners, scene.tenants, scene.config.rare
    found = sorted(
        (at, uses) for row, uses in thing.members.items() if (at := place.get(row, -1)) >= 0
    )
    if len(found) < 2:
        return
    users = np.array([at for at, _ in found], dtype=np.int64)
    whose = owners[users]
    payers = np.unique(whose).size
    if payers < 2 and kind in TEXT_KINDS:
        return  # one company's own prompt; its payer ties its accounts already
    before = tenants.before(thing.first)
    old = np.unique(whose[tenants.since[users] <= before]).size
    all_old = tenants.count(before)
    if all_old >= LEAST_TENANTS:
        chance = (old + 0.5) / (all_old + 1)
        usual = all_old / tenants.owners
        newness = 1.0 - (old + 2 * usual) / (payers + 2) / usual
        if kind == "payer":
            newness = 1.0  # its users are one owner, old or new
        newcomers = old / payers < FEW * usual
    else:
        chance = (payers - 0.5) / (tenants.owners + 1)
        newness, newcomers = 1.0, False
    if payers > rare and not newcomers:
        thing.make_common()
        return
    nats = -log(min(chance, 1.0)) * (1 + max(newness, 0.0)) / 2
    times = sum(uses for _, uses in found)
    in_text = kind in TEXT_KINDS
    hub = Hub(
        kind,
        nats,
        thing.first,
        thing.banned,
        uses=times + thing.others if in_text else len(found),
        payers=payers,
    )
    if hub.weight >= scene.enough * HALF / ENOUGH:
        # A payer, device or address is counted by account: only changes are seen.
        edges.add(hub, users.tolist(), [uses if in_text else 1 for _, uses in found])


def _add_pivots(edges: _Edges, scene: _Scene) -> None:
    """Accounts that took to the same further model within the same hour.

    Never enough alone: that many people try a model in the same hour by chance.
    """
    owners, config = scene.owners, scene.config
    moves: dict[tuple[str, int], list[int]] = {}
    for at, account in enumerate(scene.accounts):
        models = account.models
        if len(models) < 2:
            continue
        first = min(seen[0] for seen in models.values())
        for model, (since, uses) in models.items():
            if since > first and uses > 2 and scene.now - since <= config.window_h * HOUR_S:
                moves.setdefault((model, int(since // HOUR_S)), []).append(at)
    all_owners = int(owners.max()) + 1 if owners.size else 0
    for (_, hour), users in sorted(moves.items()):
        payers = np.unique(owners[users]).size
        if 2 <= payers <= config.rare:
            nats = min(-log((payers - 0.5) / (all_owners + 1)), scene.enough / 2)
            if nats >= LEAST_NATS / 2:
                hub = Hub("pivot", nats, hour * HOUR_S, float("nan"), len(users))
                edges.add(hub, users, [1] * len(users))


def evidence(account: Ints, kind: Ints, weight: Floats, count: int) -> Floats:
    """Nats that each of ``count`` accounts' edges add up to, (count,).

    Args:
        account: (E,) of each edge.
        kind: (E,) places in `EDGE_KINDS`.
        weight: (E,) nats.
        count: how many accounts there are.
    """
    width = len(EDGE_KINDS)
    cells = np.bincount(account * width + kind, weights=weight, minlength=count * width)
    cells = cells.reshape(count, width)
    text = cells[:, : len(TEXT_KINDS)].max(axis=1)
    return np.asarray(text + cells[:, len(TEXT_KINDS) :].sum(axis=1), dtype=np.float64)


def _pruned(edges: _Edges, scene: _Scene) -> Graph:
    """Drop accounts without enough evidence and hubs left with one owner, until none goes."""
    accounts, owners = scene.accounts, scene.owners
    requests = np.array([one.requests for one in accounts], dtype=np.float64)
    account = np.array(edges.account, dtype=np.int64)
    hub = np.array(edges.hub, dtype=np.int64)
    uses = np.array(edges.uses, dtype=np.int64)
    full = np.array([one.weight for one in edges.hubs], dtype=np.float64)
    kind = np.array([EDGE_KINDS.index(one.kind) for one in edges.hubs], dtype=np.int64)
    weight = full[hub] if hub.size else np.zeros(0)
    text = kind[hub] < len(TEXT_KINDS) if hub.size else np.zeros(0, dtype=np.bool_)
    strength = np.minimum(1.0, uses / (USUAL * requests[account] + PASSING))
    if hub.size:
        payers = np.array([one.payers for one in edges.hubs], dtype=np.float64)
        strength **= 1.0 + 2.0 / payers[hub]
        strength = np.where(kind[hub] == SHINGLE, strength / A_QUARTER, strength)
    weight = np.where(text, weight * strength, weight)
    mutual = weight
    while account.size:
        mutual = np.minimum(weight, np.bincount(hub, weight, full.size)[hub] - weight)
        kept = evidence(account, kind[hub], mutual, len(accounts))[account] >= scene.enough
        of_text = kind[hub] < len(TEXT_KINDS)
        tied = np.where(of_text, owners[account], len(owners) + account)
        pairs = np.unique(np.stack([hub[kept], tied[kept]]), axis=1)
        kept &= np.bincount(pairs[0], minlength=full.size)[hub] >= 2
        if kept.all():
            break
        account, hub, weight, uses = account[kept], hub[kept], weight[kept], uses[kept]
    return Graph(
        scene.accounts, owners, edges.hubs, account, hub, mutual, uses, scene.enough, scene.now
    )
