"""What the experiment came to, in words that claim no more than it shows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from overproof.errors import ConfigError
from overproof.guard.throttling.design import Design
from overproof.guard.throttling.load_shift import LoadShift, load_shift
from overproof.guard.throttling.observations import Observations
from overproof.guard.throttling.resurfacing import Resurfacing, resurfacing
from overproof.records.traffic import Evidence

__all__ = ["ASSUMPTION", "ExperimentResult", "Outcome", "analyse"]

ASSUMPTION = (
    "exact by our own random draw; rests on no calibration, only on these accounts being served "
    "alike otherwise: no shared quota and no server so full that refusing some speeds up others"
)
SHOWS = "These accounts react to each other's throttling: something runs them in common."
CAVEAT = (
    "That is common control, not harm: one company with many keys and a client that falls over "
    "to the next reacts too. Whose it is, and whether it was declared, must be asked."
)
SILENT = (
    "No reaction to each other's throttling was shown. That clears nobody: accounts that each "
    "wait out their own refusals do not react."
)
NOTHING = "Nothing can be said: too few windows or requests for any answer at this level."


class Outcome(StrEnum):
    """Of an experiment at a level."""

    REACTS = "reacts"
    NO_REACTION_SHOWN = "no reaction shown"
    CANNOT_SAY = "cannot say"


@dataclass(frozen=True)
class ExperimentResult:
    """Both tests of one experiment.

    Attributes:
        p_value: of both together: twice the smaller (Bonferroni), at most 1.
        alpha: the level that the outcome is stated at.
        accounts: N.
        refusals: attempts refused.
        assumption: what the p-values rest on.
    """

    load: LoadShift
    prompts: Resurfacing
    p_value: float
    alpha: float
    outcome: Outcome
    accounts: int
    refusals: int
    assumption: str = ASSUMPTION

    def lines(self) -> list[str]:
        """The result for a reader."""
        load, back = self.load, self.prompts
        floor = min(1.0, 2 * min(load.floor, back.floor))
        said = {
            Outcome.REACTS: [SHOWS, CAVEAT],
            Outcome.NO_REACTION_SHOWN: [SILENT],
            Outcome.CANNOT_SAY: [NOTHING],
        }[self.outcome]
        return [
            f"{self.accounts} accounts, {load.windows_on} of {load.windows} windows on, "
            f"{self.refusals:,} requests refused",
            f"load of the half that was not refused: x {load.factor.estimate:.2f} "
            f"[{load.factor.low:.2f}, {load.factor.high:.2f}], p = {load.p_value:.2g}",
            f"first requests that came back under another account: {back.on[0]} of {back.on[1]} "
            f"refused, {back.off[0]} of {back.off[1]} served; because of the refusal "
            f"{back.share.estimate:.0%} [{back.share.low:.0%}, {back.share.high:.0%}], "
            f"p = {back.p_value:.2g}",
            f"both together: p = {self.p_value:.2g} (smallest possible {floor:.1g}), "
            f"level {self.alpha:g}",
            *said,
            f"Rests on: {self.assumption}.",
        ]

    def evidence(self) -> Evidence:
        """For a verdict: the same words, shorter."""
        load, back = self.load, self.prompts
        return Evidence(
            signal="throttling experiment",
            family="coordination",
            detail=(
                f"load of accounts not refused x {load.factor.estimate:.2f}; "
                f"{back.on[0]} of {back.on[1]} refused prompts came back under another account, "
                f"{back.off[0]} of {back.off[1]} served ones: "
                + {
                    Outcome.REACTS: "common control, not harm",
                    Outcome.NO_REACTION_SHOWN: "no common control shown",
                    Outcome.CANNOT_SAY: "cannot say",
                }[self.outcome]
            ),
            p_value=self.p_value,
        )


def analyse(
    design: Design, seen: Observations, *, alpha: float = 0.01, confidence: float = 0.95
) -> ExperimentResult:
    """Both tests of a finished experiment, and what they come to at level ``alpha``.

    Args:
        design: with the secret that it was run with.
        seen: the record, from `Experiment.observations`.
        alpha: the share of honest communities that this calls common control, at most.
        confidence: of the effects' intervals.

    Raises:
        ConfigError: ``alpha`` is no level.
        DataError: the record was cut off.
    """
    if not 0 < alpha < 1:
        raise ConfigError("alpha", f"{alpha} is no level", "take one between 0 and 1, say 0.01")
    load = load_shift(design, seen, confidence=confidence)
    prompts = resurfacing(design, seen, confidence=confidence)
    p_value = min(1.0, 2 * min(load.p_value, prompts.p_value))
    able = [
        test.floor * 2 <= alpha
        for test, traffic in ((load, load.on + load.off), (prompts, prompts.on[1]))
        if traffic
    ]
    if not (any(able) and any(seen.refused) and load.windows_on < load.windows):
        outcome = Outcome.CANNOT_SAY
    else:
        outcome = Outcome.REACTS if p_value <= alpha else Outcome.NO_REACTION_SHOWN
    return ExperimentResult(
        load=load,
        prompts=prompts,
        p_value=p_value,
        alpha=alpha,
        outcome=outcome,
        accounts=len(design.order),
        refusals=sum(seen.refused),
    )
