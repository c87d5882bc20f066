"""Appeals: what a customer may do about a verdict, and what may be learnt from it.

An upheld appeal ends what the account stood under and spares it for a while; the record stays. It
never enters calibration as such: who appeals chooses himself, and an attacker who is believed once
would teach guard to overlook him. A keyed draw, made before anybody appeals and known to nobody
outside, puts a share of all accounts into the audit; an upheld appeal of one in the audit stands
for ``1 / share`` honest ones (Horvitz and Thompson, JASA 47, 1952), any other for none.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from overproof.errors import ConfigError
from overproof.guard.key_strength import STRONG, weakness_of
from overproof.records.traffic import Action
from overproof.records.traffic_checks import time_problem

__all__ = ["Appeal", "AppealOutcome", "Appeals", "honest_weights"]

DAY_S = 86400.0


class AppealOutcome(StrEnum):
    """What came of an appeal."""

    UPHELD = "upheld"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Appeal:
    """One appeal that was decided.

    Attributes:
        account: who appealed.
        at: when it was decided, event time.
        outcome: whether the verdict was lifted.
        action: what the account stood under.
        decided_by: the person who answers for it.
        reason: in words.
        audited: whether the account was in the random audit, drawn beforehand.
    """

    account: str
    at: float
    outcome: AppealOutcome
    action: Action
    decided_by: str
    reason: str
    audited: bool


class Appeals:
    """The record of appeals.

    Args:
        key: secret bytes of the audit's draw, at least 16, and not almost all of them one byte.
        audit_share: which share of all accounts the draw picks, in (0, 1].
        spare_days: how long an upheld appeal keeps an account from ``soften`` and above.

    Raises:
        ConfigError: a key that could be guessed, a share that is none.
    """

    def __init__(self, key: bytes, audit_share: float = 0.1, spare_days: float = 30.0) -> None:
        if weakness := weakness_of(key):
            raise ConfigError("the key of audits", weakness, STRONG)
        _check_share(audit_share)
        self._key = key
        self.audit_share = audit_share
        self.spare_days = spare_days
        self._records: list[Appeal] = []
        self._upheld: dict[str, list[tuple[float, float, Appeal]]] = {}  # from, until; by time
        self._now = math.inf

    @property
    def records(self) -> tuple[Appeal, ...]:
        """Every appeal decided, in order."""
        return tuple(self._records)

    def audited(self, account: str) -> bool:
        """Is the account in the random audit? The same answer before and after any verdict."""
        digest = hmac.new(self._key, b"audit:" + account.encode(), hashlib.sha256).digest()
        return int.from_bytes(digest[:7]) / 2**56 < self.audit_share

    def decide(
        self,
        account: str,
        at: float,
        *,
        outcome: AppealOutcome,
        action: Action,
        decided_by: str,
        reason: str,
    ) -> Appeal:
        """Record a decision; an upheld one ends what the account stands under, and spares it.

        Raises:
            ConfigError: ``at`` is no time in seconds since the epoch.
        """
        appeal = Appeal(account, at, outcome, action, decided_by, reason, self.audited(account))
        self.take([appeal])
        return appeal

    def take(self, decided: Iterable[Appeal]) -> None:
        """Record what was decided elsewhere, as it is: each counts from its own time on.

        Raises:
            ConfigError: one was decided at no time in seconds since the epoch.
        """
        for appeal in decided:
            if problem := time_problem(appeal.at):
                raise ConfigError("at", f"{appeal.at!r} {problem}", "give seconds since the epoch")
            self._keep(appeal, appeal.at + self.spare_days * DAY_S)

    def _keep(self, appeal: Appeal, until: float) -> None:
        self._records.append(appeal)
        if appeal.outcome is AppealOutcome.UPHELD:
            mine = self._upheld.setdefault(appeal.account, [])
            mine.append((appeal.at, until, appeal))
            mine.sort(key=_start)

    def as_of(self, now: float) -> None:
        """Answer from here on as of ``now``, event time; without it, as of all that is recorded.

        A replay says it before each thing that it decides, as it knows later appeals beforehand.
        """
        self._now = now

    def upheld_at(self, account: str, now: float | None = None) -> float | None:
        """When the account's last upheld appeal was decided, event time; None if none was.

        Nothing that the account came to stand under by then binds it any more.

        Args:
            account: who may have appealed.
            now: what was decided later does not count yet; as `as_of` says where None.
        """
        mine = self._upheld.get(account)
        if mine is None:
            return None
        past = bisect_right(mine, self._now if now is None else now, key=_start)
        return mine[past - 1][0] if past else None

    def spares(self, account: str, now: float) -> str | None:
        """Why the account is spared at ``now``, in words; None where no appeal spares it."""
        for at, until, appeal in reversed(self._upheld.get(account, ())):
            if at <= now < until:
                return f"appeal upheld by {appeal.decided_by}: {appeal.reason}"
        return None

    def calibration_weights(self) -> dict[str, float]:
        """How many honest accounts each upheld and audited one stands for; nobody else is in."""
        return honest_weights(self._records, self.audit_share)

    def state(self) -> Any:
        """Plain values for a snapshot; the key is not among them."""
        return {
            "records": [
                asdict(one) | {"outcome": str(one.outcome), "action": str(one.action)}
                for one in self._records
            ],
            "spared": [[one.account, until] for one, until in self._untils()],
        }

    def _untils(self) -> Iterable[tuple[Appeal, float]]:
        """The upheld, in the order of the record, and until when each spares."""
        ends = {id(one): until for mine in self._upheld.values() for _, until, one in mine}
        return [(one, ends[id(one)]) for one in self._records if id(one) in ends]

    def restore(self, state: Any) -> None:
        """Take a snapshot's values."""
        self._records, self._upheld = [], {}
        untils = iter(state["spared"])
        for one in state["records"]:
            said = {"outcome": AppealOutcome(one["outcome"]), "action": Action(one["action"])}
            appeal = Appeal(**one | said)
            until = appeal.at + self.spare_days * DAY_S
            if appeal.outcome is AppealOutcome.UPHELD:
                until = float(next(untils, (appeal.account, until))[1])
            self._keep(appeal, until)


def _start(one: tuple[float, float, Appeal]) -> float:
    return one[0]


def honest_weights(appeals: Iterable[Appeal], audit_share: float) -> dict[str, float]:
    """How many honest accounts each upheld and audited one stands for; nobody else is in.

    Of several decisions about one account the last counts: who was believed and then found out
    teaches nothing.

    Args:
        appeals: in any order.
        audit_share: of all accounts, that the draw had picked when they were decided.

    Raises:
        ConfigError: a share outside (0, 1].
    """
    _check_share(audit_share)
    last = {one.account: one for one in sorted(appeals, key=lambda one: one.at)}
    return {
        one.account: 1.0 / audit_share
        for one in last.values()
        if one.outcome is AppealOutcome.UPHELD and one.audited
    }


def _check_share(audit_share: float) -> None:
    if not 0 < audit_share <= 1:
        raise ConfigError("the audit's share", f"is {audit_share}", "name one in (0, 1]")
