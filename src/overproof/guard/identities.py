"""Names of communities that last from pass to pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from overproof.guard.parts import Community

__all__ = ["CommunityIds"]

LIKE = 0.3
DAY_S = 86400.0
KEPT_S = 30 * DAY_S


class CommunityIds:
    """A community keeps its name while it keeps its members.

    At each pass communities are matched to those known by the Jaccard index of their members, the
    closest pair first, at 0.3 or more; the rest get new names: c1, c2, … Names never return. A
    community not found for 30 days is forgotten.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, frozenset[int]]] = {}
        self._next = 1

    def match(self, communities: Sequence[Community]) -> list[str]:
        """A name for each, in order; remembers them."""
        members = [frozenset(one.index for one in found.members) for found in communities]
        names: dict[int, str] = {}
        taken: set[int] = set()
        for _, number, at in sorted(self._alike(members)):
            if at not in names and number not in taken:
                names[at] = f"c{number}"
                taken.add(number)
        for at, found in enumerate(communities):
            if at not in names:
                names[at] = f"c{self._next}"
                self._next += 1
            self._known[names[at]] = (found.now, members[at])
        if communities:
            oldest = communities[0].now - KEPT_S
            self._known = {name: one for name, one in self._known.items() if one[0] >= oldest}
        return [names[at] for at in range(len(communities))]

    def _alike(self, members: Sequence[frozenset[int]]) -> Iterator[tuple[float, int, int]]:
        """Pairs alike enough: (minus Jaccard, number of the name, position)."""
        where: dict[int, list[str]] = {}
        for name, (_, known) in self._known.items():
            for index in known:
                where.setdefault(index, []).append(name)
        for at, mine in enumerate(members):
            met = Counter(name for index in mine for name in where.get(index, ()))
            for name, both in met.items():
                likeness = both / (len(mine) + len(self._known[name][1]) - both)
                if likeness >= LIKE:
                    yield -likeness, int(name[1:]), at

    def state(self) -> dict[str, Any]:
        """Plain values for a snapshot."""
        return {
            "next": self._next,
            "known": [[name, at, sorted(known)] for name, (at, known) in self._known.items()],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take a snapshot's values."""
        self._next = state["next"]
        self._known = {name: (at, frozenset(known)) for name, at, known in state["known"]}
