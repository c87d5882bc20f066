"""Who is spared an action, why, and the record of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from overproof.guard.appeals import Appeals
from overproof.guard.exemptions import Exemptions
from overproof.guard.verdict_making import Holder
from overproof.records.traffic import Action

__all__ = ["INCONSPICUOUS", "Sparing", "Sparings"]

INCONSPICUOUS = "its own conduct does not stand out"


@dataclass(frozen=True)
class Sparing:
    """An account kept from an action by a permission, an upheld appeal, or its own conduct."""

    at: float
    account: str
    action: Action
    reason: str


class Sparings:
    """Spares accounts, and records it once for each action and reason.

    Args:
        exemptions: declared and permitted uses.
        appeals: those decided.

    Attributes:
        told: what accounts were spared, in order.
    """

    def __init__(self, exemptions: Exemptions, appeals: Appeals | None) -> None:
        self.exemptions = exemptions
        self.appeals = appeals
        self.told: list[Sparing] = []
        self._seen: set[tuple[str, Action, str]] = set()

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
            key = (holder.account, action, reason)
            if key not in self._seen:
                self._seen.add(key)
                self.told.append(Sparing(now, holder.account, action, reason))
        return held, reasons

    def state(self) -> Any:
        """The record as plain values for a snapshot; appeals keep their own."""
        return [asdict(one) | {"action": str(one.action)} for one in self.told]

    def restore(self, state: Any) -> None:
        """Take a snapshot's values."""
        self.told = [Sparing(**one | {"action": Action(one["action"])}) for one in state]
        self._seen = {(one.account, one.action, one.reason) for one in self.told}
