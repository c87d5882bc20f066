"""Comparing candidates in pairs on the same test inputs, and the power of doing so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from overproof.config.recipe import CertificateConfig
from overproof.evaluate.candidates import as_interval
from overproof.evaluate.heldout import TEACHER, Answers, HeldOut
from overproof.records.certificate import Comparison, Power
from overproof.stats.paired import (
    NonInferiority,
    non_inferiority,
    partly_paired_non_inferiority,
)
from overproof.stats.power import items_needed, non_inferiority_power, partly_paired_power

__all__ = ["AGREEMENT", "Comparer"]

Bools = npt.NDArray[np.bool_]
AGREEMENT = "agreement with the teacher"


@dataclass(frozen=True)
class Comparer:
    """Compares at the recipe's margin: in accuracy with gold, else in agreement."""

    held: HeldOut
    config: CertificateConfig

    @property
    def metric(self) -> str:
        """What is compared."""
        return AGREEMENT if self.held.gold is None else self.config.metric

    def _right(self, answers: Answers) -> Bools:
        held = self.held
        return held.agrees(answers) if held.gold is None else held.right(answers)

    def _record(self, first: str, second: str, result: NonInferiority) -> Comparison:
        return Comparison(
            first=first,
            second=second,
            metric=self.metric,
            difference=as_interval(result.difference),
            only_first_right=result.first_only,
            only_second_right=result.second_only,
            margin=result.margin,
            alpha=result.alpha,
            p_value=result.p_value,
            verdict=result.verdict,
            superior=result.superior,
        )

    def pair(
        self, first: str, first_answers: Answers, second: str, second_answers: Answers
    ) -> Comparison | None:
        """Two candidates, neither of which is the measure; ``None`` where nothing can be compared.

        Without gold neither may be the teacher.
        """
        one, other = self._right(first_answers), self._right(second_answers)
        if not len(one):
            return None
        result = non_inferiority(one, other, self.config.margin, self.config.alpha)
        return self._record(first, second, result)

    def with_teacher(self, name: str, answers: Answers) -> Comparison | None:
        """A student against the teacher.

        Without gold the teacher is measured by its agreement with itself when asked again, and the
        student by its agreement with the first answers; ``None`` where nothing was asked again.
        """
        held = self.held
        if held.gold is not None:
            return self.pair(name, answers, TEACHER, held.teacher)
        if not held.repeats.any():
            return None
        valid = held.teacher.valid
        result = partly_paired_non_inferiority(
            held.agrees(answers),
            held.same_again[valid],
            held.repeats[valid],
            self.config.margin,
            self.config.alpha,
        )
        return self._record(name, TEACHER, result)

    def power(self, student: Answers | None, *, as_observed: bool = False) -> Power:
        """Power at the margin, for the student that the verdict is about.

        It is the planned one: at the discordance that the recipe assumed before anything was
        collected. Without gold it follows from the teacher's agreement with itself and from the
        number of inputs asked twice.

        Args:
            student: the student's answers.
            as_observed: take the observed discordance instead where it is the greater.
        """
        held, config = self.held, self.config
        observed = None if student is None else self._discordance(student)
        if held.gold is None:
            n = int(held.teacher.valid.sum())
            power, needed = self._agreement_power(n)
        else:
            n = len(held)
            seen = observed if as_observed and observed is not None else 0.0
            discordance = max(config.discordance, seen)
            power = non_inferiority_power(n, config.margin, discordance, config.alpha)
            needed = items_needed(config.margin, discordance, config.alpha, config.power)
        return Power(
            n_test=n,
            margin=config.margin,
            alpha=config.alpha,
            assumed_discordance=config.discordance,
            observed_discordance=observed,
            power=power,
            n_needed=needed,
            underpowered=power < config.power,
        )

    def _discordance(self, student: Answers) -> float | None:
        """Share of the inputs that exactly one of student and teacher got right."""
        held = self.held
        if held.gold is not None:
            return float(np.mean(held.right(student) != held.right(held.teacher)))
        if not held.repeats.any():
            return None
        agrees = student.label == held.teacher.label
        return float(np.mean((agrees != held.same_again)[held.repeats]))

    def _agreement_power(self, n: int) -> tuple[float, int]:
        """Power without gold, and the inputs needed if every one of them were asked twice."""
        config, repeats = self.config, int(self.held.repeats.sum())
        share = float(self.held.same_again[self.held.repeats].mean()) if repeats else 0.5
        power = partly_paired_power(n, repeats, share, config.margin, config.alpha)
        variance = 2 * share * (1 - share)
        return power, items_needed(config.margin, variance, config.alpha, config.power)
