"""Verdicts by whom they are about: one case for a community and the organisation it became.

A community all of which is blocked and of one organisation is blocked as that organisation: the
ladder then says ``org`` where it had said ``community``. To a reader it is one finding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from overproof.records.traffic import Action, Evidence, TrafficVerdict
from overproof.report.guard_graph import DrawnCommunity
from overproof.report.guard_words import plain

__all__ = ["Case", "cases_of"]

EXEMPTION = "exemption"
Key = tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """One subject with its verdicts in order of event time; there is at least one.

    Attributes:
        name: as it is shown.
        verdicts: of the subject; of a community that became an organisation, those of both.
        drawing: the community as last drawn, if it was.
    """

    name: str
    verdicts: tuple[TrafficVerdict, ...]
    drawing: DrawnCommunity | None = None

    @cached_property
    def kind(self) -> str:
        """``account``, ``community``, or ``org`` for one that came to be seen as such."""
        kinds = {verdict.subject.kind for verdict in self.verdicts}
        return "org" if "org" in kinds else self.verdicts[0].subject.kind

    @property
    def title(self) -> str:
        """What it is, in words."""
        return "organisation" if self.kind == "org" else self.kind

    @property
    def last(self) -> TrafficVerdict:
        """The latest verdict."""
        return self.verdicts[-1]

    @cached_property
    def highest(self) -> Action:
        """The highest rung it ever came to."""
        return max((verdict.action for verdict in self.verdicts), key=lambda action: action.rung)

    @property
    def caught_at(self) -> float | None:
        """When it first came to ``soften`` or above."""
        acted = (v.decided_at for v in self.verdicts if v.action.rung >= Action.SOFTEN.rung)
        return next(acted, None)

    @property
    def tokens(self) -> int | None:
        """Tokens served to its members before it was caught."""
        return next(
            (v.tokens_before for v in self.verdicts if v.action.rung >= Action.SOFTEN.rung), None
        )

    @cached_property
    def evidence(self) -> tuple[Evidence, ...]:
        """The latest of each signal, the strongest first."""
        latest = {one.signal: one for verdict in self.verdicts for one in verdict.evidence}
        return tuple(
            sorted(
                latest.values(),
                key=lambda one: (
                    one.p_value if one.p_value is not None else 1.0,
                    -(one.e_value or 0.0),
                    one.signal,
                ),
            )
        )

    @cached_property
    def families(self) -> tuple[str, ...]:
        """The families of signals that speak against it."""
        return tuple(sorted({one.family for one in self.evidence} - {EXEMPTION}))

    @cached_property
    def held(self) -> frozenset[str]:
        """Members that came to ``soften`` or above with it, over all its verdicts."""
        return _held(self.verdicts)

    @property
    def exempt(self) -> Evidence | None:
        """Why its latest verdict was not acted on, where permissions spare all its members.

        A verdict names each account that a permission spares; one such member says nothing of
        the others.
        """
        if self.last.action.rung >= Action.SOFTEN.rung:
            return None
        said = [one for one in self.last.evidence if one.family == EXEMPTION]
        return said[0] if said and len(said) >= len(self.last.subject.members) else None


def cases_of(
    verdicts: Iterable[TrafficVerdict], drawings: Sequence[DrawnCommunity] = ()
) -> list[Case]:
    """One case a subject, in the order of their first verdicts.

    An organisation's verdict goes to the community that it was: the one drawn with its members
    when it was decided, else the one whose verdicts at ``soften`` or above named each of them
    before, with the fewest besides. Where there is none, the organisation is a case by itself.

    Args:
        verdicts: in any order.
        drawings: in any order; the latest of a community counts.
    """
    drawn = {one.id: one for one in sorted(drawings, key=lambda one: one.at)}
    at_once = {(one.at, frozenset(one.members)): one.id for one in drawings}
    of: dict[Key, list[TrafficVerdict]] = defaultdict(list)
    orgs: dict[Key, str] = {}
    for verdict in sorted(verdicts, key=lambda one: one.decided_at):
        subject = verdict.subject
        key: Key = (subject.kind, subject.id)
        if subject.kind == "org":
            became = at_once.get((verdict.decided_at, frozenset(subject.members)))
            became = became or _community_of(verdict, of)
            if became is not None:
                key = ("community", became)
                orgs[key] = subject.id
        of[key].append(verdict)
    return [_case(key, made, drawn, orgs.get(key)) for key, made in of.items()]


def _community_of(
    verdict: TrafficVerdict, of: Mapping[Key, Sequence[TrafficVerdict]]
) -> str | None:
    """The community whose earlier verdicts held each of an organisation's members."""
    members = set(verdict.subject.members)
    named = {
        key[1]: held
        for key, made in of.items()
        if key[0] == "community" and members <= (held := _held(made))
    }
    return min(reversed(named), key=lambda name: len(named[name]), default=None)


def _held(verdicts: Iterable[TrafficVerdict]) -> frozenset[str]:
    return frozenset(
        member
        for verdict in verdicts
        if verdict.action.rung >= Action.SOFTEN.rung
        for member in verdict.subject.members
    )


def _case(
    key: Key, made: Sequence[TrafficVerdict], drawn: Mapping[str, DrawnCommunity], org: str | None
) -> Case:
    kind, name = key
    shown = plain(name) if org is None else f"{plain(org)} ({plain(name)})"
    drawing = drawn.get(name) if kind == "community" else None
    return Case(shown, tuple(made), drawing)
