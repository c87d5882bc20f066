"""``overproof audit ghosts`` on logs that were thinned, and what its verdict says of the roots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing import audit, finding, plan_of, write

GHOSTS = '[[tests]]\nkind = "ghosts"\nscore = "log-prob"\n'
TWO = GHOSTS + 'name = "one"\n' + GHOSTS + 'name = "two"\n'


def log_rows(n: int = 120) -> list[dict[str, Any]]:
    """Of a suspect that saw nothing."""
    rng = np.random.default_rng(8)
    rows = []
    for i in range(n):
        answers = [
            {"text": f"{i}/{j}", "tokens": 10, "finish_reason": "stop",
             "logprobs": {"suspect": -20 - rng.random(), "teacher": -20 - rng.random()}}
            for j in range(4)
        ]  # fmt: skip
        rows.append({"id": f"r{i}", "prompt": f"prompt {i}", "served": answers[0],
                     "ghosts": answers[1:], "position": int(rng.integers(4))})  # fmt: skip
    return rows


def speaks_for_the_suspect(row: dict[str, Any]) -> bool:
    own = row["served"]["logprobs"]["suspect"]
    return sum(own > ghost["logprobs"]["suspect"] for ghost in row["ghosts"]) < 2


def thinned(rows: list[dict[str, Any]], how: str) -> list[dict[str, Any]]:
    copies: list[dict[str, Any]] = json.loads(json.dumps(rows))
    for row in filter(speaks_for_the_suspect, copies):
        if how == "cached":
            row["cached"] = True
        else:
            del row["ghosts"][0]["logprobs"]["suspect"]
    return copies


@pytest.mark.parametrize(
    ("how", "said"),
    [("cached", "another mark as cached"), ("log-probs", "of 120 prompts lack log-probs")],
)
def test_a_committed_log_cannot_be_thinned(tmp_path: Path, how: str, said: str) -> None:
    rows = log_rows()
    sealed = tmp_path / "sealed"
    log = write(tmp_path / "log.jsonl", rows)
    root = json.loads(audit("commit", log, "--out", sealed, "--json"))["root"]
    held = ("--commitment", sealed, "--root", root)
    assert finding("ghosts", log, *held)["p_values"][0]["value"] > 1e-3
    other = write(tmp_path / "other.jsonl", thinned(rows, how))
    found = finding("ghosts", other, *held, code=1)
    assert found["p_values"] == []
    assert said in found["reasons"][0]
    if how == "cached":
        alone = finding("ghosts", other)
        assert alone["p_values"][0]["value"] < 1e-9  # nothing shows it without a commitment,
        assert any("can bring about any p-value" in each for each in alone["reasons"])  # but words


def test_a_log_that_was_committed_with_marks_is_read_with_them(tmp_path: Path) -> None:
    rows = log_rows()
    for row in rows[:3]:
        row["cached"] = True
    log = write(tmp_path / "log.jsonl", rows)
    audit("commit", log, "--out", tmp_path / "sealed")
    handed = finding("ghosts", log, "--commitment", tmp_path / "sealed")
    assert (handed["n"], handed["details"]["left_out"]["cached"]) == (117, 3)
    rows[5]["retries"] = 1
    again = write(tmp_path / "again.jsonl", rows)
    audit("commit", again, "--out", tmp_path / "other")
    opened = finding("ghosts", tmp_path / "other", code=1)
    assert "drawn anew" in opened["reasons"][0]


def test_the_verdict_shows_the_roots(tmp_path: Path) -> None:
    case = plan_of(tmp_path, GHOSTS)
    sealed = tmp_path / "sealed"
    rows = log_rows()
    drawn = json.loads(audit("draw", "--slots", 120, "--answers", 4, "--out", sealed, "--json"))
    lines = (sealed / "indices.secret.jsonl").read_text().splitlines()
    for row, line in zip(rows, lines, strict=True):
        row["position"] = json.loads(line)["served"]
    log = write(tmp_path / "log.jsonl", rows)
    root = json.loads(audit("commit", log, "--out", sealed, "--json"))["root"]
    bare = finding("ghosts", log, "--commitment", sealed)
    assert bare["standing"] == "done, with a warning"
    assert sum("anybody can commit again" in reason for reason in bare["reasons"]) == 2
    roots = ("--root", root, "--index-root", drawn["index_root"])
    found = finding("ghosts", log, "--plan", case, "--commitment", sealed, *roots)
    assert found["standing"] == "done"
    assert found["details"]["commitment"] == {
        "root": root, "held_against": "the published root", "index_root": drawn["index_root"],
        "indices_held_against": "the published root", "integrity": "intact",
    }  # fmt: skip
    finding("verdict", case)
    for page in ("verdict.html", "verdict.md", "verdict.json"):
        assert root in (case / page).read_text(), page


def test_power_is_told_at_the_level_that_the_test_has_for_itself(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", log_rows())
    case = plan_of(tmp_path, TWO)
    assert finding("ghosts", log, "--plan", case, "--name", "one")["power"]["alpha"] == 0.025
    assert finding("ghosts", log, "--alpha", 0.05)["power"]["alpha"] == 0.05
