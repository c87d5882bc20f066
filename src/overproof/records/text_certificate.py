"""The certificate of students that talk: evaluate writes it, report reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from overproof.errors import RunError
from overproof.records.certificate import Interval, Speed
from overproof.records.exchange import Record
from overproof.records.files import write_atomically

__all__ = [
    "Contestant",
    "DeferralCurve",
    "DeferralPoint",
    "Degeneration",
    "JudgeResult",
    "TextCertificate",
    "TextComparison",
]


class Degeneration(Record):
    """How often output is broken, each with its interval; all over the same test prompts.

    ``loops`` repeat themselves, ``unstopped`` ran into the limit of tokens, ``empty`` say nothing.
    ``any`` is at least one of them.
    """

    loops: Interval
    unstopped: Interval
    empty: Interval
    any: Interval


class Contestant(Record):
    """A teacher, a student or a baseline, measured on the test split.

    ``score`` is the mean of the recipe's scorer, in [0, 1]; an answer that failed scores 0.
    ``details`` are further means with intervals, such as ``valid``, ``field_f1``, ``exact``.
    ``agreement`` is the share of answers that say what the teacher said. ``retention`` is its
    score as a share of the teacher's. ``teacher_perplexity`` is the teacher's of this one's text,
    ``perplexity_of_teacher`` this one's of the teacher's text. ``mean_tokens`` are the tokens of
    an answer, ``None`` where nobody counted them. ``slices`` are scores of the prompts that were
    made alike.
    """

    name: str
    role: Literal["teacher", "student", "baseline"]
    description: str
    method: str = ""
    parameters: int | None = None
    n: int
    score: Interval
    retention: Interval | None = None
    details: dict[str, Interval] = Field(default_factory=dict)
    agreement: Interval | None = None
    degeneration: Degeneration
    outcomes: dict[str, int] = Field(default_factory=dict)
    teacher_perplexity: Interval | None = None
    perplexity_of_teacher: Interval | None = None
    mean_tokens: float | None = None
    slices: dict[str, Interval] = Field(default_factory=dict)
    speed: Speed | None = None
    cost_per_million_usd: float | None = None
    cost_basis: str = ""
    examples: tuple[dict[str, str], ...] = ()


class TextComparison(Record):
    """Two contestants on the same prompts: ``difference`` is the mean score of first minus second.

    ``verdict`` is against ``margin`` where there is one: ``non-inferior``, ``inferior`` or
    ``inconclusive``; ``better``, ``worse`` or ``no difference shown`` where there is none.
    """

    first: str
    second: str
    difference: Interval
    margin: float | None = None
    alpha: float
    p_value: float
    verdict: Literal[
        "non-inferior", "inferior", "inconclusive", "better", "worse", "no difference shown"
    ]


class JudgeResult(Record):
    """A pairwise judge: ``win_rate`` of first over second, ties half, both orders asked.

    ``consistent`` is the share of pairs judged alike in both orders; others count as ties.
    ``noise_floor`` is how far from one half the judge puts the teacher against a second sample of
    itself. ``shown_first`` is the share of decisions for the answer that stood first, one half
    without a bias. ``unread`` pairs had a judgement that was none, and do not count.
    """

    first: str
    second: str
    judge: str
    win_rate: Interval
    consistent: Interval
    noise_floor: Interval | None = None
    shown_first: Interval | None = None
    unread: int = 0
    n: int


class DeferralPoint(Record):
    """What a threshold gives on the test split: shares in [0, 1].

    ``cost`` is per request, as a share of asking the teacher alone.
    """

    threshold: float
    deferred: float
    agreement: float
    cost: float


class DeferralCurve(Record):
    """Cost against agreement of a student that passes on what it is unsure of.

    ``threshold`` is calibrated on the tune split by conformal risk control (arXiv 2208.02814) to
    the agreement ``stated``; ``chosen`` is that threshold on the test split, with ``agreement``
    and its interval there.
    """

    student: str
    stated: float
    threshold: float
    n_tune: int
    chosen: DeferralPoint
    agreement: Interval
    points: tuple[DeferralPoint, ...]
    confidence_score: str


class TextCertificate(Record):
    """All that is claimed of the students of one run, and what it rests on.

    ``verdict_text`` says the verdict in a sentence or two; ``recompute`` is the command that makes
    the certificate again.
    """

    kind: Literal["text"] = "text"
    name: str
    verdict: Literal["certified", "not certified"]
    verdict_text: str = ""
    certified: tuple[str, ...] = ()
    made_at: str
    overproof_version: str = ""
    machine: str = ""
    recompute: str = ""
    scorer: str
    margin: float
    alpha: float
    n_test: int
    contestants: tuple[Contestant, ...]
    comparisons: tuple[TextComparison, ...]
    judgements: tuple[JudgeResult, ...] = ()
    deferral: tuple[DeferralCurve, ...] = ()
    costs: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)
    limits: tuple[str, ...] = ()
    looks: int = 1
    demo: bool = False
    synthetic: bool = False
    recipe_sha256: str
    dataset_sha256: str
    versions: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> TextCertificate:
        """Read a certificate.

        Raises:
            RunError: there is none, or it is another kind of file.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(
                str(path), f"cannot be read: {error}", "run `overproof certify`"
            ) from error
        except ValueError as error:
            reason = f"is no certificate of a text task: {str(error).splitlines()[0]}"
            raise RunError(str(path), reason, "run `overproof certify` again") from error

    def save(self, path: Path) -> None:
        """Write it in one step."""
        text = json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)
        write_atomically(path, text + "\n")
