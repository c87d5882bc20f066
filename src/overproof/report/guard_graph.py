"""A community drawn as a graph: accounts as dots, what they share as lines. Data in, SVG out.

The layout is that of Fruchterman and Reingold ("Graph drawing by force-directed placement", 1991)
from fixed places, so that the same community always gives the same picture.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from html import escape
from typing import Any

from markupsafe import Markup

from overproof.records.traffic_checks import time_problem
from overproof.report.svg import element, frame, line, markup

__all__ = ["DrawnCommunity", "Graph", "draw_graph"]

MOST_NODES = 150
MOST_EDGES = 450
HEAVIEST = 1e9  # nats; rare things weigh tens
WIDTH, HEIGHT, MARGIN = 560.0, 400.0, 16.0
STEPS = 120
STYLES = {
    "text": ("system", "template", "opening", "closing", "shingle", "turn", "prompt", "tools"),
    "network": ("payer", "device", "address", "agent", "network"),
    "conduct": ("synchrony", "pivot", "succession"),
}
STYLE = {kind: style for style, kinds in STYLES.items() for kind in kinds}


@dataclass(frozen=True)
class DrawnCommunity:
    """A community as a replay writes it beside its verdicts.

    Attributes:
        id: as in the verdict's subject.
        at: seconds since the epoch.
        members: accounts.
        edges: (account, account, kind, weight in nats).
    """

    id: str
    at: float
    members: tuple[str, ...]
    edges: tuple[tuple[str, str, str, float], ...]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> DrawnCommunity:
        """A line of ``NAME.communities.jsonl``.

        Raises:
            ValueError: it is none.
        """
        try:
            members = tuple(str(member) for member in row["members"])
            known = set(members)
            edges = tuple(
                (str(a), str(b), str(kind), float(weight))
                for a, b, kind, weight in row["edges"]
                if str(a) in known and str(b) in known and a != b
            )
            at = float(row["at"])
            if problem := time_problem(at):
                raise ValueError(f"at {problem}")
            if not all(0.0 <= weight <= HEAVIEST for *_, weight in edges):
                raise ValueError("edges: a weight is negative or without bounds")
            return cls(str(row["id"]), at, members, edges)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"is no community: {error!r}") from error


@dataclass(frozen=True)
class Graph:
    """A drawing, and what of the community it shows.

    Attributes:
        kinds: how many ties there are of each kind, all of them, most first.
        note: what was left out; "" if nothing was.
    """

    svg: Markup
    kinds: tuple[tuple[str, int], ...]
    note: str


Tie = tuple[int, int, float, str, str]  # nodes, summed weight, style, kinds in words


def draw_graph(
    community: DrawnCommunity,
    key: str,
    acted: Collection[str] = (),
    *,
    shown: Callable[[str], str] = str,
) -> Graph:
    """The community as a picture.

    Args:
        community: any size; beyond 150 accounts those with the strongest ties are drawn.
        key: prefix of the ids inside the picture; unique on the page.
        acted: accounts with a verdict of their own, drawn solid.
        shown: how an account's name is shown; it is escaped after that.
    """
    strength: dict[str, float] = defaultdict(float)
    for a, b, _, weight in community.edges:
        strength[a] += weight
        strength[b] += weight
    drawn = _core(community, strength)
    ties, total = _ties(community, {name: index for index, name in enumerate(drawn)})
    places = _layout(len(drawn), ties)
    parts = [_line(places, tie) for tie in ties]
    size = 1.0 if len(drawn) <= 60 else 0.6
    top = max((strength[name] for name in drawn), default=0.0) or 1.0
    for name, (x, y) in zip(drawn, places, strict=True):
        radius = size * (3.2 + 4.0 * math.sqrt(strength[name] / top))
        kind = "node acted" if name in acted else "node"
        title = element("title", escape(shown(name)))
        parts.append(element("circle", title, cx=x, cy=y, r=radius, class_=kind))
    kinds = tuple(Counter(kind for _, _, kind, _ in community.edges).most_common())
    said = f"{len(community.members):,} accounts; ties by " + (
        ", ".join(f"{kind} {n:,}" for kind, n in kinds) or "nothing that was recorded"
    )
    svg = frame(key, f"Community {community.id}", said, (WIDTH, HEIGHT), parts)
    return Graph(markup(svg), kinds, _note(community, len(drawn), len(ties), total))


def _core(community: DrawnCommunity, strength: Mapping[str, float]) -> list[str]:
    """The accounts to draw: all, or those reached from the strongest by the strongest ties."""
    order = sorted(community.members, key=lambda name: (-strength[name], name))
    if len(order) <= MOST_NODES:
        return order
    ties: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for a, b, _, weight in community.edges:
        ties[a].append((-weight, b))
        ties[b].append((-weight, a))
    drawn: dict[str, None] = {}
    for start in order:
        near = [(0.0, start)]
        while near and len(drawn) < MOST_NODES:
            _, name = heappop(near)
            if name not in drawn:
                drawn[name] = None
                for tie in ties[name]:
                    heappush(near, tie)
    return list(drawn)


def _note(community: DrawnCommunity, nodes: int, ties: int, total: int) -> str:
    said = []
    if nodes < len(community.members):
        said.append(f"{nodes:,} of {len(community.members):,} accounts, those most strongly tied")
    if ties < total:
        said.append(f"{ties:,} of {total:,} ties between them, the strongest")
    return f"Drawn are {' and '.join(said)}." if said else ""


def _ties(community: DrawnCommunity, index: Mapping[str, int]) -> tuple[list[Tie], int]:
    """One tie a pair, at most ``MOST_EDGES``: first those that hold it together, then by weight."""
    pairs: dict[tuple[int, int], dict[str, float]] = defaultdict(dict)
    for a, b, kind, weight in community.edges:
        if a in index and b in index:
            i, j = sorted((index[a], index[b]))
            pairs[i, j][kind] = pairs[i, j].get(kind, 0.0) + weight
    ties = []
    for (i, j), kinds in pairs.items():
        main = max(sorted(kinds), key=kinds.__getitem__)
        words = ", ".join(sorted(kinds))
        ties.append((i, j, sum(kinds.values()), STYLE.get(main, "conduct"), words))
    ties.sort(key=lambda tie: (-tie[2], tie[0], tie[1]))
    if len(ties) <= MOST_EDGES:
        return ties, len(ties)
    parent = list(range(len(index)))
    spanning = {at for at, tie in enumerate(ties) if _join(parent, tie[0], tie[1])}
    rest = [at for at in range(len(ties)) if at not in spanning][: MOST_EDGES - len(spanning)]
    return [ties[at] for at in sorted(spanning.union(rest))], len(ties)


def _join(parent: list[int], a: int, b: int) -> bool:
    """Kruskal's step: whether the two were apart; they no longer are."""
    roots = []
    for node in (a, b):
        at = node
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        roots.append(at)
    parent[roots[0]] = roots[1]
    return roots[0] != roots[1]


