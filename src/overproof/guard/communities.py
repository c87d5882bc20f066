"""Communities of accounts: the parts of the graph of rare evidence, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from overproof.config.guard import CommunityConfig
from overproof.guard.activity import AWAY_SLOTS, SLOTS
from overproof.guard.facts import CommunityFacts, Population, SharedThing
from overproof.guard.graph import EDGE_KINDS, Graph, build_graph, evidence
from overproof.guard.identities import CommunityIds
from overproof.guard.partition import partition
from overproof.guard.parts import Community, Edge
from overproof.guard.shared import SharedEvidence

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["CommunityIds", "find_communities", "measure_population"]

SAMPLE = 20_000
MOST_THINGS = 256
EDGES_A_MEMBER = 8

Ints = npt.NDArray[np.int64]


def find_communities(
    shared: SharedEvidence,
    accounts: Iterable[AccountState],
    now: float,
    config: CommunityConfig | None = None,
) -> list[Community]:
    """The communities at ``now``, by the index of their first member.

    Also drops from ``shared`` what nobody has used within the window, and who used what turned out
    to be common.

    Args:
        shared: evidence of all accounts.
        accounts: those still known, in any order.
        now: seconds since the epoch, event time.
        config: ``shared``'s own if None.

    Raises:
        MissingExtraError: igraph is not installed.
    """
    config = config or shared.config
    shared.expire(now)
    known = sorted(accounts, key=lambda account: account.index)
    population = measure_population(shared, known, now)
    graph = build_graph(shared, known, now, config, population)
    if not graph.account.size:
        return []
    found = []
    for members, inside in partition(graph, config.resolution):
        if members.size >= config.least_members:
            held = _held(graph, members, inside)
            if held.size >= config.least_members:
                edges = inside[np.isin(graph.account[inside], held)]
                found.append(_community(shared, graph, held, edges, population))
    return sorted(found, key=lambda community: community.members[0].index)


def measure_population(
    shared: SharedEvidence, accounts: Sequence[AccountState], now: float
) -> Population:
    """Everybody, from an even sample of at most 20,000 accounts."""
    step = -(-len(accounts) // SAMPLE) or 1
    sample = [one for one in accounts[::step] if shared.row(one) is not None]
    rows = [row for one in sample if (row := shared.row(one)) is not None]
    active = shared.activity.active(rows, now)
    totals = shared.activity.by_away(active, now)
    away = shared.activity.away(rows, now).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(totals > 0, np.minimum(away / totals, 1.0), np.nan)
    seen = ~np.isnan(shares)
    mean_away = np.where(seen, shares, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    on = (active > 0).sum(axis=0).astype(np.float64)
    shape = (on + 5.0) / (on.mean() + 5.0) if on.size else np.ones(SLOTS)
    kinds = np.array([list(one.capabilities) for one in sample if one.sketched], dtype=np.float64)
    if kinds.size:
        kinds = kinds / np.maximum(kinds.sum(axis=1, keepdims=True), 1.0)
        mean_kinds = kinds.mean(axis=0)
    else:
        mean_kinds = np.full(16, 1 / 16)
    return Population(
        len(accounts), mean_away if sample else np.zeros(AWAY_SLOTS), shape, mean_kinds
    )


def _held(graph: Graph, members: Ints, inside: Ints) -> Ints:
    """Members whom the community's *own* things hold.

    A thing counts here by the share of its requests that come from within: a turn of phrase that
    outsiders use as well is not the community's, however rare it is.
    """
    while members.size:
        inside = inside[np.isin(graph.account[inside], members)]
        hubs, where = np.unique(graph.hub[inside], return_inverse=True)
        total = np.array([graph.hubs[hub].uses for hub in hubs.tolist()], dtype=np.float64)
        own = np.bincount(where, weights=graph.uses[inside], minlength=hubs.size) / total
        kinds = np.array(
            [EDGE_KINDS.index(graph.hubs[hub].kind) for hub in hubs.tolist()], dtype=np.int64
        )
        account = np.searchsorted(members, graph.account[inside])
        nats = evidence(account, kinds[where], graph.weight[inside] * own[where], members.size)
        kept = members[nats >= graph.enough]
        if kept.size == members.size:
            break
        members = kept
    return members


def _community(
    shared: SharedEvidence, graph: Graph, members: Ints, inside: Ints, population: Population
) -> Community:
    inside = inside[np.lexsort((graph.account[inside], graph.hub[inside]))]
    states = [graph.accounts[at] for at in members.tolist()]
    things = _things(graph, members, inside)
    rows = [row for one in states if (row := shared.row(one)) is not None]
    active = shared.activity.active(rows, graph.now)
    facts = CommunityFacts(
        active=active,
        away=shared.activity.away(rows, graph.now),
        totals=shared.activity.by_away(active, graph.now),
        owners=graph.owners[members],
        banned=np.array([row in shared.banned_rows for row in rows], dtype=np.bool_),
        things=things,
        population=population,
    )
    return Community(states, _edges(states, things), graph.now, facts)


def _things(graph: Graph, members: Ints, inside: Ints) -> tuple[SharedThing, ...]:
    """What members share, the heaviest star first."""
    hubs, starts = np.unique(graph.hub[inside], return_index=True)
    bounds = [*starts.tolist(), inside.size]
    found = []
    for at, hub in enumerate(hubs.tolist()):
        edges = inside[bounds[at] : bounds[at + 1]]
        if edges.size < 2:
            continue
        it = graph.hubs[hub]
        users = np.searchsorted(members, graph.account[edges])
        thing = SharedThing(it.kind, it.weight, it.first, users, graph.uses[edges], it.banned)
        found.append((-float(graph.weight[edges].sum()), hub, thing))
    return tuple(thing for _, _, thing in sorted(found, key=lambda one: one[:2])[:MOST_THINGS])


def _edges(states: Sequence[AccountState], things: Sequence[SharedThing]) -> list[Edge]:
    """Edges between members for a human to look at: each star drawn as a ring, 8 a member."""
    left = EDGES_A_MEMBER * len(states)
    edges = []
    for thing in things:
        users = thing.users.tolist()
        ring = [*pairwise(users)]
        if len(users) > 2:
            ring.append((users[0], users[-1]))
        kind = "succession" if thing.banned == thing.banned else thing.kind
        edges += [
            Edge(states[a].index, states[b].index, kind, thing.weight) for a, b in ring[:left]
        ]
        left -= len(ring)
        if left <= 0:
            break
    return edges
