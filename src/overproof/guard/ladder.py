"""From findings to actions: log, watch, soften, withhold, verify, block.

The rule, in full:

* ``watch`` has no consequence: an account at ``p <= watch_p``, or anything stronger that only one
  family of signals supports. *Nothing above it ever stands on one family*: at least ``families``
  of them must have a sub-score at ``p <= family_p`` (a community ``alone_p``), at the same look.
* ``soften``: an account whose trajectory falls to the frozen false-positive rate; a community that
  the pass reports at its nominal false-discovery rate, where at least ``member_share`` of its
  members stand out by their own conduct too, at ``p <= member_p``: those who share something are
  many, those who also act alike are few. Members who do not stand out are spared, and watched; a
  member who shares less than ``ties`` of what the middle member shares must have done so at
  ``loose_p``, at its own looks.
* one rung further at once: an account at ``strong`` times that rate, or one that stands out by its
  own conduct and as a member of a reported community.
* one rung further when *renewed*: the evidence is as strong at a later look or pass, which by
  itself is at ``p <= alone_p`` too, at least ``rise_after_h`` after the rung was taken.
* ``block`` only where ``verify`` has stood unanswered for ``answer_days`` and is renewed: of a
  community, or of an account at ``strong`` evidence. Each member has all that time for itself,
  whenever it joined. Where the members held are all that guard remembers of one organisation, the
  organisation is blocked: accounts of it that turn up afterwards too, and none known before.

Each rung lapses unless renewed: first to ``watch``, then off the ladder. Signed exemptions and
upheld appeals hold an account at ``watch``, and what it was spared is recorded with the reason. An
upheld appeal also ends for good whatever the account had come to stand under by then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from overproof.config.guard import GuardConfig
from overproof.guard.appeals import Appeals
from overproof.guard.exemptions import Exemptions
from overproof.guard.parts import Decision, Finding
from overproof.guard.sparing import INCONSPICUOUS, Sparing, Sparings
from overproof.guard.standings import (
    Hold,
    Standing,
    held_from,
    held_plain,
    highest,
    lasts_s,
    renewed,
    risen,
    standing_at,
    standings_from,
    standings_plain,
    unlapsed,
)
from overproof.guard.verdict_making import (
    Holder,
    evidence_of,
    is_organisation,
    subject_of,
    verdict_of,
)
from overproof.records.traffic import Action, TrafficVerdict

__all__ = ["INCONSPICUOUS", "Holder", "Ladder", "Sparing"]

DAY_S = 86400.0
NOTHING = Decision()
MOST_REASONS = 3


class Ladder:
    """Remembers who stands where.

    Args:
        config: rates, families, durations.
        exemptions: declared and permitted uses; the config's own are verified by whoever holds
            the key.
        appeals: those decided.

    Attributes:
        known: every account that guard remembers; None where nobody says, and then no
            organisation is blocked as such.
    """

    def __init__(
        self,
        config: GuardConfig,
        exemptions: Exemptions | None = None,
        appeals: Appeals | None = None,
    ) -> None:
        self.rules = config.ladder
        self.alpha = config.looks.false_positive_rate
        self.appeals = appeals
        self._sparings = Sparings(exemptions or Exemptions(), appeals)
        self.known: Iterable[Holder] | None = None
        self._standings: dict[str, Standing] = {}
        self._holds: dict[int, dict[str, Hold]] = {}
        self._orgs: dict[str, Hold] = {}
        self._tidied = float("-inf")

    @property
    def spared(self) -> list[Sparing]:
        """What accounts were spared, once for each action and reason."""
        return self._sparings.told

    @property
    def unrecorded(self) -> int:
        """How many records of whom was spared made room for newer ones."""
        return sum(self._sparings.dropped.values())

    # ------------------------------------------------------------ findings in, verdicts out

    def account(self, finding: Finding, holder: Holder) -> TrafficVerdict | None:
        """Take a finding about one account; a verdict where something is to be said."""
        appealed = self._settle([holder])
        entry = Action.LOG
        if finding.p_value <= self.rules.watch_p:
            entry = Action.WATCH
        strong = finding.p_value <= self.rules.strong * self.alpha
        old = appealed and finding.p_now > self.rules.alone_p  # what the appeal was about
        if finding.p_value <= self.alpha and self._agree(finding) and not old:
            with_others = any(
                key.startswith("c:") and standing_at(hold, finding.at, self.rules)[0].rung
                >= Action.SOFTEN.rung
                for key, hold in self._holds.get(holder.index, {}).items()
            )  # fmt: skip
            entry = Action.WITHHOLD if strong or with_others else Action.SOFTEN
        said = self._judge(f"a:{holder.index}", finding, [holder], entry, may_block=strong)
        return said[0] if said else None

    def community(
        self,
        finding: Finding,
        holders: Sequence[Holder],
        *,
        reported: bool,
        alike: bool = True,
        inconspicuous: Collection[int] = (),
    ) -> list[TrafficVerdict]:
        """Take a finding about one community; a verdict for each rung that members came to.

        Args:
            finding: about the community.
            holders: its members.
            reported: what its pass decided.
            alike: whether enough members stand out by their own conduct too.
            inconspicuous: indices of members whose own conduct does not stand out.
        """
        self._settle(holders)
        entry = Action.WATCH if reported or finding.p_value <= self.rules.watch_p else Action.LOG
        if reported and alike and self._agree(finding):
            entry = Action.SOFTEN
        return self._judge(
            f"c:{finding.subject}", finding, holders, entry,
            may_block=True, inconspicuous=inconspicuous,
        )  # fmt: skip

    def _agree(self, finding: Finding) -> bool:
        enough = self.rules.family_p if finding.kind == "account" else self.rules.alone_p
        low = sum(p <= enough for p in finding.families.values())
        return low >= self.rules.families

    def _judge(
        self,
        key: str,
        finding: Finding,
        holders: Sequence[Holder],
        entry: Action,
        *,
        may_block: bool,
        inconspicuous: Collection[int] = (),
    ) -> list[TrafficVerdict]:
        now = finding.at
        self._tidy(now)
        if entry is Action.LOG:
            return []
        standing = self._standings.get(key)
        current = Action.LOG if standing is None else standing_at(standing, now, self.rules)[0]
        action = entry if current.rung <= entry.rung else current
        if current.rung >= Action.SOFTEN.rung:
            if entry.rung < Action.SOFTEN.rung or finding.p_now > self.rules.alone_p:
                return []  # not renewed: it lapses when it was said to
            if standing is not None:
                up = risen(standing, now, self.rules, may_block=may_block)
                action = max(action, up, key=_rung)
        held, reasons = self._sparings.sort_out(holders, action, now, inconspicuous)
        if action.rung >= Action.SOFTEN.rung and not held:
            action, held = Action.WATCH, list(holders)
        since = now if standing is None or action is not current else standing.since
        holds = [self._holds.get(holder.index, {}).get(key) for holder in held]
        own = [self._own(hold, action, entry, now, may_block=may_block) for hold in holds]
        with_it = [holder for holder, rung in zip(held, own, strict=True) if rung is action]
        said = []
        if with_it:
            since_org = self._blocked_since(with_it[0].org, now)
            whole = action is Action.BLOCK and is_organisation(
                holders, with_it, self.known, since_org
            )
            told = self._set(
                key, finding, with_it, action, since=since, spared=reasons, whole=whole
            )
            said = [told] if told is not None else []
        for rung in sorted(set(own) - {action}, key=_rung, reverse=True):
            later = [holder for holder, mine in zip(held, own, strict=True) if mine is rung]
            said += self._follow(key, finding, later, rung)
        return said

    def _own(
        self, hold: Hold | None, action: Action, entry: Action, now: float, *, may_block: bool
    ) -> Action:
        """The rung that a member bears: who came later climbs from the entry, with all the time."""
        if action.rung <= entry.rung:
            return action
        mine = Action.LOG if hold is None else standing_at(hold, now, self.rules)[0]
        if hold is None or mine.rung < Action.SOFTEN.rung:
            return entry
        up = risen(hold, now, self.rules, may_block=may_block)
        return min(action, max(mine, up, key=_rung), key=_rung)

    def _blocked_since(self, org: str | None, now: float) -> float:
        """Since when an organisation is blocked as such; infinite if it is not."""
        hold = self._org_hold(org)
        if hold is None or standing_at(hold, now, self.rules)[0] is not Action.BLOCK:
            return float("inf")
        return hold.since

    def _follow(
        self, key: str, finding: Finding, held: Sequence[Holder], action: Action
    ) -> list[TrafficVerdict]:
        """Hold members to a rung below that of their community; said when one comes to it."""
        now = finding.at
        expires = now + lasts_s(action, self.rules)
        evidence = evidence_of(finding, {})
        words = tuple(one.detail for one in evidence[:MOST_REASONS])
        new = self._bind(key, held, action, now, words)
        subject = subject_of(key, finding, held, action, whole=False)
        said = verdict_of(subject, finding, held, action, evidence=evidence, expires=expires)
        return [said] if new else []

    def _bind(
        self,
        key: str,
        held: Sequence[Holder],
        action: Action,
        now: float,
        words: tuple[str, ...],
    ) -> bool:
        """Hold members to a rung, each since it came there itself; whether one did so now."""
        new = False
        for holder in held:
            mine = self._holds.setdefault(holder.index, {})
            before = mine.get(key)
            mine[key] = renewed(before, action, now, words, self.rules)
            new |= before is None or mine[key].since != before.since
        return new

    def _set(
        self,
        key: str,
        finding: Finding,
        held: Sequence[Holder],
        action: Action,
        *,
        since: float,
        spared: dict[str, str],
        whole: bool,
    ) -> TrafficVerdict | None:
        now = finding.at
        expires = now + lasts_s(action, self.rules)
        evidence = evidence_of(finding, spared)
        words = tuple(one.detail for one in evidence[:MOST_REASONS])
        new = self._bind(key, held, action, now, words)
        subject = subject_of(key, finding, held, action, whole=whole)
        if subject.kind == "org":
            new |= self._blocked_since(subject.id, now) > now  # it was not: the verdict says so
            of_old = self._org_hold(subject.id)
            hold = renewed(of_old, action, now, words, self.rules)
            self._orgs[subject.id] = replace(hold, members=subject.members)
        before = self._standings.get(key)
        said_of = set(subject.members)
        quiet = (
            before is not None
            and before.action is action
            and now < before.said_until - lasts_s(action, self.rules) / 2
            and said_of <= before.said_of
            and not new
        )
        if before is not None and before.action is action:
            said_of |= before.said_of
        until = before.said_until if quiet and before is not None else expires
        self._standings[key] = Standing(action, since, expires, until, said_of)
        if quiet:
            return None
        return verdict_of(subject, finding, held, action, evidence=evidence, expires=expires)

    # ------------------------------------------------------------ read, remember

    def decision(self, holder: Holder, now: float) -> Decision:
        """The rung that an account stands on at ``now``; under a microsecond for most."""
        if holder.index not in self._holds and not (self._orgs and holder.org in self._orgs):
            return NOTHING
        if self._sparings.why(holder, now) is not None:
            return NOTHING  # what it was spared is on record
        return self._stands(holder, now)

    def stands(self, holder: Holder, now: float) -> bool:
        """Is it held to ``soften`` or above, so that it must not be forgotten?"""
        return self._stands(holder, now).action.rung >= Action.SOFTEN.rung

    def _stands(self, holder: Holder, now: float) -> Decision:
        """The highest of what it is held to, whether a permission spares it or not."""
        holds = list(self._holds.get(holder.index, {}).values())
        of_org = self._org_hold(holder.org)
        if of_org is not None and holder.known_since >= of_org.since:  # else known before, and no
            holds.append(of_org)  # member, or it is held as a member
        ended = self.appeals.upheld_at(holder.account) if self.appeals else None
        if ended is not None:
            holds = [hold for hold in holds if hold.since > ended]
        return highest(holds, now, self.rules)

    def _org_hold(self, org: str | None) -> Hold | None:
        """What an organisation stands under as such; the upheld appeal of one member ends it.

        It stands on all known accounts being held, and one of them should not have been.
        """
        hold = None if org is None else self._orgs.get(org)
        if hold is None or self.appeals is None:
            return hold
        upheld = map(self.appeals.upheld_at, hold.members)
        return None if any(at is not None and at >= hold.since for at in upheld) else hold

    def _settle(self, holders: Sequence[Holder]) -> bool:
        """Drop what upheld appeals ended, before new evidence is weighed; whether there was one."""
        if self.appeals is None:
            return False
        upheld = False
        for holder in holders:
            ended = self.appeals.upheld_at(holder.account)
            if ended is None:
                continue
            upheld = True
            mine = self._holds.pop(holder.index, {})
            if left := {key: hold for key, hold in mine.items() if hold.since > ended}:
                self._holds[holder.index] = left
            own = self._standings.get(f"a:{holder.index}")
            if own is not None and own.since <= ended:
                del self._standings[f"a:{holder.index}"]
        return upheld

    def _tidy(self, now: float) -> None:
        """Drop what has lapsed, once a day of event time: memory follows who is on the ladder."""
        if now - self._tidied < DAY_S:
            return
        self._tidied = now
        self._standings = unlapsed(self._standings, now, self.rules)
        left = {index: unlapsed(mine, now, self.rules) for index, mine in self._holds.items()}
        self._holds = {index: mine for index, mine in left.items() if mine}
        self._orgs = unlapsed(self._orgs, now, self.rules)

    def forget(self, indices: Sequence[int]) -> None:
        """Accounts that are known no more."""
        for index in indices:
            self._holds.pop(index, None)
            self._standings.pop(f"a:{index}", None)

    def state(self) -> Any:
        """Plain values for a snapshot; appeals keep their own."""
        return {
            "standings": standings_plain(self._standings),
            "holds": [[index, held_plain(mine)] for index, mine in self._holds.items()],
            "orgs": held_plain(self._orgs),
            "tidied": self._tidied,
            "spared": self._sparings.state(),
        }

    def restore(self, state: Any) -> None:
        """Take a snapshot's values."""
        self._standings = standings_from(state["standings"])
        self._holds = {index: held_from(mine) for index, mine in state["holds"]}
        self._orgs = held_from(state["orgs"])
        self._tidied = float(state["tidied"])
        self._sparings.restore(state["spared"])


def _rung(action: Action) -> int:
    return action.rung
