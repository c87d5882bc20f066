"""What upheld appeals weigh in a provider's own pool, and what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from overproof.guard.pools import HOUR_S, judged_accounts, thin_groups
from overproof.guard.recording import LookTable

__all__ = ["ENTERED", "fates", "shared_weights"]

ENTERED = "entered"


def shared_weights(
    appealed: Mapping[str, float], seen: Collection[str], groups: Mapping[str, str], most: int
) -> dict[str, float]:
    """The weights of those in the log; those of one group share what its others leave of ``most``.

    An organisation that was believed for a hundred keys would else teach guard to overlook it. One
    that has nothing left still has each account that is picked counted once. An account of no
    organisation and no payer is nobody's share: it weighs all that it stands for.

    Args:
        appealed: how many honest accounts each stands for.
        seen: accounts that were looked at, the trusted among them.
        groups: the organisation or payer of an account, where it has one.
        most: accounts that one group may stand for.
    """
    weights = {name: weight for name, weight in appealed.items() if name in seen}
    everybody = Counter(groups[name] for name in seen if name in groups)
    many = Counter(groups[name] for name in weights if name in groups)
    left = {group: most - (everybody[group] - many[group]) for group in many}
    return {
        name: min(weight, max(1.0, left[groups[name]] / many[groups[name]]))
        if name in groups
        else weight
        for name, weight in weights.items()
    }


def fates(
    appealed: Collection[str],
    looks: LookTable,
    groups: Mapping[str, str],
    most: int,
    *,
    ages_h: Sequence[float],
    cut: float,
    least: int,
) -> dict[str, str]:
    """What became of each account: ``entered``, or why it did not, as `calibrate_accounts` picks.

    Args:
        appealed: accounts that were to weigh something.
        looks: of the pool and of these.
        groups: the organisation or payer of an account, where it has one.
        most: accounts of one group.
        ages_h: the preset ages of the looks.
        cut: up to when accounts were watched, seconds since the epoch.
        least: accounts that an age must have.
    """
    first: dict[str, float] = {}
    early: dict[str, int] = {}
    for name, look, at in zip(looks.subjects, looks.look.tolist(), looks.at.tolist(), strict=True):
        born = at - ages_h[look] * HOUR_S
        first[name] = min(born, first.get(name, born))
        early[name] = min(look, early.get(name, look))
    kept = thin_groups(sorted(first), groups, most)[0]
    ages, judged = judged_accounts(kept, first, ages_h, cut, least)
    picked, watched = set(kept), set(judged)
    found = {}
    for name in appealed:
        if name not in first or (name in watched and early[name] >= len(ages)):
            found[name] = "not in the log, or with too few requests to be looked at"
        elif name not in picked:
            found[name] = "beyond their group's share"
        else:
            found[name] = ENTERED if name in watched else "not watched long enough"
    return found
