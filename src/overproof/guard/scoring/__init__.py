"""Verdicts against the truth of a labelled log: what was caught, who was hurt, what leaked."""

from __future__ import annotations

from overproof.guard.scoring.files import read_truth, read_verdicts
from overproof.guard.scoring.outcomes import Outcomes, outcomes_of
from overproof.guard.scoring.score import score, score_files, score_outcomes
from overproof.guard.scoring.scores import ClassScore, LevelScore, Scores, Share
from overproof.guard.scoring.table import table_lines
from overproof.guard.scoring.totals import AttackTraffic, Totals, read_totals

__all__ = [
    "AttackTraffic",
    "ClassScore",
    "LevelScore",
    "Outcomes",
    "Scores",
    "Share",
    "Totals",
    "outcomes_of",
    "read_totals",
    "read_truth",
    "read_verdicts",
    "score",
    "score_files",
    "score_outcomes",
    "table_lines",
]
