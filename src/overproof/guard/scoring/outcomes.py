"""What became of every campaign, honest group and community of one log.

Definitions, used everywhere:

* An account is **caught** by the first verdict of ``soften`` or above that names it, as subject or
  member; at that verdict's event time.
* A campaign is **caught** at the moment when half of its accounts (rounded up) have been caught,
  and **touched** when its first one has.
* A community that is reported is **false** if fewer than half of its members attack.
* What **leaked** is what the accounts of a campaign were served until each was caught: an account
  that is never caught leaks all that it took. The log was recorded without guard acting on it, so
  this supposes that action stops an account's harvest, and that it would not have come back.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from overproof.guard.scoring.totals import AttackTraffic, Totals
from overproof.records.traffic import Action, TrafficVerdict, Truth

__all__ = ["CampaignOutcome", "CommunityOutcome", "GroupOutcome", "Outcomes", "outcomes_of"]


@dataclass(frozen=True)
class CampaignOutcome:
    """One campaign.

    Attributes:
        caught: accounts caught.
        caught_after_s: from its first request until half of its accounts were caught; NaN where
            they never were.
        touched_after_s: until the first was.
        requests_before: of the campaign until it was caught; all of them where it never was.
        account_requests: of each caught account until it was caught.
        leaked: output tokens served before its accounts were caught, one by one.
        named: accounts that stand in a reported community whose members are mostly of this
            campaign.
    """

    campaign: str
    level: str
    accounts: int
    caught: int
    caught_after_s: float
    touched_after_s: float
    requests: int
    requests_before: int
    account_requests: tuple[int, ...]
    tokens: int
    leaked: int
    named: int

    @property
    def is_caught(self) -> bool:
        """Half of its accounts or more."""
        return not math.isnan(self.caught_after_s)


@dataclass(frozen=True)
class GroupOutcome:
    """One honest group: how many of its accounts came to which rung."""

    kind: str
    group: str
    accounts: int
    watched: int
    caught: int


@dataclass(frozen=True)
class CommunityOutcome:
    """One reported community as first reported at its highest kind of action.

    ``softened``: it came to ``soften`` or above. ``of_campaign``: members of the campaign that
    most of its members belong to.
    """

    id: str
    members: int
    attackers: int
    campaign: str | None
    of_campaign: int
    softened: bool

    @property
    def is_false(self) -> bool:
        """Fewer than half of its members attack."""
        return 2 * self.attackers < self.members


@dataclass(frozen=True)
class Outcomes:
    """Of one log; those of several logs can be scored together.

    ``unlabelled``: accounts named by verdicts that the truth does not know.
    """

    campaigns: tuple[CampaignOutcome, ...]
    groups: tuple[GroupOutcome, ...]
    communities: tuple[CommunityOutcome, ...]
    unlabelled: int
    events: int


def outcomes_of(
    verdicts: Iterable[TrafficVerdict], truth: Mapping[str, Truth], totals: Totals
) -> Outcomes:
    """Set verdicts against truth.

    Args:
        verdicts: in any order.
        truth: by account. Accounts without a request in the log are left out.
        totals: of the log that was replayed.
    """
    ordered = sorted(verdicts, key=lambda verdict: verdict.decided_at)
    caught: dict[str, float] = {}
    watched: set[str] = set()
    for verdict in ordered:
        if verdict.action.rung >= Action.SOFTEN.rung:
            for account in verdict.subject.members:
                caught.setdefault(account, verdict.decided_at)
        if verdict.action.rung >= Action.WATCH.rung:
            watched.update(verdict.subject.members)
    communities = _communities(ordered, truth)
    return Outcomes(
        campaigns=_campaigns(caught, communities, truth, totals),
        groups=_groups(caught, watched, truth, totals),
        communities=tuple(community for community, _ in communities),
        unlabelled=len({account for account in watched if account not in truth}),
        events=totals.events,
    )


def _campaigns(
    caught: Mapping[str, float],
    communities: Sequence[tuple[CommunityOutcome, frozenset[str]]],
    truth: Mapping[str, Truth],
    totals: Totals,
) -> tuple[CampaignOutcome, ...]:
    named: defaultdict[str, set[str]] = defaultdict(set)
    for community, members in communities:
        if community.campaign is not None and not community.is_false:
            named[community.campaign] |= members
    accounts: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for account, traffic in totals.attackers.items():
        told = truth[account]
        if len(traffic.at) and told.campaign is not None:
            accounts[told.level or "?", told.campaign].append(account)
    return tuple(
        _campaign(name, of_it, caught, named[name[1]], totals)
        for name, of_it in sorted(accounts.items())
    )


def _campaign(
    name: tuple[str, str],
    accounts: Sequence[str],
    caught: Mapping[str, float],
    named: set[str],
    totals: Totals,
) -> CampaignOutcome:
    traffic = [totals.attackers[account] for account in accounts]
    times = sorted(caught[account] for account in accounts if account in caught)
    half = -(-len(accounts) // 2)
    began = min(float(each.at[0]) for each in traffic)
    at = times[half - 1] if len(times) >= half else math.nan
    return CampaignOutcome(
        campaign=name[1],
        level=name[0],
        accounts=len(accounts),
        caught=len(times),
        caught_after_s=max(at - began, 0.0) if len(times) >= half else math.nan,
        touched_after_s=max(times[0] - began, 0.0) if times else math.nan,
        requests=sum(len(each.at) for each in traffic),
        requests_before=sum(_until(each, at)[0] for each in traffic),
        account_requests=tuple(
            totals.attackers[account].until(caught[account])[0]
            for account in accounts
            if account in caught
        ),
        tokens=sum(each.tokens for each in traffic),
        leaked=sum(
            _until(totals.attackers[account], caught.get(account, math.nan))[1]
            for account in accounts
        ),
        named=sum(account in named for account in accounts),
    )


def _until(traffic: AttackTraffic, at: float) -> tuple[int, int]:
    return (len(traffic.at), traffic.tokens) if math.isnan(at) else traffic.until(at)


def _groups(
    caught: Mapping[str, float],
    watched: set[str],
    truth: Mapping[str, Truth],
    totals: Totals,
) -> tuple[GroupOutcome, ...]:
    counts: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for account, told in truth.items():
        if told.campaign is None and account in totals.requests:
            row = counts[told.kind, told.group or account]
            row[0] += 1
            row[1] += account in watched
            row[2] += account in caught
    return tuple(GroupOutcome(kind, group, *row) for (kind, group), row in sorted(counts.items()))


def _communities(
    ordered: Sequence[TrafficVerdict], truth: Mapping[str, Truth]
) -> tuple[tuple[CommunityOutcome, frozenset[str]], ...]:
    first: dict[str, TrafficVerdict] = {}
    for verdict in ordered:
        if verdict.subject.kind != "community" or verdict.action is Action.LOG:
            continue
        before = first.get(verdict.subject.id)
        softened = verdict.action.rung >= Action.SOFTEN.rung
        if before is None or (softened and before.action.rung < Action.SOFTEN.rung):
            first[verdict.subject.id] = verdict
    found = []
    for name, verdict in sorted(first.items()):
        members = frozenset(verdict.subject.members)
        campaigns = Counter(
            told.campaign
            for member in sorted(members)
            if (told := truth.get(member)) is not None and told.campaign is not None
        )
        campaign, of_campaign = max(
            campaigns.items(), key=lambda each: (each[1], each[0]), default=(None, 0)
        )
        outcome = CommunityOutcome(
            id=name,
            members=len(members),
            attackers=sum(campaigns.values()),
            campaign=campaign,
            of_campaign=of_campaign,
            softened=verdict.action.rung >= Action.SOFTEN.rung,
        )
        found.append((outcome, members))
    return tuple(found)
