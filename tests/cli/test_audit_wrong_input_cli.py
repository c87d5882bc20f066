"""``overproof audit`` on run directories and ledgers, and on input that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from auditing import audit, finding, plan_of, write
from scoring_server import ScoringServer

from overproof.audit.served_ledger import note_served
from overproof.errors import ConfigError, DataError, OverproofError
from overproof.records.exchange import (
    Completion,
    Exchange,
    Message,
    Outcome,
    Request,
    TokenLogprob,
)
from overproof.records.ledger import Ledger, ledger_path

GHOSTS = '[[tests]]\nkind = "ghosts"\nscore = "log-prob"\n'


def exchange(prompt: str, sample: int, text: str) -> Exchange:
    rng = np.random.default_rng([sample, *prompt.encode()])
    return Exchange(
        request=Request(model="m", messages=(Message(role="user", content=prompt),), sample=sample),
        completion=Completion(
            outcome=Outcome.ANSWERED,
            text=text,
            finish_reason="stop",
            logprobs=tuple(
                TokenLogprob(token="x", logprob=-float(rng.exponential())) for _ in range(3)
            ),
        ),
        teacher="t",
        created_at="2026-01-01T00:00:00Z",
    )


def run_directory(folder: Path, prompts: int = 20, noted: bool = True) -> Path:
    """A run with four samples a prompt, and a note of which one went out."""
    rng = np.random.default_rng(4)
    path = ledger_path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Ledger.open(path, write=True) as ledger:
        for i in range(prompts):
            for sample in range(4):
                ledger.submit(exchange(f"prompt {i}", sample, f"{rng.integers(10**9)} words"))
            if noted:
                first = exchange(f"prompt {i}", 0, "").request
                note_served(ledger, first.key, int(rng.integers(4)))
    return folder


def test_a_run_directory_and_its_ledger(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run")
    case = plan_of(tmp_path, GHOSTS)
    with ScoringServer() as server:
        suspect = ("--suspect", f"m@{server.url}")
        found = finding("ghosts", run, "--plan", case, *suspect)
        again = finding("ghosts", ledger_path(run), *suspect, "--alpha", 0.05)
    assert found["n"] == 20
    assert found["p_values"][0]["exactness"] == "exact"
    assert found["p_values"] == again["p_values"]
    # The completions' own log-probs are the teacher's, and the place is known.
    names = {check["name"] for check in found["details"]["checks"]}
    assert {"the teacher's log-prob a token", "the place in the order of generation"} <= names
    assert ledger_path(run).name in (case / "plan.json.data.jsonl").read_text()
    with Ledger.open(ledger_path(run), write=True) as ledger:  # a sample that failed
        late = exchange("late", 0, "text")
        ledger.submit(late)
        lost = Completion(outcome=Outcome.FAILED, text="", finish_reason="stop")
        ledger.submit(exchange("late", 1, "").model_copy(update={"completion": lost}))
        note_served(ledger, late.request.key, 0)
    with ScoringServer() as server:
        found = finding("ghosts", run, "--suspect", f"m@{server.url}", "--alpha", 0.05)
    assert found["n"] == 20
    assert any("1 prompt(s) of the ledger left out whole" in each for each in found["reasons"])
    unscored = finding("ghosts", run, "--plan", case, code=1)
    assert "no prompt has the log-probs of 'suspect'" in unscored["reasons"][0]


@pytest.mark.slow
def test_a_run_directory_in_stages(tmp_path: Path) -> None:
    run = run_directory(tmp_path / "run")
    case = plan_of(tmp_path, GHOSTS + "prompts = 20\nlooks = 2\n")
    with ScoringServer() as server:
        suspect = ("--suspect", f"m@{server.url}")
        assert finding("ghosts", run, "--plan", case, *suspect)["n"] == 10
        assert finding("ghosts", run, "--plan", case, *suspect)["n"] == 20


def test_ledgers_that_do_not_say_what_was_served(tmp_path: Path) -> None:
    silent = audit("ghosts", run_directory(tmp_path / "silent", 2, noted=False))
    assert isinstance(silent, DataError)
    assert "does not say which samples were served" in str(silent)
    run = run_directory(tmp_path / "run", 2)
    with Ledger.open(ledger_path(run), write=True) as ledger:
        note_served(ledger, "0" * 64, 1)
        first = exchange("prompt 0", 0, "").request.key
        ledger.note("ghosts-served", {"request": first, "sample": 99})
    assert "two samples are noted as served" in str(audit("ghosts", run))
    assert isinstance(audit("ghosts", tmp_path / "nowhere"), OverproofError)
    (tmp_path / "empty").mkdir()
    assert isinstance(audit("ghosts", tmp_path / "empty"), OverproofError)


def log_rows(n: int = 150, longer: float = 0.0, likelier: float = 0.0) -> list[dict[str, Any]]:
    """Served answers that are longer than their ghosts, or likelier to the teacher."""
    rng = np.random.default_rng(12)
    rows = []
    for i in range(n):
        answers = []
        for j in range(4):
            tokens = int(40 * np.exp(0.2 * rng.standard_normal() + longer * (j == 0)))
            each = -2 + 0.2 * rng.standard_normal() + likelier * (j == 0)
            answers.append({
                "text": f"{i}/{j} ".ljust(4 * tokens, "w"), "tokens": tokens,
                "logprobs": {"suspect": tokens * (-3 + 0.2 * rng.standard_normal()),
                             "teacher": tokens * each},
            })  # fmt: skip
        rows.append({"prompt": f"prompt {i}", "served": answers[0], "ghosts": answers[1:]})
    return rows


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        ({"longer": 0.15}, "length in tokens of served ones lies above"),
        ({"longer": -0.15}, "length in tokens of served ones lies below"),
        ({"likelier": 0.15}, "the teacher's log-prob a token of served ones lies above"),
        ({"likelier": -0.15}, "the teacher's log-prob a token of served ones lies below"),
    ],
)
def test_a_shift_between_served_answers_and_ghosts(
    tmp_path: Path, shift: dict[str, float], said: str
) -> None:
    """Refused at once, whatever the suspect thinks."""
    case = plan_of(tmp_path, GHOSTS)
    log = write(tmp_path / "log.jsonl", log_rows(**shift))
    found = finding("ghosts", log, "--plan", case, code=1)
    assert found["p_values"] == []
    assert any(said in reason for reason in found["reasons"]), found["reasons"]


def test_a_shift_in_stages_uses_no_look_up(tmp_path: Path) -> None:
    case = plan_of(tmp_path, GHOSTS + "prompts = 150\nlooks = 2\n")
    bad = write(tmp_path / "bad.jsonl", log_rows(likelier=0.15))
    found = finding("ghosts", bad, "--plan", case, code=1)
    assert any("not drawn alike" in reason for reason in found["reasons"])
    assert finding("verdict", case, code=1)["tests"][0]["decision"] == "refused"
    good = write(tmp_path / "good.jsonl", log_rows())
    assert finding("ghosts", good, "--plan", case)["n"] == 75


def test_repeated_answers_that_nobody_marked_as_cached(tmp_path: Path) -> None:
    rows = log_rows(40)
    copies = [dict(rows[i]) for i in range(15)]  # the same answers to the same prompt
    other = dict(rows[30]) | {"served": rows[30]["ghosts"][0],
                              "ghosts": [rows[30]["served"], *rows[30]["ghosts"][1:]]}  # fmt: skip
    found = finding("ghosts", write(tmp_path / "log.jsonl", [*rows, *copies, other]))
    assert found["n"] == 40
    assert found["details"]["left_out"]["duplicates"] == 16
    assert any("16 request(s) left out" in reason for reason in found["reasons"])
    assert found["p_values"][0] == finding("ghosts", write(tmp_path / "x.jsonl", rows))[
        "p_values"][0]  # fmt: skip


def test_log_probs_that_are_missing(tmp_path: Path) -> None:
    rows = log_rows(40)
    full = finding("ghosts", write(tmp_path / "full.jsonl", rows))
    for row in rows[:2]:
        del row["ghosts"][2]["logprobs"]["suspect"]
    some = finding("ghosts", write(tmp_path / "some.jsonl", rows))
    assert some["n"] == 40
    assert any("2 prompt(s) without log-probs" in reason for reason in some["reasons"])
    assert some["p_values"][0]["exactness"] == "upper bound"
    assert some["p_values"][0]["value"] >= full["p_values"][0]["value"]
    del rows[2]["served"]["logprobs"]["suspect"]
    more = finding("ghosts", write(tmp_path / "more.jsonl", rows), code=1)
    assert "3 of 40 prompts lack log-probs" in more["reasons"][0]
    for row in rows:
        row["served"]["logprobs"].pop("suspect", None)
    none = finding("ghosts", write(tmp_path / "none.jsonl", rows), code=1)
    assert "no prompt has the log-probs" in none["reasons"][0]
    case = plan_of(tmp_path, '[[tests]]\nkind = "ghosts"\n')  # planned against a reference
    missing = audit("ghosts", write(tmp_path / "log.jsonl", log_rows(40)), "--plan", case)
    assert isinstance(missing, ConfigError)
    assert "log-probs of a reference are missing" in str(missing)
    (tmp_path / "staged").mkdir()
    staged = plan_of(tmp_path / "staged", '[[tests]]\nkind = "ghosts"\nprompts = 40\nlooks = 2\n')
    missing = audit("ghosts", tmp_path / "log.jsonl", "--plan", staged)
    assert "log-probs of a reference are missing" in str(missing)
    assert not (staged / "looks").exists()
    with ScoringServer(silent=True) as server:
        error = audit("ghosts", tmp_path / "none.jsonl", "--suspect", f"m@{server.url}")
    assert isinstance(error, OverproofError)
    assert "log-prob" in str(error)


@pytest.mark.slow
def test_a_log_that_was_altered_after_its_commitment_in_stages(tmp_path: Path) -> None:
    rows = [row | {"position": i % 4} for i, row in enumerate(log_rows(40))]
    case = plan_of(tmp_path, GHOSTS + "prompts = 40\nlooks = 2\n")
    log = write(tmp_path / "log.jsonl", rows)
    audit("commit", log, "--out", tmp_path / "sealed")
    rest = ("--plan", case, "--commitment", tmp_path / "sealed")
    rows[33]["served"] = rows[33]["served"] | {"text": "another"}
    altered = finding("ghosts", write(tmp_path / "b.jsonl", rows), *rest, code=1)
    assert "not what was committed" in altered["reasons"][0]  # though the look ends before it
    assert finding("ghosts", log, *rest)["n"] == 20
    assert finding("ghosts", log, *rest)["n"] == 40
    assert "was planned as 0.05" in str(audit("ghosts", log, *rest, "--alpha", 0.01))