def _layout(count: int, ties: Sequence[Tie]) -> list[tuple[float, float]]:
    """Places inside the frame: ties pull, all repel, and the steps grow smaller."""
    import numpy as np

    if not count:
        return []
    turn = math.pi * (3 - math.sqrt(5))  # a sunflower: evenly spread, and the same every time
    order = np.arange(count)
    places = np.sqrt(order + 0.5)[:, None] * np.column_stack(
        (np.cos(turn * order), np.sin(turn * order))
    )
    places /= math.sqrt(count)
    ideal = 1.3 / math.sqrt(count)
    heads = np.array([tie[0] for tie in ties], dtype=int)
    tails = np.array([tie[1] for tie in ties], dtype=int)
    for step in range(STEPS):
        apart = places[:, None, :] - places[None, :, :]
        squared = (apart**2).sum(axis=2) + 1e-6
        moves = (apart * (ideal**2 / squared)[:, :, None]).sum(axis=1)
        if len(ties):
            along = places[heads] - places[tails]
            pull = along * (np.sqrt((along**2).sum(axis=1)) / ideal)[:, None]
            np.subtract.at(moves, heads, pull)
            np.add.at(moves, tails, pull)
        moves -= 0.4 * places  # loose pieces stay in the picture
        length = np.sqrt((moves**2).sum(axis=1))[:, None] + 1e-9
        places += moves / length * np.minimum(length, 0.12 * (1 - step / STEPS))
    low, high = places.min(axis=0), places.max(axis=0)
    room = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
    middle = (low + high) / 2
    scale = float((room / np.maximum(high - low, 0.5)).min())
    fitted = (places - middle) * scale + np.array([WIDTH / 2, HEIGHT / 2])
    return [(float(x), float(y)) for x, y in fitted]


def _line(places: Sequence[tuple[float, float]], tie: Tie) -> str:
    (x1, y1), (x2, y2) = places[tie[0]], places[tie[1]]
    return line(x1, y1, x2, y2, f"tie {tie[3]}")
