"""``overproof audit verdict --shadows``: the dose equivalent among students trained for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing import audit, finding, plan_of, write

from overproof.audit.finding_files import write_finding
from overproof.audit.preregistration import read_sealed_plan
from overproof.errors import DataError
from overproof.records.audit import Effect, Exactness, PValue, Standing, TestFinding

DOSES = (0, 1, 5, 20, 50, 100)


def case_of(tmp_path: Path, value: float, half: float | None) -> Path:
    """A case with one watermark finding of this effect."""
    key = "ab" * 32
    case = plan_of(
        tmp_path, f'[[tests]]\nkind = "watermark"\nscheme = "kgw"\nkey_sha256 = "{key}"\n'
    )
    low, high = (None, None) if half is None else (value - half, value + half)
    effect = Effect("mean hit above chance", value, low, high, 0.95 if half else None)
    p = PValue(0.001, Exactness.EXACT, "rank", "a draw", 0.001)
    found = TestFinding("watermark", Standing.DONE, "none", 100, "pairs", (p,), (effect,))
    write_finding(case, "watermark", read_sealed_plan(case / "plan.json").sha256, found)
    return case


def students(recipes: int = 4, seeds: int = 2) -> list[dict[str, Any]]:
    """Effects that grow with the dose, and little else."""
    rng = np.random.default_rng(3)
    return [
        {"recipe": f"r{r}", "dose_percent": dose, "seed": seed,
         "effect": 0.02 * np.log1p(dose) + 0.001 * float(rng.standard_normal())}
        for r in range(recipes) for dose in DOSES for seed in range(seeds)
    ]  # fmt: skip


def dose_of(verdict: dict[str, Any]) -> dict[str, Any]:
    (found,) = (each for each in verdict["how_much"] if each["name"] == "dose equivalent")
    return dict(found)


def test_the_dose_is_found_among_shadow_students(tmp_path: Path) -> None:
    case = case_of(tmp_path, 0.02 * float(np.log1p(20)), 0.002)
    shadows = write(tmp_path / "shadows.jsonl", students())
    dose = dose_of(finding("verdict", case, "--shadows", shadows))
    assert 10 < dose["low"] < 20 < dose["high"] < 40
    assert "compared by mean hit above chance" in dose["why"]
    assert "not the suspect's own share" in dose["why"]
    bare = dose_of(finding("verdict", case))
    assert bare["value"] is None
    assert "--shadows FILE" in bare["why"]


def test_what_does_not_identify_it(tmp_path: Path) -> None:
    case = case_of(tmp_path, 0.06, None)
    shadows = write(tmp_path / "shadows.jsonl", students())
    assert "no interval" in dose_of(finding("verdict", case, "--shadows", shadows))["why"]
    (case / "findings" / "watermark.json").unlink()
    none = finding("verdict", case, "--shadows", shadows, code=1)
    assert "0 watermark tests" in dose_of(none)["why"]
    few = write(tmp_path / "few.jsonl", students(recipes=2))
    (tmp_path / "second").mkdir()
    other = case_of(tmp_path / "second", 0.06, 0.002)
    assert "2 recipes" in dose_of(finding("verdict", other, "--shadows", few))["why"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe": ""}, "recipe"),
        ({"seed": 0.5}, "seed"),
        ({"dose_percent": 101}, "dose_percent"),
        ({"dose_percent": True}, "dose_percent"),
        ({"effect": None}, "effect"),
    ],
)
def test_lines_that_are_no_student(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    case = case_of(tmp_path, 0.06, 0.002)
    rows = [*students()[:1], students()[1] | change]
    error = audit("verdict", case, "--shadows", write(tmp_path / "s.jsonl", rows))
    assert isinstance(error, DataError)
    assert error.culprit.endswith("s.jsonl:2")
    assert said in error.reason
    (tmp_path / "empty.jsonl").write_text("")
    empty = audit("verdict", case, "--shadows", tmp_path / "empty.jsonl")
    assert "holds no shadow student" in str(empty)
    assert isinstance(audit("verdict", case, "--shadows", tmp_path / "missing"), DataError)
