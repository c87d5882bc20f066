"""Small measures that several community signals share. None grows with the number of members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from overproof.guard.parts import Community
from overproof.guard.shared import TEXT_KINDS

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState

__all__ = [
    "coverage_by_kind",
    "network_share",
    "once",
    "one_vote_each",
    "owner_weights",
    "percent",
    "trait_share",
]

Value = TypeVar("Value")
Floats = npt.NDArray[np.float64]
NAN = float("nan")
LEAST_REQUESTS = 3


def once(measure: Callable[[Community], Value]) -> Callable[[Community], Value]:
    """A measure that several signals need: taken once of each community, and kept in its facts."""
    name = f"{measure.__module__}.{measure.__name__}"

    @wraps(measure)
    def kept(community: Community) -> Value:
        if community.facts is None:
            return measure(community)
        measured = community.facts.measured
        if name not in measured:
            measured[name] = measure(community)
        value: Value = measured[name]
        return value

    return kept


def percent(share: float) -> str:
    """0.123 as "12 %"."""
    return f"{100 * share:.0f} %"


def one_vote_each(values: Sequence[float]) -> float:
    """Mean over members that have a value; NaN if none has."""
    array = np.asarray(values, dtype=np.float64)
    array = array[~np.isnan(array)]
    return float(array.mean()) if array.size else NAN


def trait_share(community: Community, trait: Callable[[AccountState], float]) -> float:
    """Mean over members of the share of their requests with a trait of the text."""
    return one_vote_each(
        [
            trait(one) / one.sketched if one.sketched >= LEAST_REQUESTS else NAN
            for one in community.members
        ]
    )


@once
def owner_weights(community: Community) -> Floats:
    """(M,) weights that give every owner the same vote; they sum to 1."""
    facts = community.facts
    if facts is None:
        return np.full(len(community.members), 1 / len(community.members))
    _, where, counts = np.unique(facts.owners, return_inverse=True, return_counts=True)
    return 1.0 / (counts[where] * counts.size)


@once
def coverage_by_kind(community: Community) -> dict[str, Floats]:
    """For each kind of text, (M,) the share of each member's requests with something rare.

    Members without text have NaN. Things of one kind exclude one another within a request except
    shingles, of which only the commonest of a member counts.
    """
    facts = community.facts
    if facts is None:
        return {}
    sketched = np.array([one.sketched for one in community.members], dtype=np.float64)
    total = {kind: np.zeros(len(community.members)) for kind in TEXT_KINDS}
    for thing in facts.things:
        if thing.kind not in total:
            continue
        sums = total[thing.kind]
        if thing.kind == "shingle":
            sums[thing.users] = np.maximum(sums[thing.users], thing.uses)
        else:
            sums[thing.users] += thing.uses
    safe = np.where(sketched > 0, sketched, NAN)
    return {kind: np.minimum(sums / safe, 1.0) for kind, sums in total.items()}


def network_share(community: Community, kind: str) -> float:
    """Share of members that share a payer, device or address with another organisation.

    NaN in a community made by hand, without facts.
    """
    facts = community.facts
    if facts is None:
        return NAN
    sharing = np.zeros(len(community.members), dtype=np.bool_)
    for thing in facts.things:
        if thing.kind == kind and _organisations(community, thing.users) > 1:
            sharing[thing.users] = True
    return float(sharing.mean())


def _organisations(community: Community, users: npt.NDArray[np.int64]) -> int:
    """Organisations among these members; an account without one is its own."""
    members = [community.members[at] for at in users.tolist()]
    return len({one.org or f"account {one.account}" for one in members})
