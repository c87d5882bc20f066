"""The certificate as a record: evaluate writes it, report reads it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from overproof.records.exchange import Record
from overproof.records.student import LearningPoint

__all__ = [
    "Candidate",
    "Certificate",
    "Comparison",
    "CostLine",
    "Interval",
    "Power",
    "ReliabilityBin",
    "SliceScore",
    "Speed",
]


class Interval(Record):
    """An estimate with its confidence interval; shares are in [0, 1]."""

    estimate: float
    low: float
    high: float
    confidence: float = 0.95
    method: str
    n: int


class ReliabilityBin(Record):
    """Inputs whose top probability fell in a bin: mean confidence against share correct."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: Interval | None = None


class SliceScore(Record):
    """Accuracy of one candidate on one slice (``by`` is ``label`` or ``length``)."""

    by: str
    value: str
    accuracy: Interval


class Speed(Record):
    """Measured on the machine that certified. Seconds; ``None`` where not measured."""

    requests_per_second: float | None = None
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    n: int = 0
    how: str = ""


class Candidate(Record):
    """A teacher, a student or a baseline, measured on the test split.

    ``accuracy`` and ``macro_f1`` are against gold, ``None`` without gold; an invalid answer
    counts as wrong. ``agreement`` is with the teacher's valid answers. ``confusion`` counts
    gold (or the teacher's label without gold) by predicted label; its columns are the labels and
    then ``(invalid)``. ``cost_per_million_usd`` is ``None`` where a price is unknown.
    """

    name: str
    role: Literal["teacher", "student", "baseline"]
    description: str
    parameters: int | None = None
    accuracy: Interval | None = None
    macro_f1: Interval | None = None
    agreement: Interval | None = None
    invalid_share: Interval | None = None
    ece: Interval | None = None
    reliability: tuple[ReliabilityBin, ...] = ()
    slices: tuple[SliceScore, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    speed: Speed | None = None
    cost_per_million_usd: float | None = None
    cost_basis: str = ""
    learning_curve: tuple[LearningPoint, ...] = ()


class Power(Record):
    """Power of the non-inferiority test at the recipe's margin."""

    n_test: int
    margin: float
    alpha: float
    assumed_discordance: float
    observed_discordance: float | None = None
    power: float
    n_needed: int
    underpowered: bool


class Comparison(Record):
    """A student against the teacher (or another candidate), paired on the same test inputs.

    ``difference`` is first minus second. The verdict rests on the one-sided interval at
    ``1 - alpha``: ``non-inferior`` when its lower end lies above ``-margin``, ``inferior`` when
    the difference is below ``-margin`` with the same confidence, else ``inconclusive``.
    """

    first: str
    second: str
    metric: str
    difference: Interval
    only_first_right: int
    only_second_right: int
    margin: float
    alpha: float
    p_value: float
    verdict: Literal["non-inferior", "inferior", "inconclusive"]
    superior: bool = False


class CostLine(Record):
    """One line of the cost ledger; ``usd`` is ``None`` where a price is unknown.

    Tokens read from a cache and written to one are part of the input, tokens of reasoning part of
    the output. ``uncertain_usd`` is what ``uncertain_calls`` may have cost at most beyond ``usd``:
    attempts that may have been billed though nobody counted them. ``batch_calls`` went through a
    batch API.
    """

    what: str
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    batch_calls: int = 0
    seconds: float | None = None
    usd: float | None = None
    uncertain_usd: float = 0.0
    uncertain_calls: int = 0


class Certificate(Record):
    """Everything that is claimed of a run, with what it rests on.

    ``basis`` says what correctness was measured against. ``certified`` names the students that
    passed; the top-level verdict is the recommended student's.
    """

    version: int = 1
    name: str
    created_at: str
    overproof_version: str
    demo: bool = False
    basis: Literal["gold", "teacher"]
    verdict: Literal["certified", "not certified", "underpowered", "cannot say"]
    verdict_text: str
    recommended: str | None
    certified: tuple[str, ...]
    labels: tuple[str, ...]
    n_test: int
    margin: float
    metric: str
    power: Power
    candidates: tuple[Candidate, ...]
    comparisons: tuple[Comparison, ...]
    teacher_self_agreement: Interval | None = None
    self_agreement_how: str = ""
    signal_width: float | None = None
    costs: tuple[CostLine, ...] = ()
    break_even_requests: float | None = None
    break_even_text: str = ""
    learning_verdict: str = ""
    provenance: dict[str, Any] = Field(default_factory=dict)
    splits: dict[str, int] = Field(default_factory=dict)
    outcomes: dict[str, dict[str, int]] = Field(default_factory=dict)
    looks: tuple[dict[str, Any], ...] = ()
    limits: tuple[str, ...] = ()
    machine: str = ""
    recompute: str = ""

    def candidate(self, name: str) -> Candidate:
        """The candidate of that name; ``KeyError`` where there is none."""
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        raise KeyError(name)
