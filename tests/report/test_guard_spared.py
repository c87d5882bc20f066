"""Who was spared and why, who was acted on, and files that no replay wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from page_text import PageText

from overproof.api.guard_page import guard_report
from overproof.errors import DataError
from overproof.guard.ladder import INCONSPICUOUS as LADDERS
from overproof.records.traffic import Action, Evidence, Subject, TrafficVerdict
from overproof.report.guard import Findings, render_guard_html
from overproof.report.guard_spared import INCONSPICUOUS, spared_tables

START = 1_772_452_800.0  # 2 March 2026, 12:00 UTC
DAY = 86_400.0
TEXT = Evidence("injected", "text", "5 accounts share an opening", 0.0004)
ROW: dict[str, Any] = {
    "subject": {"kind": "community", "id": "c1", "members": ["a", "b"]},
    "decided_at": START,
    "action": "soften",
    "p_value": 0.0001,
    "e_value": 2.0,
    "n_calibration": 1000,
    "evidence": [{"signal": "s", "family": "text", "detail": "d", "p_value": 0.01}],
    "tokens_before": 5,
    "expires_at": START + DAY,
}


def exemption(account: str) -> Evidence:
    return Evidence("declared use", "exemption", f"{account} is spared: evaluation")


def verdict(
    action: Action, members: str, *spared: str, day: float = 0.0, kind: Any = "community"
) -> TrafficVerdict:
    said = (TEXT, *(exemption(name) for name in spared))
    at = START + day * DAY
    subject = Subject(kind, "c1", tuple(members))
    return TrafficVerdict(subject, at, action, 0.001, 9.0, 999, said, 5, at + 7 * DAY, "none")


def test_the_reason_is_the_one_that_a_replay_writes() -> None:
    assert INCONSPICUOUS == LADDERS


def test_permission_and_inconspicuous_conduct_are_told_apart_and_times_are_dates() -> None:
    rows = [
        {"at": START, "account": "quiet-1", "action": "soften", "reason": INCONSPICUOUS},
        {"at": START, "account": "signed-1", "action": "soften", "reason": "evaluation, by Ada"},
    ]
    page = render_guard_html([], spared=rows, replay={"since": START, "until": START + DAY})
    text = str(PageText(page))
    permitted, rest = text.split("Permitted by a signed entry")[1].split("did not stand out", 1)
    assert "signed-1" in permitted
    assert "quiet-1" not in permitted
    assert "quiet-1" in rest
    assert "signed-1" not in rest
    assert "2 March 2026, 12:00 UTC" in permitted
    assert "Since 2 March 2026, 12:00 UTC" in text
    assert "Until 3 March 2026, 12:00 UTC" in text
    assert "e+09" not in text


def test_who_was_acted_on_at_another_time_is_not_listed_as_left_alone() -> None:
    rows = [{"at": START, "account": name, "action": "soften", "reason": INCONSPICUOUS}
            for name in ("a", "never-held")]  # fmt: skip
    page = render_guard_html([verdict(Action.SOFTEN, "ab", day=1)], spared=rows)
    text = str(PageText(page)).split("Their own conduct did not stand out")[1]
    _, quiet = spared_tables(rows, 200, held={"a"})
    assert (len(quiet.rows), quiet.total, quiet.held) == (1, 1, 1)
    assert "never-held" in text
    assert "Not listed: 1 entry of accounts that were acted on at another time" in text
    old = [{"account": "a", "reason": "its own conduct does not stand out"}]
    assert [one.total for one in spared_tables(old, 200)] == [0, 1]


def test_each_reason_has_its_rows_and_what_is_left_out_is_counted() -> None:
    rows = [{"account": f"a{n}", "reason": "evaluation"} for n in range(300)]
    rows += [{"account": f"q{n}", "reason": INCONSPICUOUS} for n in range(20)]
    rows += [{"account": "the-other-customer", "reason": "synthetic data"}]
    page = render_guard_html(
        [], spared=rows, spared_in_all={"evaluation": 900, INCONSPICUOUS: 5_000}
    )
    text = str(PageText(page))
    permitted, quiet = text.split("Permitted by a signed entry")[1].split("did not stand out", 1)
    assert "the-other-customer" in permitted
    assert "The first 200 of 301, some of each reason" in permitted
    assert "counts 600 more, and names none" in permitted
    assert "counts 4,980 more, and names none" in quiet


def test_long_tables_are_cut_and_say_so() -> None:
    rows = [{"account": f"a{n}", "reason": INCONSPICUOUS} for n in range(300)]
    permitted, quiet = spared_tables(rows, 200)
    assert (permitted.total, len(quiet.rows), quiet.total) == (0, 200, 300)
    assert "The first 200 of 300" in str(PageText(render_guard_html([], spared=rows)))


def test_acted_on_are_the_members_of_verdicts_at_soften_or_above_alone() -> None:
    found = Findings([verdict(Action.SOFTEN, "ab"), verdict(Action.WATCH, "abcde", day=8)])
    assert found.acted_accounts == {"a", "b"}
    more = Findings([verdict(Action.SOFTEN, "ab"), verdict(Action.WITHHOLD, "bc", day=3)])
    assert more.acted_accounts == {"a", "b", "c"}
    text = str(PageText(render_guard_html([verdict(Action.SOFTEN, "ab"),
                                       verdict(Action.WATCH, "abcde", day=8)])))  # fmt: skip
    assert "2 accounts came to soften or above" in text
    assert "2 of its accounts acted on in all" in text


def test_one_exempt_member_does_not_make_a_community_exempt() -> None:
    assert Findings([verdict(Action.SOFTEN, "ab", "c")]).exempt == []
    # All others are spared for their own conduct, which is no permission.
    assert Findings([verdict(Action.WATCH, "abc", "c")]).exempt == []
    assert len(Findings([verdict(Action.WATCH, "abc", "a", "b", "c")]).exempt) == 1
    assert len(Findings([verdict(Action.WATCH, "a", "a", kind="account")]).exempt) == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"n_calibration": -1}, "n_calibration"),
        ({"decided_at": 1e300}, "decided_at"),
        ({"decided_at": -1.0}, "decided_at"),
        ({"expires_at": 1e300}, "expires_at"),
        ({"tokens_before": -5}, "tokens_before"),
        ({"p_value": 2.0}, "p_value"),
        ({"e_value": -1.0}, "e_value"),
        ({"evidence": [{"signal": "s", "family": "f", "detail": "", "p_value": -1}]},
         "evidence[0].p_value"),
    ],
)  # fmt: skip
def test_a_verdict_that_cannot_be_is_refused_with_its_field(
    tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    file = tmp_path / "v.jsonl"
    file.write_text(json.dumps(ROW) + "\n" + json.dumps(ROW | change) + "\n")
    with pytest.raises(DataError) as caught:
        guard_report(file, tmp_path / "page.html")
    assert caught.value.culprit == f"{file}:2"
    assert caught.value.reason.startswith(field)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"spared": 5}, "spared"),
        ({"spared": None}, "spared"),
        ({"spared": [5]}, "spared[0]"),
        ({"spared": [{"at": START}, {"at": "noon"}]}, "spared[1].at"),
        ({"since": 1e300}, "since"),
        ({"spared_in_all": {"a": -1}}, "spared_in_all"),
        ({"spared_in_all": [1]}, "spared_in_all"),
        ({"until": 10**400}, "until"),
    ],
)
def test_a_record_that_no_replay_wrote_is_refused(
    tmp_path: Path, record: dict[str, Any], field: str
) -> None:
    (tmp_path / "v.jsonl").write_text(json.dumps(ROW) + "\n")
    beside = tmp_path / "v.replay.json"
    beside.write_text(json.dumps(record))
    with pytest.raises(DataError) as caught:
        guard_report(tmp_path / "v.jsonl", tmp_path / "page.html")
    assert caught.value.culprit == f"{beside}: {field}"


@pytest.mark.parametrize("change", [{"at": 1e300}, {"edges": [["a", "b", "payer", -9]]}])
def test_a_drawing_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    (tmp_path / "v.jsonl").write_text(json.dumps(ROW) + "\n")
    drawn = {"id": "c1", "at": START, "members": ["a", "b"], "edges": []} | change
    (tmp_path / "v.communities.jsonl").write_text(json.dumps(drawn) + "\n")
    with pytest.raises(DataError, match=r"v\.communities\.jsonl"):
        guard_report(tmp_path / "v.jsonl", tmp_path / "page.html")
