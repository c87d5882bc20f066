"""From what a look saw to what is done about it: score, p-value, evidence, ladder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from overproof.guard.community_evidence import CommunityEvidence
from overproof.guard.conduct import Conduct, conduct_of
from overproof.guard.evidence import AccountEvidence, strongest
from overproof.guard.exemptions import Exemptions
from overproof.guard.ladder import INCONSPICUOUS, Ladder
from overproof.guard.parts import Community, Decision, Finding, Vector
from overproof.guard.signals.accounts import ACCOUNT_SIGNALS
from overproof.guard.signals.communities import COMMUNITY_SIGNALS
from overproof.guard.strata import stratum_of
from overproof.records.traffic import Action, Evidence, TrafficVerdict

if TYPE_CHECKING:
    from overproof.config.guard import GuardConfig
    from overproof.guard.accounts import Accounts, AccountState
    from overproof.guard.appeals import Appeals
    from overproof.guard.instruments import Instruments

__all__ = ["Judge", "Judged", "exemptions_of"]

HOUR_S = 3600.0


@dataclass(frozen=True)
class Judged:
    """What one look, or one pass, came to.

    Attributes:
        verdicts: taken now.
        reported: names of the communities among them.
        banned: indices of accounts that are blocked from now on.
    """

    verdicts: list[TrafficVerdict]
    reported: frozenset[str] = frozenset()
    banned: tuple[int, ...] = ()


class Judge:
    """Scores, calibrations, evidence and the ladder of one configuration.

    Args:
        config: rates, rungs, exemptions.
        instruments: frozen scorers and calibrations.
        exemptions: permitted uses; by default those of the configuration, verified with the key
            in ``exemption_key_env``.
        appeals: those decided.

    Raises:
        ConfigError: scorers, calibrations and this version's signals do not belong together.
    """

    def __init__(
        self,
        config: GuardConfig,
        instruments: Instruments,
        exemptions: Exemptions | None = None,
        appeals: Appeals | None = None,
    ) -> None:
        self.exemptions = exemptions_of(config) if exemptions is None else exemptions
        self.ladder = Ladder(config, self.exemptions, appeals)
        self._config, self._rules = config, config.ladder
        self._accounts = AccountEvidence(
            ACCOUNT_SIGNALS, instruments.account_scorer, instruments.accounts, config.looks
        )
        self._communities = CommunityEvidence(
            COMMUNITY_SIGNALS,
            instruments.community_scorer,
            instruments.communities,
            config.communities,
        )
        self._identity = instruments.identity()

    def identity(self) -> dict[str, str]:
        """What a snapshot must agree with, by the words that an error names it with."""
        return self._identity | {"number of valid exemptions": str(len(self.exemptions))}

    def account(self, account: AccountState, look: int, at: float, vector: Vector) -> Judged | None:
        """Judge one look at one account; None where nothing is to be said."""
        stratum = stratum_of(account.plan, account.requests)
        finding = self._accounts.look(account.index, look, at, stratum, vector)
        if finding.p_value > self._rules.watch_p:
            return None
        finding = self._accounts.explain(finding, account, stratum, vector)
        verdict = self.ladder.account(finding, account)
        if verdict is None:
            return None
        return Judged([verdict], banned=_banned(verdict, finding, [account]))

    def communities(
        self,
        names: Sequence[str],
        found: Sequence[Community],
        vectors: Sequence[Vector],
        at: float,
    ) -> Judged:
        """Judge the communities of one pass, all together."""
        done = self._communities.judge(names, found, vectors, at)
        verdicts, told = [], []
        banned: list[int] = []
        for name, finding, community, vector in zip(
            names, done.findings, found, vectors, strict=True
        ):
            reported = name in done.reported
            if not reported and finding.p_value > self._rules.watch_p:
                continue
            said = finding if finding.evidence else self._explained(finding, community, vector)
            conduct = Conduct()
            if reported:
                conduct = conduct_of(community, at, self._accounts, self._config)
                said = conduct.told(said, self._rules.alone_p)
            taken = self.ladder.community(
                said,
                community.members,
                reported=reported,
                alike=conduct.alike,
                inconspicuous=conduct.quiet,
            )
            for verdict in taken:
                banned += _banned(verdict, finding, community.members)
            verdicts += taken
            told += [name] if taken else []
        return Judged(verdicts, frozenset(told), tuple(banned))

    def _explained(self, finding: Finding, community: Community, vector: Vector) -> Finding:
        """With words for those that are watched without being reported."""
        details = {signal.name: signal.detail for signal in COMMUNITY_SIGNALS}
        scorer = self._communities.scorer
        evidence = [
            Evidence(name, str(family), details[name](community), p)
            for name, family, p in strongest(scorer, vector, finding.families)
        ]
        return replace(finding, evidence=tuple(evidence))

    def decision(self, account: AccountState, now: float) -> Decision:
        """The rung that an account stands on."""
        return self.ladder.decision(account, now)

    def meet(self, accounts: Accounts) -> None:
        """Know all accounts: who else belongs to an organisation, and whom not to forget."""
        self.ladder.known = accounts
        accounts.keeps = self.ladder.stands

    def begin_anew(self, index: int) -> None:
        """An account's looks count from none again; what it stands under, it stands under."""
        self._accounts.forget([index])

    def forget(self, indices: Sequence[int]) -> None:
        """Accounts that are known no more."""
        self._accounts.forget(indices)
        self.ladder.forget(indices)

    def notes(self, now: float) -> list[str]:
        """What a reader should know: n, floors, exemptions that exempt nobody, who was spared."""
        sizes = [
            *self._accounts.calibration.describe(self.ladder.alpha),
            *self._communities.calibration.describe(self._communities.alpha),
        ]
        refused = [*self.exemptions.refused, *self.exemptions.expired(now)]
        told = sizes + [
            f"exemption {one.place} ({one.who}) exempts nobody: {one.reason}" for one in refused
        ]
        quiet = {one.account for one in self.ladder.spared if one.reason == INCONSPICUOUS}
        if permitted := {o.account for o in self.ladder.spared if o.reason != INCONSPICUOUS}:
            told.append(f"{len(permitted):,} accounts were spared by exemptions and appeals")
        if quiet:
            told.append(f"{len(quiet):,} members of communities were spared: {INCONSPICUOUS}")
        if gone := self.ladder.unrecorded:
            told.append(f"{gone:,} older records of whom was spared made room for newer ones")
        return told

    def spared(self) -> list[dict[str, Any]]:
        """Who was spared what, when and why, as plain values."""
        return [asdict(one) | {"action": str(one.action)} for one in self.ladder.spared]

    def state(self) -> Any:
        """Plain values for a snapshot."""
        return {
            "accounts": self._accounts.state(),
            "communities": self._communities.state(),
            "ladder": self.ladder.state(),
        }

    def restore(self, state: Any) -> None:
        """Take a snapshot's values."""
        self._accounts.restore(state["accounts"])
        self._communities.restore(state["communities"])
        self.ladder.restore(state["ladder"])


def exemptions_of(config: GuardConfig) -> Exemptions:
    """The configuration's exemptions, as far as they can be verified; the others are reported."""
    if not config.exemptions:
        return Exemptions()
    key = os.environb.get(os.fsencode(config.exemption_key_env), b"").strip()
    return Exemptions(config.exemptions, key or None)


def _banned(
    verdict: TrafficVerdict, finding: Finding, members: Sequence[AccountState]
) -> tuple[int, ...]:
    if verdict.action is not Action.BLOCK:
        return ()
    named = set(verdict.subject.members)
    known = set(finding.members)
    return tuple(one.index for one in members if one.account in named and one.index in known)
