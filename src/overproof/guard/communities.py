"""Communities of accounts: the parts of the graph of rare evidence, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from overproof.config.guard import CommunityConfig
from overproof.guard.account import CAPABILITIES
from overproof.guard.activity import AWAY_SLOTS, SLOTS
from overproof.guard.facts import CommunityFacts, Population, SharedThing
from overproof.guard.graph import EDGE_KINDS, Graph, build_graph, evidence
from overproof.guard.identities import CommunityIds
from overproof.guard.partition import partition
from overproof.guard.parts import Community, Edge
from overproof.guard.shared import SharedEvidence

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = ["CommunityIds", "drawn", "find_communities", "measure_population"]

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
    known = sorted(accounts, key=attrgetter("index"))
    population = measure_population(shared, known, now)
    graph = build_graph(shared, known, now, config, population)
    if not graph.account.size:
        return []
    parts = [
        inside
        for members, inside in partition(graph, config.resolution)
        if members.size >= config.least_members
    ]
    if not parts:
        return []
    held = [one for one in _held(graph, parts) if one[0].size >= config.least_members]
    held.sort(key=lambda one: int(one[0][0]))
    return _communities(shared, graph, held, population)


def measure_population(
    shared: SharedEvidence, accounts: Sequence[AccountState], now: float
) -> Population:
    """Everybody, from an even sample of at most 20,000 accounts."""
    step = -(-len(accounts) // SAMPLE) or 1
    sample = accounts[::step]
    where = shared.rows(sample)
    sample = [one for one, row in zip(sample, where.tolist(), strict=True) if row >= 0]
    rows = where[where >= 0]
    active = shared.activity.active(rows, now)
    totals = shared.activity.by_away(active, now)
    away = shared.activity.away(rows, now).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.where(totals > 0, np.minimum(away / totals, 1.0), np.nan)
    seen = ~np.isnan(shares)
    mean_away = np.where(seen, shares, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    on = (active > 0).sum(axis=0).astype(np.float64)
    shape = (on + 5.0) / (on.mean() + 5.0) if on.size else np.ones(SLOTS)
    mixes = b"".join(one.capabilities for one in sample if one.sketched)
    kinds = np.frombuffer(mixes, dtype=np.uint32).reshape(-1, CAPABILITIES).astype(np.float64)
    if kinds.size:
        kinds = kinds / np.maximum(kinds.sum(axis=1, keepdims=True), 1.0)
        mean_kinds = kinds.mean(axis=0)
    else:
        mean_kinds = np.full(CAPABILITIES, 1 / CAPABILITIES)
    return Population(
        len(accounts), mean_away if sample else np.zeros(AWAY_SLOTS), shape, mean_kinds
    )


def _held(graph: Graph, parts: Sequence[Ints]) -> Iterator[tuple[Ints, Ints]]:
    """Members of each part whom its *own* things hold, and the edges that they have inside.

    A thing counts here by the share of its requests that come from within: a turn of phrase that
    outsiders use as well is not the community's, however rare it is. An account and a hub are in
    one part each, so that all parts are worked out together. Edges are by hub, then account.
    """
    part = np.repeat(np.arange(len(parts)), [inside.size for inside in parts])
    edges = np.concatenate(parts)
    order = np.lexsort((graph.account[edges], graph.hub[edges], part))
    part, edges = part[order], edges[order]
    known, account = np.unique(graph.account[edges], return_inverse=True)
    of = np.zeros(known.size, dtype=np.int64)
    of[account] = part
    stays = np.ones(known.size, dtype=np.bool_)
    while True:
        hub = graph.hub[edges]
        within = np.bincount(hub, weights=graph.uses[edges], minlength=len(graph.hubs))
        own = within[hub] / graph.hubs.uses[hub]
        nats = evidence(account, graph.hubs.kind[hub], graph.weight[edges] * own, known.size)
        kept = nats >= graph.enough
        if not (stays & ~kept).any():
            break
        stays = stays & kept
        left = stays[account]
        part, edges, account = part[left], edges[left], account[left]
    members = np.flatnonzero(stays)
    members = members[np.argsort(of[members], kind="stable")]
    numbers = np.arange(1, len(parts))
    yield from zip(
        np.split(known[members], np.searchsorted(of[members], numbers)),
        np.split(edges, np.searchsorted(part, numbers)),
        strict=True,
    )


def _communities(
    shared: SharedEvidence,
    graph: Graph,
    parts: Sequence[tuple[Ints, Ints]],
    population: Population,
) -> list[Community]:
    """What is known of each part: members and the edges inside it."""
    everybody = [graph.accounts[at] for members, _ in parts for at in members.tolist()]
    rows = shared.rows(everybody)
    active = shared.activity.active(rows, graph.now)
    away = shared.activity.away(rows, graph.now)
    totals = shared.activity.by_away(active, graph.now)
    banned = np.array([row in shared.banned_rows for row in rows.tolist()], dtype=np.bool_)
    found, start = [], 0
    for members, inside in parts:
        here = slice(start, start + members.size)
        start += members.size
        things = _things(graph, members, inside)
        facts = CommunityFacts(
            active=active[here],
            away=away[here],
            totals=totals[here],
            owners=graph.owners[members],
            banned=banned[here],
            things=things,
            population=population,
        )
        states = everybody[here]
        found.append(Community(states, _edges(states, things), graph.now, facts))
    return found


def _things(graph: Graph, members: Ints, inside: Ints) -> tuple[SharedThing, ...]:
    """What members share, the heaviest star first."""
    hubs, starts = np.unique(graph.hub[inside], return_index=True)
    bounds = np.append(starts, inside.size)
    weight, account = graph.weight[inside], np.searchsorted(members, graph.account[inside])
    several = np.flatnonzero(np.diff(bounds) > 1)
    nats = [float(weight[bounds[at] : bounds[at + 1]].sum()) for at in several.tolist()]
    of = graph.hubs
    found = []
    for at in several[np.lexsort((hubs[several], -np.array(nats)))][:MOST_THINGS].tolist():
        hub, users = hubs[at], slice(bounds[at], bounds[at + 1])
        found.append(
            SharedThing(
                EDGE_KINDS[of.kind[hub]],
                float(of.weight[hub]),
                float(of.first[hub]),
                account[users],
                graph.uses[inside[users]],
                float(of.banned[hub]),
            )
        )
    return tuple(found)


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


def drawn(name: str, community: Community) -> dict[str, Any]:
    """What a drawing of a community is made from, as plain values."""
    accounts = {member.index: member.account for member in community.members}
    return {
        "id": name,
        "at": community.now,
        "members": list(accounts.values()),
        "edges": [
            [accounts[edge.a], accounts[edge.b], edge.kind, round(edge.weight, 3)]
            for edge in community.edges
        ],
    }
