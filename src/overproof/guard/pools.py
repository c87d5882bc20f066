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
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from overproof.errors import DataError
from overproof.guard.calibration import ALL, Calibration, Look, Ranks, Stratum
from overproof.guard.community_calibration import EDGES, Band, CommunityCalibration
from overproof.guard.parts import Family
from overproof.guard.scorer import Scorer

if TYPE_CHECKING:
    from overproof.guard.recording import LookTable

__all__ = ["calibrate_accounts", "calibrate_communities"]

Floats = npt.NDArray[np.float64]
HOUR_S = 3600.0
DAY_S = 86400.0
SCALE_SHARE = 0.1
ENOUGH_FOR_SCALE = 30
PLACE = ("middle", "spread")
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
    least: int = 1000,
    lag_days: float = 0.0,
    version: str = "1",
) -> Calibration:
    """Freeze honest accounts' scores.

    Only accounts that were watched to the last judged age go in, as a trajectory cut short is less
    strange than a whole one; ages that fewer than ``least`` accounts were watched to are not judged
    at all. A tenth of the accounts, picked by a hash of their names, gives each look's middle and
    spread; the others give the ranks, so that a new account is treated exactly as they are.

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
    pool, crowded = _thin_groups(sorted(pool), groups or {}, per_group)
    ages, judged = _judged(pool, first, ages_h, cut, least)
    row = {name: place for place, name in enumerate(judged)}
    scores, families, strata = _matrices(table, scorer, row, len(ages))
    seen = ~np.isnan(scores).all(axis=1)
    weight = np.array([(weights or {}).get(name, 1.0) for name in judged])
    scale = np.array([_hash(name) < SCALE_SHARE for name in judged], dtype=bool)
    if not (seen & ~scale).any():
        raise DataError(
            "the calibration pool",
            f"has no account of {len(first)} that was watched for {ages[-1]:g} h",
            "record a longer log, or trust more accounts",
        )
    own = {plan: (strata == plan) & seen for plan in sorted(set(strata.tolist())) if plan}
    kept = {plan: who for plan, who in own.items() if weight[who & ~scale].sum() >= least}
    made = {
        name: _stratum(
            name, scores, families, ranked=who & ~scale, scaled=who & scale, weight=weight
        )
        for name, who in {ALL: seen, **kept}.items()
    }
    about = {
        "accounts": int(seen.sum()), "for the scale": int((seen & scale).sum()),
        "groups": len({(groups or {}).get(name, name) for name in judged}),
        "not trusted": len(first) - len(pool) - crowded, "beyond their group's share": crowded,
        "not watched long enough": len(pool) - len(judged), "lag in days": lag_days,
        "plans judged with all": sorted(set(own) - set(kept)),
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


def _thin_groups(
    pool: list[str], groups: Mapping[str, str], per_group: int | None
) -> tuple[list[str], int]:
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


def _judged(
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
    """N x J scores, NaN where there was no look; the same by family; each one's first plan."""
    totals, parts = scorer.score(table.vectors), scorer.family_scores(table.vectors)
    scores = np.full((len(row), looks), np.nan)
    families = {family: np.full((len(row), looks), np.nan) for family in parts}
    plans, earliest = [""] * len(row), [looks] * len(row)
    for place, (name, look) in enumerate(zip(table.subjects, table.look.tolist(), strict=True)):
        at = row.get(name)
        if at is None or look >= looks:
            continue
        scores[at, look] = totals[place]
        for family, values in parts.items():
            families[family][at, look] = values[place]
        if look < earliest[at]:
            earliest[at], plans[at] = look, table.strata[place]
    return scores, families, np.array(plans, dtype=np.str_)


def _stratum(
    name: str,
    scores: Floats,
    families: Mapping[Family, Floats],
    *,
    ranked: npt.NDArray[np.bool_],
    scaled: npt.NDArray[np.bool_],
    weight: Floats,
) -> Stratum:
    """N subjects, J looks; those ranked and those that set the scale are not the same."""
    looks = []
    for look in range(scores.shape[1]):
        column = scores[:, look]
        there = ranked & ~np.isnan(column)
        looks.append(
            Look(
                *_scale(column[scaled]),
                Ranks(column[there], weight[there]).thinned(),
                {
                    family: Ranks(values[there, look], weight[there]).thinned()
                    for family, values in families.items()
                },
            )
        )
    typical = float(np.median([look.spread for look in looks]))
    looks = [
        Look(look.middle, max(look.spread, 0.25 * typical), look.scores, look.families)
        for look in looks
    ]
    middles, spreads = (np.array([getattr(look, of) for look in looks]) for of in PLACE)
    whole = np.nanmax((scores[ranked] - middles) / spreads, axis=1)
    return Stratum(name, tuple(looks), Ranks(whole, weight[ranked]))


def _scale(scores: Floats) -> tuple[float, float]:
    """The middle, and how far the 95th percentile lies above it."""
    values = scores[~np.isnan(scores)]
    if len(values) < ENOUGH_FOR_SCALE:
        return 0.0, 1.0
    middle, high = np.quantile(values, [0.5, 0.95])
    return float(middle), max(float(high - middle), 1e-6)


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
