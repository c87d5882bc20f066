"""Scores of verdicts against truth, by hand on small worlds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from overproof.errors import DataError
from overproof.guard.scoring import (
    Scores,
    read_totals,
    read_truth,
    read_verdicts,
    score,
    score_files,
    table_lines,
)
from overproof.guard.scoring.outcomes import outcomes_of
from overproof.guard.scoring.score import score_outcomes, share_of
from overproof.records.traffic import Action, Event, Subject, TrafficVerdict, Truth


def told(account: str, kind: str = "chat", **more: str) -> Truth:
    return Truth(account, kind, **more)


def asked(account: str, ts: float, tokens: int | None = 100, status: int | None = 200) -> Event:
    return Event(
        ts=ts, request_id=f"{account}-{ts}", account=account, model="m", endpoint="messages",
        output_tokens=tokens, status=status,
    )  # fmt: skip


def verdict(
    at: float, action: Action, *members: str, kind: str = "account", name: str = ""
) -> TrafficVerdict:
    subject = Subject(kind, name or members[0], members)  # type: ignore[arg-type]
    return TrafficVerdict(subject, at, action, 0.001, None, 999, (), 0)


CAMPAIGN = [told(f"x{i}", "attack", campaign="c1", level="L2", group="c1") for i in range(4)]
LONER = told("y", "attack", campaign="c2", level="L0", group="c2")
HONEST = [told(f"h{i}", "evaluator", group=f"g{i // 2}") for i in range(6)]
CHAT = [told(f"k{i}", group=f"k{i}") for i in range(10)]
TRUTH = {each.account: each for each in (*CAMPAIGN, LONER, *HONEST, *CHAT)}
# Each attacker asks once an hour for ten hours, each honest account once.
EVENTS = [asked(a.account, 3600.0 * h) for h in range(10) for a in (*CAMPAIGN, LONER)] + [
    asked(a.account, 50.0) for a in (*HONEST, *CHAT)
]
VERDICTS = [
    verdict(1800.0, Action.WATCH, "x0"),
    verdict(2 * 3600.0 + 1, Action.SOFTEN, "x0", "x1", "h0", kind="community", name="A"),
    verdict(3 * 3600.0 + 1, Action.BLOCK, "x1", "x2", kind="community", name="A"),
    verdict(4 * 3600.0, Action.SOFTEN, "h0", "h1", "h2", kind="community", name="B"),
    verdict(5 * 3600.0, Action.WATCH, "k0", "k1", kind="community", name="C"),
    verdict(6 * 3600.0, Action.SOFTEN, "nobody"),
]


@pytest.fixture(scope="module")
def scores() -> Scores:
    return score(VERDICTS, TRUTH, read_totals(EVENTS, TRUTH))


def test_a_campaign_is_caught_when_half_of_its_accounts_are(scores: Scores) -> None:
    level = scores.level("L2")
    assert level is not None
    assert (level.campaigns, level.caught.value, level.touched.value) == (1, 1.0, 1.0)
    assert level.accounts.value == 0.75
    assert level.hours_to_detection == pytest.approx(2 + 1 / 3600)
    assert level.requests_to_detection == 12  # three requests each of four accounts
    assert level.account_requests_to_detection == 3


def test_watch_catches_nobody(scores: Scores) -> None:
    loner = scores.level("L0")
    assert loner is not None
    assert loner.caught.value == 0.0
    assert loner.leaked.value == 1.0
    assert math.isnan(loner.accounts.value)
    assert math.isnan(loner.hours_to_detection)


def test_what_leaked_is_counted_account_by_account(scores: Scores) -> None:
    level = scores.level("L2")
    assert level is not None
    assert level.leaked.numerator == 300 + 300 + 400 + 1000
    assert level.leaked.denominator == 4000
    assert level.leaked_median == 0.5


def test_honest_accounts_by_class(scores: Scores) -> None:
    evaluators, chat = scores.honest("evaluator"), scores.honest("chat")
    assert evaluators is not None
    assert chat is not None
    assert evaluators.caught.value == 0.5
    assert (evaluators.groups, evaluators.groups_hit, evaluators.accounts) == (3, 2, 6)
    assert evaluators.caught.low < 0.5 < evaluators.caught.high
    assert (chat.caught.value, chat.watched.value) == (0.0, 0.2)
    assert chat.caught.high == pytest.approx(1 - 0.025 ** (1 / 10))
    assert scores.worst == "evaluator"
    assert scores.false_positive_rate.value == 3 / 16
    assert scores.positive_predictive_value.value == 3 / 6
    assert scores.prevalence == 5 / 21
    reach, rate = 3 / 5, 3 / 16
    assert scores.ppv_at["0.01"] == pytest.approx(0.01 * reach / (0.01 * reach + 0.99 * rate))


def test_communities(scores: Scores) -> None:
    found = scores.communities
    assert (found.reported, found.reported_watch) == (2, 3)
    assert found.false_share.value == 0.5
    assert found.false_share_watch.value == 2 / 3
    assert found.precision.value == 2 / 3
    level = scores.level("L2")
    assert level is not None
    assert level.recall.value == 0.5  # x0 and x1, as A stood when it first came to soften


def test_accounts_outside_of_the_truth_are_counted_apart(scores: Scores) -> None:
    assert scores.unlabelled == 1
    assert any("not in the truth" in line for line in table_lines(scores))


def test_order_of_verdicts_does_not_matter(scores: Scores) -> None:
    totals = read_totals(list(reversed(EVENTS)), TRUTH)
    assert score(list(reversed(VERDICTS)), TRUTH, totals) == scores


def test_refused_requests_serve_no_tokens() -> None:
    events = [asked("y", 0.0, 50), asked("y", 1.0, 70, status=429), asked("y", 2.0, None, None)]
    totals = read_totals(events, TRUTH)
    assert totals.attackers["y"].tokens == 50
    assert totals.attackers["y"].until(1.0) == (2, 50)
    assert totals.attackers["y"].until(-1.0) == (0, 0)


def test_accounts_that_sent_nothing_count_nowhere() -> None:
    found = score([], TRUTH, read_totals([asked("x0", 1.0), asked("h0", 1.0)], TRUTH))
    level = found.level("L2")
    assert level is not None
    assert level.all_accounts.denominator == 1
    assert found.false_positive_rate.denominator == 1
    assert found.honest("chat") is None


def test_an_empty_log_has_no_scores_and_says_so() -> None:
    found = score([], TRUTH, read_totals([], TRUTH))
    assert found.levels == ()
    assert found.worst is None
    assert math.isnan(found.false_positive_rate.value)
    assert "no labelled account" in table_lines(found)[0]
    json.dumps(found.to_json(), allow_nan=False)


def test_several_logs_are_scored_together() -> None:
    one = outcomes_of(VERDICTS, TRUTH, read_totals(EVENTS, TRUTH))
    two = outcomes_of([], TRUTH, read_totals(EVENTS, TRUTH))
    both = score_outcomes([one, two])
    level = both.level("L2")
    assert level is not None
    assert (level.campaigns, level.caught.value, both.logs) == (2, 0.5, 2)
    assert both.false_positive_rate.value == 3 / 32


def test_json_holds_no_nan(scores: Scores) -> None:
    text = json.dumps(scores.to_json(), allow_nan=False)
    assert json.loads(text)["levels"][0]["accounts"]["value"] is None


def test_lines_fit_a_terminal(scores: Scores) -> None:
    lines = table_lines(scores)
    assert max(len(line) for line in lines) <= 100
    assert any("evaluator" in line and "(worst)" in line for line in lines)


def test_intervals_of_groups_are_wider_than_of_accounts() -> None:
    """Accounts of one customer rise and fall together; the interval must know."""
    rng = np.random.default_rng(0)
    covered_groups, covered_accounts, runs = 0, 0, 120
    for _ in range(runs):
        hit = rng.random(60) < 0.1
        units = [(20 * int(each), 20) for each in hit]
        found = share_of(units, 0.95, "groups")
        covered_groups += found.low <= 0.1 <= found.high
        flat = share_of([(k / 20, 1) for k, _ in units for _ in range(20)], 0.95, "accounts")
        covered_accounts += flat.low <= 0.1 <= flat.high
    assert covered_groups >= 0.88 * runs
    assert covered_accounts < 0.6 * runs


def test_nobody_hit_still_has_an_upper_end() -> None:
    found = share_of([(0, 50)] * 300, 0.95, "groups")
    assert found.low == 0.0
    assert 0.009 < found.high < 0.013
    assert "300 groups" in found.method


def write(path: Path, rows: object) -> Path:
    path.write_bytes(b"\n".join(msgspec.json.encode(row) for row in rows) + b"\n")  # type: ignore[attr-defined]
    return path


def test_files(tmp_path: Path, scores: Scores) -> None:
    verdicts = write(tmp_path / "verdicts.jsonl", VERDICTS)
    truth = write(tmp_path / "truth.jsonl", TRUTH.values())
    events = write(tmp_path / "events.jsonl", EVENTS)
    assert score_files(verdicts, truth, events) == scores
    assert read_truth(truth)["x0"].kind == "attack"
    assert len(read_verdicts(verdicts)) == 6


def test_an_empty_file_of_verdicts_is_no_verdicts(tmp_path: Path) -> None:
    (tmp_path / "verdicts.jsonl").write_bytes(b"\n")
    assert read_verdicts(tmp_path / "verdicts.jsonl") == []


def test_wrong_files_are_named(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth.jsonl", TRUTH.values())
    with pytest.raises(DataError, match="no such file"):
        read_verdicts(tmp_path / "missing.jsonl")
    with pytest.raises(DataError, match=r"truth\.jsonl:1: is no verdict"):
        read_verdicts(truth)
    for content, said in (
        (b"", "holds no account"),
        (b'{"account": "a", "class": "chat"}\n{"account": "a", "class": "chat"}', "told twice"),
        (b'{"account": "a", "class": "chat"}\n\xff\xfe{{{', r"bad\.jsonl:2: is no truth"),
        (b"[" * 100_000, "is no truth"),
    ):
        (tmp_path / "bad.jsonl").write_bytes(content)
        with pytest.raises(DataError, match=said):
            read_truth(tmp_path / "bad.jsonl")


def test_truth_of_another_log_is_refused(tmp_path: Path) -> None:
    verdicts = write(tmp_path / "verdicts.jsonl", VERDICTS)
    truth = write(tmp_path / "truth.jsonl", [told("somebody else")])
    events = write(tmp_path / "events.jsonl", EVENTS)
    with pytest.raises(DataError, match="names no account"):
        score_files(verdicts, truth, events)
