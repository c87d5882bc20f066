"""The shipped heads reach the figures that stand beside their texts, and can be fitted anew."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

STUDY = Path(__file__).parents[2] / "studies" / "guard_text"


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=STUDY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_held_out_families_are_found_as_the_figures_say() -> None:
    kept = json.loads((STUDY / "figures.json").read_text("utf-8"))["held_out"]
    assert json.loads(run("measure.py"))["held_out"] == kept
    floors = {"elicitation": 0.65, "rubric": 0.3, "synthesis": 0.45, "technique": 0.2}
    for head, floor in floors.items():
        assert kept[head]["tpr_of_families_with_interval"][0] >= floor
        assert kept[head]["false_positives"] <= 0.03 * kept[head]["honest_texts"]


@pytest.mark.slow
def test_fitting_anew_gives_the_same_bytes() -> None:
    assert "the same bytes" in run("train.py", "--check")
