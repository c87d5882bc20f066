"""``overproof audit ghosts`` in planned stages: looks in order, on the same data, once each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing import audit, finding, write
from scoring_server import ScoringServer

from overproof.audit import ghost_scores
from overproof.errors import ConfigError, DataError

PLAN = """
suspect = "s"
teacher = "t"
alpha = 0.01
[[tests]]
kind = "ghosts"
score = "log-prob"
prompts = 60
looks = [20, 40, 60]
"""


def log_rows(n: int = 60, lift: float = 0.0, seed: int = 7) -> list[dict[str, Any]]:
    """Answers that the suspect finds likelier by ``lift`` standard deviations where served."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        answers = [
            {"text": f"{i}/{j} " + "w" * int(rng.integers(20, 60)), "tokens": 10,
             "logprobs": {"suspect": -30 + rng.standard_normal() + lift * (j == 0),
                          "teacher": -20 + rng.standard_normal()}}
            for j in range(4)
        ]  # fmt: skip
        rows.append({"id": f"r{i}", "prompt": f"prompt {i}", "served": answers[0],
                     "ghosts": answers[1:], "position": int(rng.integers(4))})  # fmt: skip
    return rows


def plan_at(tmp_path: Path, text: str = PLAN) -> Path:
    (tmp_path / "plan.toml").write_text(text)
    assert "publish this hash" in audit("plan", tmp_path / "plan.toml", "--out", tmp_path / "case")
    return tmp_path / "case"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    return plan_at(tmp_path)


def test_three_looks_from_a_growing_log_to_no_evidence(case: Path, tmp_path: Path) -> None:
    rows = log_rows()
    for k, n in enumerate((20, 47), start=1):
        log = write(tmp_path / "log.jsonl", rows[:n])
        found = finding("ghosts", log, "--plan", case)
        assert found["standing"] == "not decided yet: a later look is planned"
        assert found["p_values"] == []
        assert found["n"] == 20 * k
        assert f"look {k} of 3" in found["reasons"][0]
        verdict = finding("verdict", case, code=1)
        assert verdict["tests"][0]["decision"] == "not decided yet, a later look is planned"
        assert any("has looks left" in line for line in verdict["would_change"])
    early = audit("ghosts", log, "--plan", case)
    assert "look 3 of 3: was planned at 60 requests; the log has 47" in str(early)
    said = audit("ghosts", write(tmp_path / "log.jsonl", rows), "--plan", case)
    for word in ("look 3", "boundary", "α spent", "exact", "stage-wise", "over 3 looks"):
        assert word in " ".join(said.split()), word
    verdict = finding("verdict", case)
    assert verdict["verdict"] == "no evidence"
    # Three sets of data, as three looks have it.
    assert not any("different sets of data" in line for line in verdict["caveats"])
    journal = (case / "plan.json.data.jsonl").read_text().splitlines()
    assert len(journal) == 3
    scored = json.loads((case / "looks" / "ghosts.2.json").read_text())["record"]
    assert len(scored["requests"]) == len(scored["pools"]) == 20


