"""From answers to figures: scores, agreement, broken output, each with its interval.

Shapes: N test prompts, M of them with something to score against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from overproof.evaluate.candidates import as_interval
from overproof.evaluate.scorers.degenerate import is_loop
from overproof.evaluate.scorers.protocol import Answer, Scorer
from overproof.evaluate.text.entrants import Entrant, Said
from overproof.evaluate.text.rows import HeldOutRow
from overproof.records.certificate import Interval
from overproof.records.exchange import Outcome
from overproof.records.text_certificate import Degeneration
from overproof.stats.intervals import bootstrap_rows, wilson
from overproof.stats.means import mean_interval, ratio_of_means

__all__ = ["Field", "Scores"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
SHOWN = 600  # characters of an example
EXAMPLES = 4


@dataclass(frozen=True)
class Scores:
    """Scores of one entrant on M prompts, with further figures and counts of each."""

    values: Floats
    details: dict[str, Floats]
    counts: dict[str, Floats]


@dataclass(frozen=True)
class Field:
    """The test prompts with the recipe's measure of an answer."""

    rows: Sequence[HeldOutRow]
    scorer: Scorer
    confidence: float
    resamples: int
    seed: int

    @cached_property
    def scored(self) -> list[int]:
        """Which prompts an answer can be scored on: all, or those that the teacher answered."""
        if self.scorer.needs != "teacher":
            return list(range(len(self.rows)))
        return self.answered

    @cached_property
    def answered(self) -> list[int]:
        """Which prompts the teacher answered validly."""
        return [i for i, row in enumerate(self.rows) if row.teacher is not None]

    def score(self, entrant: Entrant) -> Scores:
        """Score the entrant's answers; what failed or never ended scores zero in everything.

        Raises:
            DataError: a prompt lacks what the scorer needs.
        """
        found = [self._score(entrant.said[i], self.rows[i]) for i in self.scored]
        names = sorted({name for _, details, _ in found for name in details})
        counted = sorted({name for _, _, counts in found for name in counts})
        return Scores(
            np.array([value for value, _, _ in found], dtype=np.float64),
            {n: np.array([details.get(n, 0.0) for _, details, _ in found]) for n in names},
            {n: np.array([float(counts.get(n, 0)) for _, _, counts in found]) for n in counted},
        )

    def _score(self, said: Said, row: HeldOutRow) -> tuple[float, dict[str, float], dict[str, int]]:
        if said.counts:
            score = self.scorer.score(said.answer, row.known)
            return score.value, dict(score.details), dict(score.counts)
        nothing = self.scorer.score(Answer(""), row.known)
        return 0.0, dict.fromkeys(nothing.details, 0.0), dict(nothing.counts)

    def agrees(self, said: Sequence[Said], rows: Sequence[HeldOutRow]) -> Bools:
        """Whether each answer says what the teacher said; all rows have its valid answer."""
        return np.array(
            [
                one.counts and row.teacher is not None and self.scorer.same(one.answer, row.teacher)
                for one, row in zip(said, rows, strict=True)
            ],
            dtype=np.bool_,
        )

    def share(self, right: Bools) -> Interval:
        """The share of true values with Wilson's interval."""
        return as_interval(wilson(int(right.sum()), len(right), self.confidence))

    def mean(self, values: Floats) -> Interval:
        """The mean of figures in [0, 1]."""
        return as_interval(mean_interval(values, self.confidence))

    def retention(self, scores: Scores, teacher: Scores) -> Interval | None:
        """The score as a share of the teacher's; ``None`` where the teacher has none."""
        found = ratio_of_means(scores.values, teacher.values, self.confidence)
        return None if found is None else as_interval(found)

    def agreement(self, entrant: Entrant) -> Interval | None:
        """The share of answers that say what the teacher said, where it said something valid."""
        if not self.answered:
            return None
        said = [entrant.said[i] for i in self.answered]
        return self.share(self.agrees(said, [self.rows[i] for i in self.answered]))

    def details(self, scores: Scores) -> dict[str, Interval]:
        """Means of the scorer's further figures, and micro figures of what it counted."""
        found = {name: self.mean(values) for name, values in scores.details.items()}
        counts = scores.counts
        if {"right", "given", "wanted"} <= counts.keys() and len(scores.values) > 1:
            right, given, wanted = (counts[name] for name in ("right", "given", "wanted"))
            found["field_f1_micro"] = self._micro(2 * right, given + wanted)
            found["field_precision_micro"] = self._micro(right, given)
            found["field_recall_micro"] = self._micro(right, wanted)
        return found

    def _micro(self, above: Floats, below: Floats) -> Interval:
        """A ratio of sums with its bootstrap interval by prompt; 0 of nothing is 0."""

        def statistic(rows: npt.NDArray[np.int64]) -> Floats:
            sums: Floats = above[rows].sum(-1) / np.maximum(below[rows].sum(-1), 1.0)
            return sums

        n = len(above)
        return as_interval(
            bootstrap_rows(
                statistic,
                n,
                resamples=self.resamples,
                seed=self.seed,
                confidence=self.confidence,
            )
        )

    def slices(self, scores: Scores) -> dict[str, Interval]:
        """Scores by what made the prompts, where that differs."""
        kinds = [self.rows[i].made_by for i in self.scored]
        if len(set(kinds)) < 2:
            return {}
        return {
            kind: self.mean(scores.values[[k == kind for k in kinds]])
            for kind in sorted(set(kinds))
        }

    def degeneration(self, entrant: Entrant) -> Degeneration:
        """How often output is broken, over all test prompts."""
        texts = [said.answer.text for said in entrant.said]
        loops = np.array([is_loop(text) for text in texts], dtype=np.bool_)
        unstopped = np.array([s.outcome is Outcome.TRUNCATED for s in entrant.said], dtype=np.bool_)
        empty = np.array(
            [
                said.outcome is not Outcome.FAILED
                and not said.answer.calls
                and not said.answer.text.strip()
                for said in entrant.said
            ],
            dtype=np.bool_,
        )
        return Degeneration(
            loops=self.share(loops),
            unstopped=self.share(unstopped),
            empty=self.share(empty),
            any=self.share(loops | unstopped | empty),
        )

    def examples(self, entrant: Entrant, scores: Scores) -> tuple[dict[str, str], ...]:
        """A few answers to read: the first that are wrong, and the first that are right."""
        places = range(len(self.scored))
        wrong = [k for k in places if scores.values[k] < 1][: EXAMPLES // 2]
        right = [k for k in places if scores.values[k] >= 1][: EXAMPLES - len(wrong)]
        return tuple(
            {
                "prompt": _shown(self.rows[self.scored[k]].text),
                "reference": _shown(self.rows[self.scored[k]].known.reference or ""),
                "teacher": _shown(written(self.rows[self.scored[k]].teacher)),
                "answer": _shown(written(entrant.said[self.scored[k]].answer)),
                "score": f"{scores.values[k]:.3g}",
            }
            for k in sorted([*wrong, *right])
        )


def written(answer: Answer | None) -> str:
    """An answer as a text, the calls that it makes below."""
    if answer is None:
        return ""
    calls = [f"{call.name}({call.arguments})" for call in answer.calls]
    return "\n".join([answer.text, *calls] if answer.text else calls)


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
