"""What a verdict says: of whom, on what evidence, and who was spared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from overproof.guard.parts import Finding
from overproof.records.traffic import Action, Evidence, Subject, TrafficVerdict

__all__ = ["Holder", "evidence_of", "is_organisation", "subject_of", "verdict_of"]


class Holder(Protocol):
    """What the ladder needs to know of an account; `AccountState` has it."""

    index: int
    account: str
    org: str | None
    declared_use: str | None
    tokens_out: int
    known_since: float


def is_organisation(
    holders: Sequence[Holder],
    held: Sequence[Holder],
    known: Iterable[Holder] | None,
    blocked_since: float,
) -> bool:
    """Whether those held are all of one organisation: each account of it that guard remembers.

    Args:
        holders: all members, those spared among them.
        held: who bears the action.
        known: every account that guard remembers; None where nobody says, and then it is not.
        blocked_since: since when the organisation is blocked, if it is, else infinite: accounts
            that came later are held with it, and need not be members.
    """
    orgs = {holder.org for holder in holders}
    org = next(iter(orgs))
    if known is None or org is None or len(orgs) > 1:
        return False
    inside = {holder.index for holder in held}
    return all(
        one.index in inside or one.known_since >= blocked_since
        for one in known
        if one.org == org
    )  # fmt: skip


def evidence_of(finding: Finding, spared: dict[str, str]) -> tuple[Evidence, ...]:
    """The strongest first; who was spared, and why, at the end."""
    found = sorted(
        enumerate(finding.evidence),
        key=lambda one: (1.0 if one[1].p_value is None else one[1].p_value, one[0]),
    )
    told = [
        Evidence("declared use", "exemption", f"{account} is spared: {reason}")
        for account, reason in sorted(spared.items())
    ]
    return (*(one for _, one in found), *told)


def subject_of(
    key: str, finding: Finding, held: Sequence[Holder], action: Action, *, whole: bool
) -> Subject:
    """Of whom a verdict is: an account, a community, or the organisation that it is, if blocked.

    Args:
        key: of the standing, ``a:`` or ``c:`` and the subject.
        finding: what it is about.
        held: who bears it.
        action: what they bear.
        whole: whether these are all known accounts of one organisation: else others of it, whom
            nothing is held against, would be blocked with them.
    """
    members = tuple(sorted(holder.account for holder in held))
    if key.startswith("a:"):
        return Subject("account", held[0].account, members)
    orgs = {holder.org for holder in held}
    one = next(iter(orgs)) if len(orgs) == 1 else None
    if action is Action.BLOCK and whole and one is not None:
        return Subject("org", one, members)
    return Subject("community", finding.subject, members)


def verdict_of(
    subject: Subject,
    finding: Finding,
    held: Sequence[Holder],
    action: Action,
    *,
    evidence: tuple[Evidence, ...],
    expires: float,
) -> TrafficVerdict:
    """The verdict that holds ``held`` to ``action`` until ``expires``."""
    return TrafficVerdict(
        subject=subject,
        decided_at=finding.at,
        action=action,
        p_value=finding.p_value,
        e_value=finding.e_value,
        n_calibration=finding.n,
        evidence=evidence,
        tokens_before=sum(holder.tokens_out for holder in held),
        expires_at=expires,
        assumption=finding.assumption,
    )
