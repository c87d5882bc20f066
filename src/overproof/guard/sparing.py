"""Who is spared an action, why, and the record of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from overproof.guard.appeals import Appeals
from overproof.guard.exemptions import Exemptions
from overproof.guard.verdict_making import Holder
from overproof.records.traffic import Action

__all__ = ["INCONSPICUOUS", "MOST_KEPT", "Sparing", "Sparings"]

INCONSPICUOUS = "its own conduct did not stand out at that time"
QUIET, PERMITTED = "own conduct", "permitted"
MOST_KEPT = 50_000  # records: some 10 MB

_Key = tuple[str, Action, str]


@dataclass(frozen=True)
class Sparing:
    """An account kept from an action by a permission, an upheld appeal, or its own conduct."""

    at: float
    account: str
    action: Action
    reason: str


class Sparings:
    """Spares accounts, and records it once for each action and reason.

    Of those whose own conduct does not stand out, and of those permitted, the newest ``most`` each
    are kept: a gateway runs for years.

    Args:
        exemptions: declared and permitted uses.
        appeals: those decided.
        most: records kept of each of the two.

    Attributes:
        dropped: how many records made room for others, by which of the two they were.
    """

    def __init__(
        self, exemptions: Exemptions, appeals: Appeals | None, most: int = MOST_KEPT
    ) -> None:
        self.exemptions = exemptions
        self.appeals = appeals
        self.most = most
        self.dropped: Counter[str] = Counter()
        self._quiet: dict[_Key, float] = {}
        self._permitted: dict[_Key, float] = {}

    @property
    def told(self) -> list[Sparing]:
        """What accounts were spared, in order of event time."""
        found = [Sparing(at, *key) for kept in self._kept() for key, at in kept.items()]
        return sorted(found, key=lambda one: one.at)

    def _kept(self) -> tuple[dict[_Key, float], ...]:
        return self._quiet, self._permitted

    def _record(self, one: Sparing) -> None:
        quiet = one.reason == INCONSPICUOUS
        kept = self._quiet if quiet else self._permitted
        key = (one.account, one.action, one.reason)
        if key in kept:
            return
        if len(kept) >= self.most:
            del kept[next(iter(kept))]
            self.dropped[QUIET if quiet else PERMITTED] += 1
        kept[key] = one.at

    def why(self, holder: Holder, now: float) -> str | None:
        """Which permission or appeal spares an account at ``now``, in words; None if none does."""
        said = self.exemptions.spares(holder.account, holder.org, holder.declared_use, now)
        if said is None and self.appeals is not None:
            said = self.appeals.spares(holder.account, now)
        return said

    def sort_out(
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
            reason = self.why(holder, now)
            if reason is not None:
                reasons[holder.account] = reason
            elif holder.index in inconspicuous:
                reason = INCONSPICUOUS  # no permission: the verdict does not say that it is one
            else:
                held.append(holder)
                continue
            self._record(Sparing(now, holder.account, action, reason))
        return held, reasons

    def state(self) -> Any:
        """The record as plain values for a snapshot; appeals keep their own."""
        told = [
            [account, str(action), reason, at]
            for kept in self._kept()
            for (account, action, reason), at in kept.items()
        ]
        return {"told": told, "dropped": dict(self.dropped)}

    def restore(self, state: Any) -> None:
        """Take a snapshot's values."""
        for kept in self._kept():
            kept.clear()
        for account, action, reason, at in state["told"]:
            self._record(Sparing(at, account, Action(action), reason))
        self.dropped = Counter(state["dropped"])