def test_an_early_look_decides_and_no_later_one_comes(case: Path, tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", log_rows(lift=3.0))
    found = finding("ghosts", log, "--plan", case)
    assert found["n"] == 20
    assert found["details"]["look"] == 1
    (p,) = found["p_values"]
    assert p["exactness"] == "exact"
    assert p["floor"] <= p["value"] <= found["details"]["looks"][0]["spent"] < 1e-3
    assert "look 1 of 3" in p["method"]
    assert "reaches its boundary" in p["method"]
    share = next(e for e in found["effects"] if e["name"].endswith("used, at least"))
    assert "of the first 20 requests; holds at all 3 looks together" in share["why"]
    assert finding("verdict", case)["verdict"] == "trained on these outputs"
    over = audit("ghosts", log, "--plan", case)
    assert isinstance(over, ConfigError)
    assert "was decided at look 1 of 3: reject" in str(over)
    assert "never comes" in str(audit("ghosts", log, "--plan", case, "--look", 2))
    # The deciding look again, on the same data, is the same finding.
    assert finding("ghosts", log, "--plan", case, "--look", 1) == found


def test_looks_that_were_not_planned_or_come_out_of_order(case: Path, tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", log_rows())
    for wanted, said in ((3, "out of order"), (4, "was not planned"), (0, "was not planned")):
        error = audit("ghosts", log, "--plan", case, "--look", wanted)
        assert isinstance(error, ConfigError)
        assert said in str(error)
    assert not (case / "looks").exists()
    audit("ghosts", log, "--plan", case, "--look", 1)
    audit("ghosts", log, "--plan", case)
    assert "was taken before" in str(audit("ghosts", log, "--plan", case, "--look", 1))
    assert "of no plan in stages" in str(audit("ghosts", log, "--look", 1))
    assert "was planned as 0.01" in str(audit("ghosts", log, "--plan", case, "--alpha", 0.05))


def test_a_look_is_not_repeated_with_other_data(case: Path, tmp_path: Path) -> None:
    rows = log_rows()
    log = write(tmp_path / "log.jsonl", rows)
    audit("ghosts", log, "--plan", case)
    other = [dict(row) for row in rows]
    other[4] = other[4] | {"served": rows[4]["ghosts"][0], "ghosts": [rows[4]["served"],
                           *rows[4]["ghosts"][1:]]}  # fmt: skip
    for arguments in ((), ("--look", 1)):
        changed = write(tmp_path / "other.jsonl", other)
        error = audit("ghosts", changed, "--plan", case, *arguments)
        assert isinstance(error, DataError)
        assert "other.jsonl:5" in str(error)
        assert "is not what look 1 of ghosts was taken on" in str(error)
    # The same requests in another order are other data; behind the look they are free.
    swapped = write(tmp_path / "swapped.jsonl", [rows[1], rows[0], *rows[2:]])
    assert "swapped.jsonl:1" in str(audit("ghosts", swapped, "--plan", case))
    free = write(tmp_path / "free.jsonl", [*rows[:20], *reversed(rows[20:])])
    assert finding("ghosts", free, "--plan", case)["details"]["look"] == 2
    # Another suspect for the same looks.
    (tmp_path / "suspect.safetensors").write_bytes(b"x")
    error = audit("ghosts", log, "--plan", case, "--suspect", tmp_path / "suspect.safetensors",
                  "--look", 2)  # fmt: skip
    assert isinstance(error, ConfigError | DataError)


def test_the_record_of_looks_is_guarded(case: Path, tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", log_rows())
    audit("ghosts", log, "--plan", case)
    file = case / "looks" / "ghosts.1.json"
    whole = file.read_text()
    for spoilt in (whole.replace("-30.", "-31.", 1), whole[:50], "[]", ""):
        file.write_text(spoilt)
        assert "is not a look as it was written" in str(audit("ghosts", log, "--plan", case))
    file.unlink()
    error = audit("ghosts", log, "--plan", case)
    assert isinstance(error, DataError)
    assert "a look cannot be taken twice" in str(error)
    file.write_text(whole)
    assert finding("ghosts", log, "--plan", case)["details"]["look"] == 2


def without_suspect(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        for answer in (row["served"], *row["ghosts"]):
            answer["logprobs"].pop("suspect")
    return rows


def test_the_suspect_is_asked_about_new_requests_alone(case: Path, tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", without_suspect(log_rows()))
    asked = []
    for _ in range(2):
        with ScoringServer() as server:
            found = finding("ghosts", log, "--suspect", f"m@{server.url}", "--plan", case)
            asked.append(len(server.asked))
    assert found["details"]["look"] == 2
    assert asked[0] == asked[1]
    error = audit("ghosts", log, "--suspect", "other@http://127.0.0.1:9/v1", "--plan", case)
    assert isinstance(error, ConfigError)
    assert "is not the one of look 1" in str(error)
    assert "the suspect" in str(audit("ghosts", log, "--plan", case))


def test_a_dead_server_uses_nothing_up_and_a_kill_keeps_the_data(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = without_suspect(log_rows())
    log = write(tmp_path / "log.jsonl", rows)
    missing = audit("ghosts", log, "--suspect", tmp_path / "no-model", "--plan", case)
    assert isinstance(missing, Exception)
    opened = json.loads((case / "looks" / "ghosts.1.json").read_text())["record"]
    assert opened["fate"] == "ended before anything of the suspect was shown"

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, ScoringServer() as server:
        patch.setattr(ghost_scores, "attach_logprobs", killed)
        audit("ghosts", log, "--suspect", f"m@{server.url}", "--plan", case, code=130)
    record = json.loads((case / "looks" / "ghosts.1.json").read_text())["record"]
    assert (record["fate"], record["pools"]) == ("opened", [])
    other = write(tmp_path / "other.jsonl", [rows[0] | {"prompt": "x"}, *rows[1:]])
    with ScoringServer() as server:
        rest = ("--suspect", f"m@{server.url}", "--plan", case)
        assert "other.jsonl:1" in str(audit("ghosts", other, *rest))
        assert finding("ghosts", log, *rest)["details"]["look"] == 1


def test_a_refused_log_uses_no_look_up(case: Path, tmp_path: Path) -> None:
    rows = log_rows()
    spoilt = [dict(row) for row in rows]
    spoilt[3]["retries"] = 2
    found = finding("ghosts", write(tmp_path / "a.jsonl", spoilt), "--plan", case, code=1)
    assert "drawn anew" in found["reasons"][0]
    assert finding("ghosts", write(tmp_path / "b.jsonl", rows), "--plan", case)["n"] == 20
    # Two sets of data at one look: the verdict says so.
    caveats = finding("verdict", case, code=1)["caveats"]
    assert any("2 different sets of data" in line for line in caveats)
    (case / "looks").chmod(0o500)
    try:
        blocked = audit("ghosts", tmp_path / "b.jsonl", "--plan", case)
    finally:
        (case / "looks").chmod(0o700)
    if isinstance(blocked, DataError):  # the superuser may write anyway
        assert "cannot be written" in str(blocked)


def test_plans_of_stages(tmp_path: Path) -> None:
    def refused(lines: str) -> str:
        (tmp_path / "bad.toml").write_text(
            'suspect = "s"\nteacher = "t"\n[[tests]]\nkind = "ghosts"\n' + lines
        )
        error = audit("plan", tmp_path / "bad.toml", "--out", tmp_path / "bad")
        assert isinstance(error, ConfigError)
        return str(error)

    assert "need the number of requests" in refused("looks = 3")
    assert "must increase and end with all" in refused("prompts = 60\nlooks = [20, 40]")
    assert "must increase" in refused("prompts = 3\nlooks = 4")
    assert "mixed" in refused("prompts = 60\nlooks = [0.5, 60]")
    assert "not above 0" in refused("prompts = 60\nlooks = [0.0, 1.0]")
    assert "one look" in refused('prompts = 60\nlooks = 2\nscore = "weighted"')
    assert "1 to 100" in refused("prompts = 600\nlooks = 101")
    assert "spending" in refused('spending = "all"')
    shares = plan_at(tmp_path, PLAN.replace("[20, 40, 60]", '[0.5, 1.0]\nspending = "pocock"'))
    found = finding("ghosts", write(tmp_path / "log.jsonl", log_rows()), "--plan", shares)
    assert found["details"]["looks_planned"] == [30, 60]
    assert found["details"]["looks"][0]["allowed"] > 0.005


def test_a_number_of_prompts_without_stages(tmp_path: Path) -> None:
    case = plan_at(tmp_path, PLAN.replace("looks = [20, 40, 60]", ""))
    found = finding("ghosts", write(tmp_path / "a.jsonl", log_rows(64)), "--plan", case)
    assert found["n"] == 60
    assert any("4 request(s) behind the planned 60" in reason for reason in found["reasons"])
    few = finding("ghosts", write(tmp_path / "b.jsonl", log_rows(50)), "--plan", case)
    assert any("50 request(s) came of the 60" in reason for reason in few["reasons"])


def test_the_level_of_one_test_among_several(tmp_path: Path) -> None:
    case = plan_at(tmp_path, PLAN + '[[tests]]\nkind = "weights"\n')
    found = finding("ghosts", write(tmp_path / "a.jsonl", log_rows(lift=3.0)), "--plan", case)
    assert found["details"]["level"] == pytest.approx(0.005)
    assert found["power"]["alpha"] == pytest.approx(0.005)
    assert finding("verdict", case)["tests"][0]["decision"] == "null hypothesis rejected"


def test_power_knows_looks() -> None:
    said = audit("power", "ghosts", "--looks", 3, "--alpha", 0.005)
    assert "looks = 3" in said
    assert "on average" in said
    found = json.loads(audit("power", "ghosts", "--looks", 3, "--spending", "pocock", "--json"))
    stages = found["stages"]
    assert stages["at"][-1] == stages["prompts"] >= 0.99 * found["prompts"]
    assert sum(stages["by_look"]) >= 0.9
    assert stages["spent"][-1] <= 0.01
    assert "stages" not in json.loads(audit("power", "ghosts", "--json"))
    assert "--looks" in str(audit("power", "ghosts", "--looks", 0))
    assert "--spending" in str(audit("power", "ghosts", "--looks", 2, "--spending", "x"))
