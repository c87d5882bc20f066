"""The parts of the detector and how they meet.

    Event ──fingerprint──▶ Sketch ──▶ AccountState.add   (one account's own past)
                                 └──▶ SharedEvidence.add (what accounts have in common)
    at a look  AccountState ──signals──▶ vector ──Scorer──▶ score ──Calibration──▶ p, e ─┐
    every pass SharedEvidence ──graph──▶ Community ──signals──▶ vector ──▶ p ──BH──▶ ────┴▶ Ladder

A *look* is a preset age of an account, a *pass* a preset interval of event time: nothing is tested
in between, so that the error rates hold at these times and are claimed for no others. Everything
that has memory can be written to a snapshot and read back: ``state()`` gives plain lists, dicts,
numbers, strings and bytes, ``restore()`` takes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from overproof.records.traffic import Action, Event, Evidence, Sketch

if TYPE_CHECKING:
    from overproof.guard.accounts import AccountState
    from overproof.guard.facts import CommunityFacts

__all__ = [
    "Community",
    "CommunitySignal",
    "Decision",
    "Edge",
    "Family",
    "Finding",
    "Remembers",
    "Signal",
    "Sketcher",
]

Vector = npt.NDArray[np.float64]


class Family(StrEnum):
    """Signals of one family can be wrong for one reason; no action stands on one family alone."""

    TEXT = "text"  # what is asked: injections, elicitation, rubrics, synthesis, techniques
    SAMPLING = "sampling"  # how it is asked: k samples, temperatures, log-probs
    USE = "use"  # when and how much: first day, hours, plan
    NETWORK = "network"  # from where: addresses, devices, payers
    COORDINATION = "coordination"  # with whom: synchrony, load, pivots, succession
    COVERAGE = "coverage"  # how a data set is divided, which capabilities are covered


class Remembers(Protocol):
    """Whatever has memory that a snapshot must hold."""

    def state(self) -> Any:
        """What it remembers, as plain values."""

    def restore(self, state: Any) -> None:
        """Take such values."""


class Sketcher(Protocol):
    """Text to keyed fingerprints; an event that already has a sketch keeps it."""

    def sketch(self, event: Event) -> Sketch:
        """The fingerprints of the event's text."""


@dataclass(frozen=True)
class Signal:
    """One signal of one account.

    Attributes:
        measure: higher is more suspicious; NaN where the account gives it nothing to measure.
            Pure: it reads the state and the time (seconds since the epoch), and changes nothing.
        detail: the finding in words for a human who must check it.
    """

    name: str
    family: Family
    measure: Callable[[AccountState, float], float]
    detail: Callable[[AccountState, float], str]


@dataclass(frozen=True)
class Edge:
    """Two accounts with something rare in common.

    ``weight`` is evidence in nats: minus the log of the chance that two unrelated accounts share
    it. ``kind`` says what: system, template, opening, closing, shingle, payer, device, address,
    synchrony, pivot, succession.
    """

    a: int
    b: int
    kind: str
    weight: float


@dataclass(frozen=True)
class Community:
    """Accounts that belong together by rare evidence, as the graph found them.

    Attributes:
        members: M accounts' states, in order of account index.
        edges: those between members.
        now: seconds since the epoch.
        facts: what else the pass knows: hours, models, shared things; None in one made by hand.
    """

    members: Sequence[AccountState]
    edges: Sequence[Edge]
    now: float
    facts: CommunityFacts | None = None

    @property
    def first_seen(self) -> float:
        """Of its oldest member, seconds since the epoch."""
        return min(member.first_seen for member in self.members)

    def ties(self) -> list[int]:
        """How many things each member shares with others, (M,); edges where no facts are known."""
        if self.facts is None:
            ends = Counter(end for edge in self.edges for end in (edge.a, edge.b))
            return [ends[member.index] for member in self.members]
        counts = np.zeros(len(self.members), dtype=np.int64)
        for thing in self.facts.things:
            counts[thing.users] += 1
        return [int(count) for count in counts]


@dataclass(frozen=True)
class CommunitySignal:
    """One signal of a community; as `Signal`. ``size`` must not be what it measures."""

    name: str
    family: Family
    measure: Callable[[Community], float]
    detail: Callable[[Community], str]


@dataclass(frozen=True)
class Finding:
    """What one look at one subject came to.

    Attributes:
        p_value: conformal, against ``n`` honest subjects of the same stratum and age or size.
        e_value: of the trajectory so far, looks averaged.
        families: the conformal p-value of each family's own sub-score.
        evidence: the strongest signals in words.
        p_now: conformal p-value of this look or pass by itself; ``p_value`` remembers the worst.
        floor: the smallest p-value that ``n`` allows.
        subject: the community's name; empty for an account.
        assumption: what the error rate rests on, in words.
    """

    kind: str
    members: tuple[int, ...]
    at: float
    score: float
    p_value: float
    e_value: float
    n: int
    families: dict[Family, float]
    evidence: tuple[Evidence, ...] = ()
    stratum: str = ""
    p_now: float = 1.0
    floor: float = 0.0
    subject: str = ""
    assumption: str = ""


@dataclass(frozen=True)
class Decision:
    """The rung an account stands on now; cheap to read on every request."""

    action: Action = Action.LOG
    since: float | None = None
    expires_at: float | None = None
    reasons: tuple[str, ...] = field(default=())
