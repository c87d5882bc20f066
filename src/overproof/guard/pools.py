"""Making calibrations from looks that were recorded in a trusted pool.

The pool should be *trusted* (tenured, verified, under contract) and *lag behind*: a campaign that
slips in costs power long before it costs validity (with 1 % of attackers in the pool, a power of
.87 at ``p <= .001`` falls to about .1). Nothing is learnt from verdicts: accounts that guard
flagged stay in, as leaving out the strangest of the honest would make the next ones look stranger.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from overproof.errors import DataError
from overproof.guard.calibration import ALL, Calibration, Look, Ranks, Stratum
from overproof.guard.community_calibration import EDGES, Band, CommunityCalibration
from overproof.guard.parts import Family
from overproof.guard.scorer import Scorer
from overproof.guard.strata import band_part, plan_part

if TYPE_CHECKING:
    from overproof.guard.recording import LookTable

__all__ = [
    "LEAST_ACCOUNTS", "calibrate_accounts", "calibrate_communities", "judged_accounts",
    "thin_groups",
]  # fmt: skip

Floats = npt.NDArray[np.float64]
HOUR_S = 3600.0
DAY_S = 86400.0
# Three bands share a rate of 0.00035: a p-value of 3 / (n + 1) must be able to reach it.
LEAST_ACCOUNTS = 8_800
FEW_IN_BAND = 300  # accounts, for a band to be judged by itself
FEW_AT_LOOKS = 600  # accounts of a band, for its single looks; with fewer, everybody's
LEAST_OF_ALL = -1e30
MOST_RANKS = 4_096  # of a stratum: its highest half exactly, below that p-values rounded up
ROUNDING = 1e-6


def calibrate_accounts(
    table: LookTable,
    scorer: Scorer,
    ages_h: Sequence[float],
    *,
    until: float,
    trusted: Collection[str] | None = None,
    groups: Mapping[str, str] | None = None,
    per_group: int | None = None,
    weights: Mapping[str, float] | None = None,
    least: int = LEAST_ACCOUNTS,
    lag_days: float = 0.0,
    version: str = "1",
) -> Calibration:
    """Freeze honest accounts' scores.

    Only accounts that were watched to the last judged age go in, as a trajectory cut short is less
    strange than a whole one; ages that fewer than ``least`` accounts were watched to are not judged
    at all.

    Args:
        table: N looks at accounts.
        scorer: gives the scores.
        ages_h: the preset ages of ``table.look``.
        until: when the log ended, seconds since the epoch.
        trusted: accounts of the pool; None for all in the table.
        groups: the organisation of an account; by itself where it has none.
        per_group: at most so many accounts of one group, picked by a hash; None for all.
        weights: how many honest accounts one stands for (audited appeals); 1 each.
        least: how many accounts a stratum, and an age, must have.
        lag_days: how far the pool lags behind ``until``.
        version: a name for this calibration.

    Raises:
        DataError: nothing is left to calibrate on, or the looks are of other ages.
        ValueError: a table of other signals.
    """
    _fits(table, scorer, "account")
    if len(table) and int(table.look.max()) >= len(ages_h):
        raise DataError(
            "the calibration pool",
            f"has looks number {int(table.look.max()) + 1}, where {len(ages_h)} ages are set",
            "calibrate with the ages_h that the looks were recorded at",
        )
    cut = until - lag_days * DAY_S
    first: dict[str, float] = {}
    for name, look, at in zip(table.subjects, table.look.tolist(), table.at.tolist(), strict=True):
        born = at - ages_h[look] * HOUR_S
        first[name] = min(born, first.get(name, born))
    pool = [name for name in first if trusted is None or name in trusted]
    pool, crowded = thin_groups(sorted(pool), groups or {}, per_group)
    ages, judged = judged_accounts(pool, first, ages_h, cut, least)
    row = {name: place for place, name in enumerate(judged)}
    scores, families, strata = _matrices(table, scorer, row, len(ages))
    weight = np.array([(weights or {}).get(name, 1.0) for name in judged])
    seen = ~np.isnan(scores).all(axis=1)
    if not seen.any():
        raise DataError(
            "the calibration pool",
            f"has no account of {len(first)} that was watched for {ages[-1]:g} h",
            "record a longer log, or trust more accounts",
        )
    made, others = _strata(scores, families, strata, weight=weight, least=least)
    about = {
        "accounts": int(seen.sum()),
        "groups": len({(groups or {}).get(name, name) for name in judged}),
        "not trusted": len(first) - len(pool) - crowded, "beyond their group's share": crowded,
        "not watched long enough": len(pool) - len(judged), "lag in days": lag_days,
        "strata judged with others": others,
    }  # fmt: skip
    return Calibration(_date(cut), version, scorer.hash, ages, made, least, about)


def calibrate_communities(
    tables: Sequence[LookTable],
    scorer: Scorer,
    *,
    until: float,
    days: float,
    least: int = 100,
    edges: Sequence[int] = EDGES,
    honest: Callable[[tuple[str, ...]], bool] | None = None,
    version: str = "1",
) -> CommunityCalibration:
    """Freeze honest communities' scores.

    Args:
        tables: looks at communities, one table a log; a name is one community of its log.
        scorer: gives the scores.
        until: when the last log ended, seconds since the epoch.
        days: how long a log is.
        least: how many communities a band of sizes must have; with fewer it takes in its
            neighbours.
        edges: the smallest size of each band.
        honest: which communities belong to the pool, by their members; None for all.
        version: a name for this calibration.

    Raises:
        DataError: no community is left to calibrate on.
        ValueError: a table of other signals.
    """
    best: dict[tuple[int, str, int], tuple[float, dict[Family, float]]] = {}
    for log, table in enumerate(tables):
        _fits(table, scorer, "community")
        totals = scorer.score(table.vectors).tolist()
        parts = scorer.family_scores(table.vectors)
        for place, (name, members) in enumerate(zip(table.subjects, table.members, strict=True)):
            if honest is not None and not honest(members):
                continue
            band = max(sum(len(members) >= edge for edge in edges) - 1, 0)
            key = (log, name, band)
            if key not in best or totals[place] > best[key][0]:
                mine = {family: float(values[place]) for family, values in parts.items()}
                best[key] = (totals[place], mine)
    if not best:
        raise DataError(
            "the calibration pool",
            "holds no honest community",
            "record looks on longer or larger honest logs",
        )
    names = [_band_name(edges, band) for band in range(len(edges))]
    bands = tuple(_band(best, band, names, least) for band in range(len(edges)))
    lives = len({(log, name) for log, name, _ in best})
    return CommunityCalibration(
        _date(until), version, scorer.hash, tuple(edges), bands,
        max(1, math.ceil(lives / max(1, len(tables)))), days,
        {"communities": lives, "logs": len(tables)},
    )  # fmt: skip


def _fits(table: LookTable, scorer: Scorer, kind: str) -> None:
    if scorer.kind != kind or table.kind != kind or tuple(table.names) != scorer.names:
        raise ValueError(f"looks and scorer are not of the same {kind} signals")


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _hash(name: str) -> float:
    """A number in [0, 1) that is the same on every machine."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest()) / 2**56


