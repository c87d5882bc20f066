"""Outcomes to scores: ratios of sums over campaigns, groups and communities, with intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from overproof.errors import DataError
from overproof.guard.scoring.files import read_truth, read_verdicts
from overproof.guard.scoring.outcomes import (
    CampaignOutcome,
    CommunityOutcome,
    GroupOutcome,
    Outcomes,
    outcomes_of,
)
from overproof.guard.scoring.scores import (
    ClassScore,
    CommunityScore,
    LevelScore,
    Scores,
    Share,
)
from overproof.guard.scoring.totals import Totals, read_totals
from overproof.records.traffic import TrafficVerdict, Truth
from overproof.stats.intervals import bootstrap_counts, clopper_pearson, wilson

__all__ = ["score", "score_files", "score_outcomes", "share_of"]

_PREVALENCES = (0.0001, 0.001, 0.01, 0.05)
_RESAMPLES = 2_000


def score_files(
    verdicts: Path,
    truth: Path,
    events: Path,
    *,
    nominal: float = 0.05,
    confidence: float = 0.95,
    most_bad_lines: float = 0.01,
) -> Scores:
    """``overproof guard score``: verdicts of a replay against the truth of its log.

    Args:
        verdicts: as `guard replay` wrote them.
        truth: of the log.
        events: the log itself, or that without text: for tokens and times.
        nominal: the false-discovery rate of communities that was promised.
        confidence: of all intervals.
        most_bad_lines: share of the log's lines that may be no events.

    Raises:
        DataError: a file cannot be read, or names no account of the other.
    """
    told = read_truth(truth)
    totals = read_totals(events, told, most_bad_lines=most_bad_lines)
    if totals.events and not any(account in told for account in totals.requests):
        raise DataError(
            str(truth), f"names no account of {events}", "take the truth of the same log"
        )
    return score(read_verdicts(verdicts), told, totals, nominal=nominal, confidence=confidence)


def score(
    verdicts: Iterable[TrafficVerdict],
    truth: Mapping[str, Truth],
    totals: Totals,
    *,
    nominal: float = 0.05,
    confidence: float = 0.95,
) -> Scores:
    """The scores of one replay."""
    outcomes = outcomes_of(verdicts, truth, totals)
    return score_outcomes([outcomes], nominal=nominal, confidence=confidence)


def score_outcomes(
    logs: Sequence[Outcomes], *, nominal: float = 0.05, confidence: float = 0.95
) -> Scores:
    """The scores of several replays together, such as of several seeds.

    Campaigns and groups of different logs are different ones, whatever their names.
    """
    campaigns = [each for log in logs for each in log.campaigns]
    groups = [each for log in logs for each in log.groups]
    communities = [each for log in logs for each in log.communities]
    classes = tuple(
        _class([each for each in groups if each.kind == kind], confidence)
        for kind in sorted({each.kind for each in groups})
    )
    rate = share_of([(each.caught, each.accounts) for each in groups], confidence, "honest groups")
    reach = share_of([(each.caught, each.accounts) for each in campaigns], confidence, "campaigns")
    attackers = sum(each.accounts for each in campaigns)
    accounts = attackers + sum(each.accounts for each in groups)
    return Scores(
        levels=tuple(
            _level([each for each in campaigns if each.level == level], confidence)
            for level in sorted({each.level for each in campaigns})
        ),
        classes=classes,
        false_positive_rate=rate,
        positive_predictive_value=share_of(
            [(each.caught, each.caught) for each in campaigns]
            + [(0, each.caught) for each in groups],
            confidence,
            "campaigns and honest groups",
        ),
        prevalence=attackers / accounts if accounts else math.nan,
        ppv_at={f"{p:g}": _ppv(p, reach.value, rate.value) for p in _PREVALENCES},
        worst=_worst(classes),
        communities=_communities(communities, nominal, confidence),
        unlabelled=sum(log.unlabelled for log in logs),
        logs=len(logs),
        events=sum(log.events for log in logs),
        confidence=confidence,
    )


def share_of(
    units: Iterable[tuple[float, float]], confidence: float, unit: str, *, binary: bool = False
) -> Share:
    """A ratio of sums over units, with an interval that resamples the units.

    BCa bootstrap. Where every unit shows the same (nobody hit, or everybody) a bootstrap would
    give an interval of no width: there the exact interval of Clopper and Pearson with one
    observation a unit stands instead. ``binary`` units get Wilson's interval.
    """
    cells = Counter((float(k), float(n)) for k, n in units if n > 0)
    many = sum(cells.values())
    k = sum(cell[0] * count for cell, count in cells.items())
    n = sum(cell[1] * count for cell, count in cells.items())
    if not many:
        return Share(math.nan, 0.0, 1.0, 0, 0, 0, f"no {unit}")
    if binary:
        found = wilson(round(k), round(n), confidence)
        method = f"Wilson score over {many} {unit}"
    elif many < 2 or len({cell[0] / cell[1] for cell in cells}) == 1:
        whole = k / n
        found = clopper_pearson(round(whole * many), many, confidence)
        low, high = min(found.low, whole), max(found.high, whole)
        return Share(whole, low, high, k, n, many, f"Clopper-Pearson over {many} {unit}")
    else:
        ordered = sorted(cells)
        top = np.array([cell[0] for cell in ordered])
        bottom = np.array([cell[1] for cell in ordered])
        counts = np.array([cells[cell] for cell in ordered], dtype=np.int64)
        found = bootstrap_counts(
            lambda drawn: (drawn @ top) / np.maximum(drawn @ bottom, 1e-12),
            counts,
            resamples=_RESAMPLES,
            confidence=confidence,
        )
        method = f"BCa bootstrap over {many} {unit}"
    return Share(k / n, found.low, found.high, k, n, many, method)


def _level(campaigns: Sequence[CampaignOutcome], confidence: float) -> LevelScore:
    caught = [each for each in campaigns if each.is_caught]
    hours = [each.caught_after_s / 3600 for each in caught]
    shares = [each.leaked / each.tokens for each in campaigns if each.tokens]

    def over(pairs: Iterable[tuple[float, float]], *, binary: bool = False) -> Share:
        return share_of(pairs, confidence, "campaigns", binary=binary)

    return LevelScore(
        level=campaigns[0].level,
        campaigns=len(campaigns),
        caught=over([(each.is_caught, 1) for each in campaigns], binary=True),
        touched=over([(each.caught > 0, 1) for each in campaigns], binary=True),
        accounts=over([(each.caught, each.accounts) for each in caught]),
        all_accounts=over([(each.caught, each.accounts) for each in campaigns]),
        leaked=over([(each.leaked, each.tokens) for each in campaigns]),
        leaked_median=_quantile(shares, 0.5),
        requests_to_detection=_quantile([each.requests_before for each in caught], 0.5),
        account_requests_to_detection=_quantile(
            [n for each in campaigns for n in each.account_requests], 0.5
        ),
        hours_to_detection=_quantile(hours, 0.5),
        hours_to_detection_p90=_quantile(hours, 0.9),
        recall=over([(each.named, each.accounts) for each in campaigns if each.accounts > 2]),
    )


def _class(groups: Sequence[GroupOutcome], confidence: float) -> ClassScore:
    return ClassScore(
        kind=groups[0].kind,
        groups=len(groups),
        groups_hit=sum(each.caught > 0 for each in groups),
        accounts=sum(each.accounts for each in groups),
        caught=share_of([(each.caught, each.accounts) for each in groups], confidence, "groups"),
        watched=share_of([(each.watched, each.accounts) for each in groups], confidence, "groups"),
    )


def _worst(classes: Sequence[ClassScore]) -> str | None:
    if not classes:
        return None
    return max(classes, key=lambda each: (each.caught.value, each.caught.high, each.kind)).kind


def _communities(
    reported: Sequence[CommunityOutcome], nominal: float, confidence: float
) -> CommunityScore:
    softened = [each for each in reported if each.softened]
    return CommunityScore(
        reported=len(softened),
        reported_watch=len(reported),
        false_share=share_of(
            [(each.is_false, 1) for each in softened], confidence, "communities", binary=True
        ),
        false_share_watch=share_of(
            [(each.is_false, 1) for each in reported], confidence, "communities", binary=True
        ),
        nominal=nominal,
        precision=share_of(
            [(each.of_campaign, each.members) for each in reported if not each.is_false],
            confidence,
            "communities",
        ),
    )


def _ppv(prevalence: float, reach: float, rate: float) -> float:
    """Bayes: attackers among the accused, were the share of attackers ``prevalence``."""
    right, wrong = prevalence * reach, (1 - prevalence) * rate
    return right / (right + wrong) if right + wrong > 0 else math.nan


def _quantile(values: Sequence[float], q: float) -> float:
    return float(np.quantile(values, q)) if values else math.nan
