"""What an audit says: one finding a test, and beside every number what it rests on.

A p-value alone convicts nobody. A `TestFinding` therefore carries the hypothesis in plain words,
whether its p-value is exact, a bound, a rank among reference models or an approximation, the
assumptions under which it is so, the smallest value it could have taken, the effect with its
interval, what the test would have detected, and what a positive does not prove.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["AuditVerdict", "Effect", "Exactness", "PValue", "Power", "Standing", "TestFinding"]


class Exactness(StrEnum):
    """What kind of number a p-value is."""

    EXACT = "exact"
    BOUND = "upper bound"
    RANK = "rank among references"
    CONDITIONAL = "under the pseudo-random function's model"
    APPROXIMATE = "approximate"


class Standing(StrEnum):
    """What became of a test; an interim one has no p-value yet."""

    DONE = "done"
    FLAGGED = "done, with a warning"
    REFUSED = "refused"
    INTERIM = "not decided yet: a later look is planned"


class AuditVerdict(StrEnum):
    """What an audit may say of a suspect, strongest first."""

    DESCENDS = "descends from the weights"
    TRAINED = "trained on these outputs"
    CLOSE = "stylistically close"
    NO_EVIDENCE = "no evidence"
    CANNOT_SAY = "cannot say"


@dataclass(frozen=True)
class PValue:
    """One p-value and what it is.

    Attributes:
        value: between 0 and 1; never below ``floor``.
        log10: of the value, where it is too small for a float to print well.
        exactness: exact, a bound, a rank, conditional on a model, or approximate.
        method: how it was computed, in a few words.
        assumption: under what it holds, a whole sentence.
        floor: the smallest value that this test could have given.
    """

    value: float
    exactness: Exactness
    method: str
    assumption: str
    floor: float = 0.0
    log10: float | None = None


@dataclass(frozen=True)
class Effect:
    """How large, never merged with how sure.

    Attributes:
        name: which quantity, in words ("share of the log that was used, at least").
        value: the estimate; None where it cannot be identified.
        low: lower end of the interval; None for none.
        high: upper end; None for none.
        confidence: of the interval.
        why: what it means, or why it is "not identifiable".
        unit: such as ``share``, ``nats``, ``percent of the dose``.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    why: str = ""
    unit: str = "share"


@dataclass(frozen=True)
class Power:
    """What the test would have seen: "use of ≥ 5 % of the log with probability .9".

    Attributes:
        detectable: the smallest effect that would have been found; None where unknown.
        probability: with which.
        alpha: at which level.
        words: the sentence for the reader.
    """

    detectable: float | None
    probability: float
    alpha: float
    words: str


@dataclass(frozen=True)
class TestFinding:
    """One test of one hypothesis about one suspect.

    Attributes:
        test: its name, as on the command line ("ghosts", "watermark" …).
        standing: done, flagged or refused; ``reasons`` say why.
        hypothesis: the null hypothesis in plain words.
        n: how many units it rests on.
        unit: what a unit is ("prompts", "reference models", "unique contexts" …).
        p_values: the first is the one that counts; the others stand beside it, labelled.
        effects: how large.
        power: what would have been seen.
        not_proved: what a positive does not prove.
        reasons: warnings, or why it was refused.
        details: further numbers for the reader, plain values only.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    test: str
    standing: Standing
    hypothesis: str
    n: int
    unit: str
    p_values: tuple[PValue, ...] = ()
    effects: tuple[Effect, ...] = ()
    power: Power | None = None
    not_proved: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def p(self) -> float | None:
        """The p-value that counts; None where there is none."""
        return self.p_values[0].value if self.p_values else None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