def thin_groups(
    pool: list[str], groups: Mapping[str, str], per_group: int | None
) -> tuple[list[str], int]:
    """At most ``per_group`` accounts of each group, whom a hash chooses; how many were left.

    An account that is in no group stands for itself.
    """
    if per_group is None:
        return pool, 0
    met: dict[str, int] = {}
    kept = []
    for name in sorted(pool, key=lambda one: (_hash("share " + one), one)):
        group = groups.get(name, name)
        met[group] = met.get(group, 0) + 1
        if met[group] <= per_group:
            kept.append(name)
    return sorted(kept), len(pool) - len(kept)


def judged_accounts(
    pool: Sequence[str],
    first: Mapping[str, float],
    ages_h: Sequence[float],
    cut: float,
    least: int,
) -> tuple[tuple[float, ...], list[str]]:
    """The ages that can be judged, and who was watched to the last of them."""
    watched = np.array([(cut - first[name]) / HOUR_S + ROUNDING for name in pool])
    counts = [int((watched >= age).sum()) for age in ages_h]
    enough = [place for place, count in enumerate(counts) if count >= least]
    # With too few for any age, the one that most were watched to: the floor will say the rest.
    last = enough[-1] if enough else int(np.argmax(counts))
    return tuple(ages_h[: last + 1]), [
        name for name, hours in zip(pool, watched.tolist(), strict=True) if hours >= ages_h[last]
    ]


def _matrices(
    table: LookTable, scorer: Scorer, row: Mapping[str, int], looks: int
) -> tuple[Floats, dict[Family, Floats], npt.NDArray[np.str_]]:
    """N x J scores, NaN where there was no look; the same by family; the stratum of each look."""
    totals = scorer.score(table.vectors, table.strata)
    parts = scorer.family_scores(table.vectors, table.strata)
    scores = np.full((len(row), looks), np.nan)
    families = {family: np.full((len(row), looks), np.nan) for family in parts}
    bands = [[""] * looks for _ in row]
    plans, earliest = [""] * len(row), [looks] * len(row)
    for place, (name, look) in enumerate(zip(table.subjects, table.look.tolist(), strict=True)):
        at = row.get(name)
        if at is None or look >= looks:
            continue
        if scores[at, look] >= totals[place]:
            continue  # of several terms, the strangest: honest accounts are judged in each
        scores[at, look] = totals[place]
        for family, values in parts.items():
            families[family][at, look] = values[place]
        bands[at][look] = band_part(table.strata[place])
        if look < earliest[at]:
            earliest[at], plans[at] = look, plan_part(table.strata[place])
    strata = [[plan + band for band in mine] for plan, mine in zip(plans, bands, strict=True)]
    return scores, families, np.array(strata, dtype=np.str_).reshape(len(row), looks)


