"""The scores that matter, each with its interval and what it was resampled by."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ClassScore", "CommunityScore", "LevelScore", "Scores", "Share"]


@dataclass(frozen=True)
class Share:
    """A share with its interval.

    ``method`` says how it came about and what it was resampled by: accounts of one campaign or of
    one customer are no independent observations, campaigns and customers are.
    """

    value: float
    low: float
    high: float
    numerator: float
    denominator: float
    units: int
    method: str

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "–"
        return f"{self.value:.2%} [{self.low:.2%}, {self.high:.2%}]"


@dataclass(frozen=True)
class LevelScore:
    """One level of attack.

    Attributes:
        campaigns: in the log.
        caught: campaigns with half of their accounts caught or more.
        touched: campaigns with at least one account caught.
        accounts: accounts caught, within campaigns that were.
        all_accounts: accounts caught, of all campaigns.
        leaked: output tokens served before action, of all that its campaigns took.
        leaked_median: of campaigns.
        requests_to_detection: median over caught campaigns, of the whole campaign.
        account_requests_to_detection: median over caught accounts, of the account's own.
        hours_to_detection: median over caught campaigns, from the campaign's first request.
        hours_to_detection_p90: of the same.
        recall: accounts named in a community mostly of their campaign; campaigns of 3 accounts
            or more.
    """

    level: str
    campaigns: int
    caught: Share
    touched: Share
    accounts: Share
    all_accounts: Share
    leaked: Share
    leaked_median: float
    requests_to_detection: float
    account_requests_to_detection: float
    hours_to_detection: float
    hours_to_detection_p90: float
    recall: Share


@dataclass(frozen=True)
class ClassScore:
    """One honest class: shares of its accounts at ``soften`` or above, and at ``watch``."""

    kind: str
    groups: int
    groups_hit: int
    accounts: int
    caught: Share
    watched: Share


@dataclass(frozen=True)
class CommunityScore:
    """Communities reported at ``soften`` or above, and at ``watch`` or above.

    Attributes:
        false_share: false discoveries among those at ``soften`` or above.
        false_share_watch: among all reported.
        nominal: the rate that was promised.
        precision: members of true communities that belong to their main campaign.
    """

    reported: int
    reported_watch: int
    false_share: Share
    false_share_watch: Share
    nominal: float
    precision: Share


@dataclass(frozen=True)
class Scores:
    """Of one replay, or of several together.

    Attributes:
        false_positive_rate: honest accounts at ``soften`` or above, all classes as they stand in
            the log.
        positive_predictive_value: attackers among accounts at ``soften`` or above.
        prevalence: attackers among accounts.
        ppv_at: the same predictive value were the share of attackers another one.
        worst: the honest class with the highest share, None without one.
        unlabelled: accounts named by verdicts that the truth does not know; in no figure.
    """

    levels: tuple[LevelScore, ...]
    classes: tuple[ClassScore, ...]
    false_positive_rate: Share
    positive_predictive_value: Share
    prevalence: float
    ppv_at: dict[str, float]
    worst: str | None
    communities: CommunityScore
    unlabelled: int
    logs: int
    events: int
    confidence: float

    def level(self, name: str) -> LevelScore | None:
        """The scores of one level of attack, None where the log has none."""
        return next((each for each in self.levels if each.level == name), None)

    def honest(self, kind: str) -> ClassScore | None:
        """The scores of one honest class, None where the log has none."""
        return next((each for each in self.classes if each.kind == kind), None)

    def to_json(self) -> dict[str, Any]:
        """Plain values; what could not be measured is null."""
        plain: dict[str, Any] = _nulls(asdict(self))
        return plain


def _nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nulls(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_nulls(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
