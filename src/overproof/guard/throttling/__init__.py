"""The throttling experiment: do these accounts react to each other's throttling?

A gateway gives a random half of a suspected community brief, honest 429 answers with Retry-After,
in windows that a coin chooses, and looks at the *other* half. Because the coins are ours, the
p-values are exact: no peers, no calibration, no model of honest traffic.

`Design` says who is refused when; `Experiment` drives it within a budget and keeps the record;
`analyse` reads the record; `plan_power` says beforehand what can be seen.
"""

from __future__ import annotations

from overproof.guard.throttling.design import Budget, Design
from overproof.guard.throttling.experiment import Experiment
from overproof.guard.throttling.load_shift import load_shift
from overproof.guard.throttling.observations import Observations
from overproof.guard.throttling.power import Power, plan_power
from overproof.guard.throttling.resurfacing import resurfacing
from overproof.guard.throttling.verdict import ExperimentResult, Outcome, analyse

__all__ = [
    "Budget",
    "Design",
    "Experiment",
    "ExperimentResult",
    "Observations",
    "Outcome",
    "Power",
    "analyse",
    "load_shift",
    "plan_power",
    "resurfacing",
]