def _cells(
    strata: npt.NDArray[np.str_], there: npt.NDArray[np.bool_]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Which looks belong to each stratum, (N, J): of a plan and band, and of a band of any plan."""
    found = {}
    for name in np.unique(strata[there]).tolist():
        cell = strata == name
        if plan_part(name):
            found[name] = cell
        if band := band_part(name):
            found[band] = found.get(band, False) | cell
    return dict(sorted(found.items()))


def _strata(
    scores: Floats,
    families: Mapping[Family, Floats],
    strata: npt.NDArray[np.str_],
    *,
    weight: Floats,
    least: int,
) -> tuple[dict[str, Stratum], list[str]]:
    """Everybody, each stratum with enough accounts, and the names of those with too few."""
    there = ~np.isnan(scores)
    seen = there.any(axis=1)
    plans = np.vectorize(plan_part, otypes=[np.str_])(strata)
    cells = {ALL: np.ones(scores.shape, dtype=bool)} | _cells(strata, there)
    made = {}
    for name, cell in cells.items():
        who = np.asarray((cell & there).any(axis=1))
        # Whoever never got into the band did nothing in it: it counts, as the least of all.
        peers = ((plans == plan_part(name)) & there).any(axis=1) if plan_part(name) else seen
        if name == ALL:
            peers = seen
        elif weight[peers].sum() < least or who.sum() < min(FEW_IN_BAND, least):
            continue
        made[name] = _stratum(
            name,
            np.where(cell, scores, np.nan),
            {family: np.where(cell, values, np.nan) for family, values in families.items()},
            ranked=who,
            weight=weight,
            absent=float(weight[peers & ~who].sum()),
        )
        if name != ALL and who.sum() < min(FEW_AT_LOOKS, least):
            made[name] = replace(made[name], looks=made[ALL].looks)
    return made, sorted(set(cells) - set(made))


def _stratum(
    name: str,
    scores: Floats,
    families: Mapping[Family, Floats],
    *,
    ranked: npt.NDArray[np.bool_],
    weight: Floats,
    absent: float,
) -> Stratum:
    """N subjects, J looks.

    ``absent`` is the weight of accounts that had no look here: they rank below everybody.
    """
    looks = []
    for look in range(scores.shape[1]):
        column = scores[:, look]
        there = ranked & ~np.isnan(column)
        looks.append(
            Look(
                Ranks(column[there], weight[there]).thinned(),
                {
                    family: Ranks(values[there, look], weight[there]).thinned()
                    for family, values in families.items()
                },
            )
        )
    whole = np.nanmax(scores[ranked], axis=1)
    ranks = Ranks(whole, weight[ranked])
    if absent:
        ranks = Ranks(np.append(whole, LEAST_OF_ALL), np.append(weight[ranked], absent))
    return Stratum(name, tuple(looks), ranks.thinned(MOST_RANKS))


def _band_name(edges: Sequence[int], band: int) -> str:
    if band + 1 == len(edges):
        return f"{edges[band]} accounts or more"
    return f"{edges[band]} to {edges[band + 1] - 1} accounts"


def _band(
    best: Mapping[tuple[int, str, int], tuple[float, dict[Family, float]]],
    band: int,
    names: Sequence[str],
    least: int,
) -> Band:
    """One band; with too few communities it takes in its neighbours on both sides, by steps."""
    reach = 0
    while True:
        lives: dict[tuple[int, str], tuple[float, dict[Family, float]]] = {}
        for (log, name, theirs), found in best.items():
            if abs(theirs - band) <= reach:
                known = lives.get((log, name))
                lives[(log, name)] = found if known is None else max(known, found, key=_first)
        if len(lives) >= least or reach >= len(names):
            break
        reach += 1
    found_all = list(lives.values())
    ones = np.ones(len(found_all))
    kinds = sorted({family for _, parts in found_all for family in parts})
    title = names[band] + (" (and its neighbours, having too few)" if reach else "")
    return Band(
        title,
        Ranks([total for total, _ in found_all], ones),
        {f: Ranks([parts[f] for _, parts in found_all], ones) for f in kinds},
    )


def _first(found: tuple[float, dict[Family, float]]) -> float:
    return found[0]
