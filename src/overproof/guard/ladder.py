"""From findings to actions: log, watch, soften, withhold, verify, block.

The rule, in full:

* ``watch`` has no consequence: an account at ``p <= watch_p``, or anything stronger that only one
  family of signals supports. *Nothing above it ever stands on one family*: at least ``families``
  of them must have a sub-score at ``p <= family_p``, at the same look.
* ``soften``: an account whose trajectory falls to the frozen false-positive rate; a community that
  the pass reports at its nominal false-discovery rate, where at least ``member_share`` of its
  members stand out by their own conduct too, at ``p <= member_p``: those who share something are
  many, those who also act alike are few. Members who do not stand out are spared, and watched; a
  member who shares less than ``ties`` of what the middle member shares must have done so at
  ``loose_p``, at its own looks.
* one rung further at once: an account at ``strong`` times that rate, or one that stands out by its
  own conduct and as a member of a reported community.
* one rung further when *renewed*: the evidence is as strong at a later look or pass, which by
  itself is at ``p <= family_p`` too, at least ``rise_after_h`` after the rung was taken.
* ``block`` only where ``verify`` has stood unanswered for ``answer_days`` and is renewed: of a
  community, or of an account at ``strong`` evidence. A community all of whose members belong to
  one organisation blocks the organisation.

Each rung lapses unless renewed: first to ``watch``, then off the ladder. Signed exemptions and
upheld appeals hold an account at ``watch``, and what it was spared is recorded with the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from overproof.config.guard import GuardConfig
from overproof.guard.appeals import Appeals
from overproof.guard.exemptions import Exemptions
from overproof.guard.parts import Decision, Finding
from overproof.guard.standings import Hold, Standing, lasts_s, standing_at
from overproof.guard.verdict_making import Holder, evidence_of, subject_of, verdict_of
from overproof.records.traffic import Action, TrafficVerdict

__all__ = ["INCONSPICUOUS", "Holder", "Ladder", "Sparing"]

HOUR_S = 3600.0
DAY_S = 86400.0
NOTHING = Decision()
MOST_REASONS = 3
INCONSPICUOUS = "its own conduct does not stand out"


@dataclass(frozen=True)
class Sparing:
    """An account kept from an action by a permission, an upheld appeal, or its own conduct."""

    at: float
    account: str
    action: Action
    reason: str


class Ladder:
    """Remembers who stands where.

    Args:
        config: rates, families, durations.
        exemptions: declared and permitted uses; the config's own are verified by whoever holds
            the key.
        appeals: those decided.

    Attributes:
        spared: what accounts were spared, once for each action and reason.
    """

    def __init__(
        self,
        config: GuardConfig,
        exemptions: Exemptions | None = None,
        appeals: Appeals | None = None,
    ) -> None:
        self.rules = config.ladder
        self.alpha = config.looks.false_positive_rate
        self.exemptions = exemptions or Exemptions()
        self.appeals = appeals
        self.spared: list[Sparing] = []
        self._spared: set[tuple[str, Action, str]] = set()
        self._standings: dict[str, Standing] = {}
        self._holds: dict[int, dict[str, Hold]] = {}
        self._orgs: dict[str, Hold] = {}
        self._tidied = float("-inf")

    # ------------------------------------------------------------ findings in, verdicts out

    def account(self, finding: Finding, holder: Holder) -> TrafficVerdict | None:
        """Take a finding about one account; a verdict where something is to be said."""
        entry = Action.LOG
        if finding.p_value <= self.rules.watch_p:
            entry = Action.WATCH
        strong = finding.p_value <= self.rules.strong * self.alpha
        if finding.p_value <= self.alpha and self._agree(finding):
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
        entry = Action.WATCH if reported or finding.p_value <= self.rules.watch_p else Action.LOG
        if reported and alike and self._agree(finding):
            entry = Action.SOFTEN
        return self._judge(
            f"c:{finding.subject}", finding, holders, entry,
            may_block=True, inconspicuous=inconspicuous,
        )  # fmt: skip

    def _agree(self, finding: Finding) -> bool:
        low = sum(p <= self.rules.family_p for p in finding.families.values())
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
            if entry.rung < Action.SOFTEN.rung or finding.p_now > self.rules.family_p:
                return []  # not renewed: it lapses when it was said to
            if standing is not None:
                action = max(action, self._risen(standing, now, may_block), key=_rung)
        held, reasons = self._sort_out(holders, action, now, inconspicuous)
        if action.rung >= Action.SOFTEN.rung and not held:
            action, held = Action.WATCH, list(holders)
        since = now if standing is None or action is not current else standing.since
        holds = [self._holds.get(holder.index, {}).get(key) for holder in held]
        own = [self._own(hold, action, entry, now, may_block=may_block) for hold in holds]
        with_it = [holder for holder, rung in zip(held, own, strict=True) if rung is action]
        said = []
        if with_it:
            whole = len(with_it) == len(holders)
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
        return min(action, max(mine, self._risen(hold, now, may_block), key=_rung), key=_rung)

    def _follow(
        self, key: str, finding: Finding, held: Sequence[Holder], action: Action
    ) -> list[TrafficVerdict]:
        """Hold members to a rung below that of their community; said when one comes to it."""
        now = finding.at
        expires = now + lasts_s(action, self.rules)
        evidence = evidence_of(finding, {})
        words, new = tuple(one.detail for one in evidence[:MOST_REASONS]), False
        for holder in held:
            mine = self._holds.setdefault(holder.index, {})
            before = mine.get(key)
            stays = before is not None and before.action is action and before.expires_at > now
            mine[key] = Hold(action, before.since if stays and before else now, expires, words)
            new |= not stays
        subject = subject_of(key, finding, held, action, whole=False)
        said = verdict_of(subject, finding, held, action, evidence=evidence, expires=expires)
        return [said] if new else []

    def _risen(self, standing: Standing | Hold, now: float, may_block: bool) -> Action:
        """Where a renewal leads from here."""
        stood = now - standing.since
        if standing.action is Action.VERIFY:
            answered = stood < self.rules.answer_days * DAY_S
            return Action.VERIFY if answered or not may_block else Action.BLOCK
        if stood < self.rules.rise_after_h * HOUR_S:
            return standing.action
        return list(Action)[min(standing.action.rung + 1, Action.BLOCK.rung)]

    def _sort_out(
        self,
        holders: Sequence[Holder],
        action: Action,
        now: float,
        inconspicuous: Collection[int],
    ) -> tuple[list[Holder], dict[str, str]]:
        """Those who bear the action, and why a permission or an appeal spares others."""
        if action.rung < Action.SOFTEN.rung:
            return list(holders), {}
        held, reasons = [], {}
        for holder in holders:
            reason = self._spares(holder, now)
            if reason is not None:
                reasons[holder.account] = reason
            elif holder.index in inconspicuous:
                reason = INCONSPICUOUS  # no permission: the verdict does not say that it is one
            else:
                held.append(holder)
                continue
            told = (holder.account, action, reason)
            if told not in self._spared:
                self._spared.add(told)
                self.spared.append(Sparing(now, holder.account, action, reason))
        return held, reasons

    def _spares(self, holder: Holder, now: float) -> str | None:
        said = self.exemptions.spares(holder.account, holder.org, holder.declared_use, now)
        if said is None and self.appeals is not None:
            said = self.appeals.spares(holder.account, now)
        return said

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
        for holder in held:
            mine = self._holds.setdefault(holder.index, {})
            mine[key] = Hold(action, since, expires, words)
        subject = subject_of(key, finding, held, action, whole=whole)
        if subject.kind == "org":
            self._orgs[subject.id] = Hold(action, since, expires, words)
        before = self._standings.get(key)
        said_of = set(subject.members)
        quiet = (
            before is not None
            and before.action is action
            and now < before.said_until - lasts_s(action, self.rules) / 2
            and said_of <= before.said_of
        )
        if before is not None and before.action is action:
            said_of |= before.said_of
        until = before.said_until if quiet and before is not None else expires
        self._standings[key] = Standing(action, since, expires, until, said_of)
        if quiet:
            return None
        return verdict_of(subject, finding, held, action, evidence=evidence, expires=expires)

    # ------------------------------------------------------------ read, lift, remember

    def decision(self, holder: Holder, now: float) -> Decision:
        """The rung that an account stands on at ``now``; under a microsecond for most."""
        if holder.index not in self._holds and not (self._orgs and holder.org in self._orgs):
            return NOTHING
        if self._spares(holder, now) is not None:
            return NOTHING  # what it was spared is on record
        return self._stands(holder, now)

    def _stands(self, holder: Holder, now: float) -> Decision:
        """The highest of what it is held to, whether it is spared or not."""
        holds = list(self._holds.get(holder.index, {}).values())
        if holder.org is not None and holder.org in self._orgs:
            holds.append(self._orgs[holder.org])
        best = NOTHING
        for hold in holds:
            action, until = standing_at(hold, now, self.rules)
            if action.rung > best.action.rung:
                best = Decision(action, hold.since, until, hold.reasons)
        return best

    def lift(self, holder: Holder, now: float) -> Action:
        """End everything that an account stands under by itself, as an upheld appeal does.

        What its organisation stands under stays; see `lift_org`.

        Returns:
            The rung it stood on.
        """
        stood = self._stands(holder, now).action
        self._holds.pop(holder.index, None)
        self._standings.pop(f"a:{holder.index}", None)
        return stood

    def lift_org(self, org: str, now: float) -> Action:
        """End what an organisation stands under as such; its accounts are lifted one by one.

        Returns:
            The rung it stood on.
        """
        hold = self._orgs.pop(org, None)
        return Action.LOG if hold is None else standing_at(hold, now, self.rules)[0]

    def _tidy(self, now: float) -> None:
        """Drop what has lapsed, once a day of event time: memory follows who is on the ladder."""
        if now - self._tidied < DAY_S:
            return
        self._tidied = now

        def lapsed(held: Hold | Standing) -> bool:
            return standing_at(held, now, self.rules)[0] is Action.LOG

        self._standings = {key: one for key, one in self._standings.items() if not lapsed(one)}
        left = {
            index: {key: hold for key, hold in mine.items() if not lapsed(hold)}
            for index, mine in self._holds.items()
        }
        self._holds = {index: mine for index, mine in left.items() if mine}
        self._orgs = {org: hold for org, hold in self._orgs.items() if not lapsed(hold)}

    def forget(self, indices: Sequence[int]) -> None:
        """Accounts that are known no more."""
        for index in indices:
            self._holds.pop(index, None)
            self._standings.pop(f"a:{index}", None)

    def state(self) -> Any:
        """Plain values for a snapshot; appeals keep their own."""
        return {
            "standings": [
                [key, str(one.action), one.since, one.expires_at, one.said_until,
                 sorted(one.said_of)]
                for key, one in self._standings.items()
            ],
            "holds": [
                [index, [[key, *_plain(hold)] for key, hold in mine.items()]]
                for index, mine in self._holds.items()
            ],
            "orgs": [[org, *_plain(hold)] for org, hold in self._orgs.items()],
            "tidied": self._tidied,
            "spared": [asdict(one) | {"action": str(one.action)} for one in self.spared],
        }  # fmt: skip

    def restore(self, state: Any) -> None:
        """Take a snapshot's values."""
        self._standings = {
            key: Standing(Action(action), since, expires, until, set(said))
            for key, action, since, expires, until, said in state["standings"]
        }
        self._holds = {
            index: {key: _hold(plain) for key, *plain in mine} for index, mine in state["holds"]
        }
        self._orgs = {org: _hold(plain) for org, *plain in state["orgs"]}
        self._tidied = float(state["tidied"])
        self.spared = [
            Sparing(**one | {"action": Action(one["action"])}) for one in state["spared"]
        ]
        self._spared = {(one.account, one.action, one.reason) for one in self.spared}


def _rung(action: Action) -> int:
    return action.rung


def _plain(hold: Hold) -> list[Any]:
    return [str(hold.action), hold.since, hold.expires_at, list(hold.reasons)]


def _hold(plain: Sequence[Any]) -> Hold:
    action, since, expires, reasons = plain
    return Hold(Action(action), since, expires, tuple(reasons))
