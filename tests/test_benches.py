"""Every bench prints the object that a table in the docs and a check of the targets can read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from long_runs import LONG as LONG_RUN

ROOT = Path(__file__).resolve().parent.parent
BENCHES = (
    "audit_marks",
    "audit_speed",
    "collect",
    "encoder",
    "faults",
    "filters",
    "guard_adaptive",
    "guard_peers",
    "guard_quality",
    "guard_speed",
    "guard_throttling",
    "imports",
    "ledger",
    "predict",
    "stats",
    "train",
)
# A minute or more each, of training or of simulated traffic: `make bench` runs them.
LONG = {"audit_marks", "audit_speed", "guard_peers", "guard_quality", "guard_speed", "train"}
TENS_OF_SECONDS = {"collect", "encoder", "filters", "guard_throttling"}

pytestmark = pytest.mark.slow


def test_every_bench_is_checked_here_and_run_by_make() -> None:
    found = {path.stem for path in (ROOT / "bench").glob("*.py") if "--quick" in path.read_text()}
    assert found == set(BENCHES)
    makefile = (ROOT / "Makefile").read_text()
    assert all(f" {name}" in makefile for name in BENCHES)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=LONG_RUN if name in TENS_OF_SECONDS else ())
        for name in BENCHES
        if name not in LONG
    ],
)
def test_a_quick_run_prints_one_object(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / f"{name}.py"), "--quick", "--json"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["bench"] == name
    assert "cores" in result["machine"]
    assert result["rows"]
    for row in result["rows"]:
        check(row)


def check(row: dict[str, Any]) -> None:
    assert row.keys() - {"why"} == {"metric", "value", "target", "unit", "met", "peer"}
    assert isinstance(row["metric"], str)
    assert isinstance(row["value"], int | float | None)
    assert row["met"] in (True, False, None)
    if row["met"] is None:
        assert row["why"]
    else:
        assert isinstance(row["target"], int | float)
        assert "why" not in row
    peers = row["peer"] or []
    for peer in peers if isinstance(peers, list) else [peers]:
        assert {"name", "value"} <= peer.keys() <= {"name", "value", "unit", "why"}
        assert peer["value"] is not None or peer["why"]
