"""Measuring one candidate on the test split: scores with intervals, slices, confusion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from overproof.config.recipe import Recipe
from overproof.evaluate.heldout import Answers, HeldOut
from overproof.records.certificate import (
    Candidate,
    Interval,
    ReliabilityBin,
    SliceScore,
)
from overproof.stats.calibration import ECE_BINS, ece_interval, reliability_bins
from overproof.stats.classification import confusion_counts, macro_f1_interval
from overproof.stats.intervals import Estimate, wilson

__all__ = ["Measure", "as_interval"]

Bools = npt.NDArray[np.bool_]


def as_interval(estimate: Estimate) -> Interval:
    """An estimate of the stats room as a record."""
    return Interval(
        estimate=estimate.estimate,
        low=estimate.low,
        high=estimate.high,
        confidence=estimate.confidence,
        method=estimate.method,
        n=estimate.n,
    )


@dataclass(frozen=True)
class Measure:
    """How candidates are measured: the test split, the confidence, and the bootstrap."""

    held: HeldOut
    confidence: float
    resamples: int
    seed: int

    @classmethod
    def of(cls, recipe: Recipe, held: HeldOut) -> Measure:
        """As the recipe says."""
        certificate = recipe.certificate
        return cls(held, certificate.confidence, certificate.bootstrap, recipe.run.seed)

    def share(self, right: Bools) -> Interval | None:
        """The share of true values with Wilson's interval; ``None`` of none."""
        if not len(right):
            return None
        return as_interval(wilson(int(right.sum()), len(right), self.confidence))

    def score(self, candidate: Candidate, answers: Answers, *, teacher: bool) -> Candidate:
        """``candidate`` with every score that the test split allows.

        Args:
            candidate: name, role and description, without scores.
            answers: its answers on the test split.
            teacher: that it is the teacher itself, whose agreement with itself is no news.
        """
        scores: dict[str, object] = {"invalid_share": self.share(~answers.valid)}
        if not teacher:
            scores["agreement"] = self.share(self.held.agrees(answers))
        if self.held.gold is not None:
            scores |= self._against_gold(answers)
        elif not teacher:
            scores["confusion"] = self._confusion_with_teacher(answers)
        return candidate.model_copy(update=scores)

    def _against_gold(self, answers: Answers) -> dict[str, object]:
        held = self.held
        assert held.gold is not None
        right = held.right(answers)
        counts = confusion_counts(held.gold, answers.label, len(held.labels))
        scores: dict[str, object] = {
            "accuracy": self.share(right),
            "slices": self._slices(right),
            "confusion": tuple(tuple(row) for row in counts.tolist()),
        }
        if len(right) > 1:
            scores["macro_f1"] = as_interval(
                macro_f1_interval(
                    counts,
                    resamples=self.resamples,
                    seed=self.seed,
                    confidence=self.confidence,
                )
            )
        known = np.isfinite(answers.confidence)
        if known.sum() > 1:
            confidence, hits = answers.confidence[known], right[known]
            scores["ece"] = as_interval(
                ece_interval(
                    confidence,
                    hits,
                    resamples=self.resamples,
                    seed=self.seed,
                    level=self.confidence,
                )
            )
            scores["reliability"] = self._reliability(confidence, hits)
        return scores

    def _reliability(
        self, confidence: npt.NDArray[np.float64], hits: Bools
    ) -> tuple[ReliabilityBin, ...]:
        """The bins that hold an input; the others have nothing to say."""
        return tuple(
            ReliabilityBin(
                low=cell.low,
                high=cell.high,
                n=cell.n,
                confidence=cell.confidence,
                accuracy=as_interval(wilson(cell.n_right, cell.n, self.confidence)),
            )
            for cell in reliability_bins(confidence, hits, ECE_BINS)
            if cell.n
        )

    def _confusion_with_teacher(self, answers: Answers) -> tuple[tuple[int, ...], ...]:
        """Teacher's label by this one's, over the inputs that the teacher answered validly."""
        valid = self.held.teacher.valid
        counts = confusion_counts(
            self.held.teacher.label[valid], answers.label[valid], len(self.held.labels)
        )
        return tuple(tuple(row) for row in counts.tolist())

    def _slices(self, right: Bools) -> tuple[SliceScore, ...]:
        """Accuracy by gold label and by tercile of length; slices without an input are left out."""
        held = self.held
        masks = [("label", label, held.gold == i) for i, label in enumerate(held.labels)]
        masks += [("length", name, mask) for name, mask in length_terciles(held.texts)]
        scores = []
        for by, value, mask in masks:
            accuracy = self.share(right[mask])
            if accuracy is not None:
                scores.append(SliceScore(by=by, value=value, accuracy=accuracy))
        return tuple(scores)


def length_terciles(texts: tuple[str, ...]) -> list[tuple[str, Bools]]:
    """Thirds of the texts by length in characters, each named by its range.

    Texts of one length stay together, so the thirds are not always equal, nor always three.
    """
    length = np.array([len(text) for text in texts])
    edges = [int(edge) for edge in np.unique(np.quantile(length, [1 / 3, 2 / 3], method="lower"))]
    ranges: list[tuple[str, Bools]] = []
    above = -1
    for edge in edges:
        low = max(above + 1, 1)
        name = f"{low} to {edge} characters" if low < edge else f"{edge} characters"
        ranges.append((name, (length > above) & (length <= edge)))
        above = edge
    ranges.append((f"{above + 1} characters and more", length > above))
    return [(name, mask) for name, mask in ranges if mask.any()]
