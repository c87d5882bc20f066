"""A community that became an organisation is one case: on the page, in counts, in charts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from page_text import PageText

from overproof.records.traffic import Action, Evidence, Subject, TrafficVerdict
from overproof.report.guard import Findings, render_guard_html
from overproof.report.guard_cases import Case, cases_of
from overproof.report.guard_graph import DrawnCommunity

START = 1_772_452_800.0  # 2 March 2026, 12:00 UTC
DAY = 86_400.0
TEXT = Evidence("injected", "text", "3 accounts share an opening", 0.0004)
NETWORK = Evidence("payer", "network", "one payer stands behind them", 0.004)


def verdict(kind: Any, name: str, members: str, action: Action, day: float = 0.0) -> TrafficVerdict:
    at, subject = START + day * DAY, Subject(kind, name, tuple(members))
    return TrafficVerdict(
        subject, at, action, 0.001, 9.0, 999, (TEXT, NETWORK), 5, at + 30 * DAY, "x"
    )


def drawn(name: str, members: str, day: float) -> DrawnCommunity:
    ties = tuple((a, b, "payer", 3.0) for a, b in pairwise(members))
    return DrawnCommunity(name, START + day * DAY, tuple(members), ties)


CLIMB = [
    verdict("community", "c1", "abc", Action.SOFTEN, 0),
    verdict("community", "c1", "abc", Action.WITHHOLD, 1),
    verdict("community", "c1", "abc", Action.VERIFY, 2),
    verdict("org", "acme", "abc", Action.BLOCK, 9),
]
DRAWINGS = [drawn("c1", "abc", day) for day in (0, 1, 2, 9)]


def told(cases: list[Case]) -> list[tuple[str, int]]:
    return [(case.name, len(case.verdicts)) for case in cases]


def test_the_page_counts_it_once_and_shows_its_drawing() -> None:
    page = render_guard_html(CLIMB, communities=DRAWINGS)
    text = str(PageText(page))
    assert "traffic 1 group" in text
    assert "3 accounts came to soften or above" in text
    assert "4 decisions about 1 subject " in text
    assert "Organisation of 3 accounts" in text
    assert "No drawing of it" not in text
    assert "payer 2." in text  # the ties of the drawing
    assert text.count("acme (c1)") >= 3  # its entry, and both sizes of the timeline


def test_families_the_ladder_and_the_timeline_count_it_once() -> None:
    findings = Findings(CLIMB, DRAWINGS)
    assert findings.families == [
        ("network", 1, [("payer", 1)]), ("text", 1, [("injected", 1)]),
    ]  # fmt: skip
    assert findings.rungs == {Action.BLOCK: 1}
    (case,) = findings.communities
    assert (case.kind, case.highest, case.caught_at) == ("org", Action.BLOCK, START)
    assert case.held == set("abc")
    assert findings.graph(case) is not None


@pytest.mark.parametrize("drawings", [(), DRAWINGS[:3], DRAWINGS])
def test_order_and_missing_drawings_change_nothing(drawings: list[DrawnCommunity]) -> None:
    assert told(cases_of(CLIMB, drawings)) == told(cases_of(CLIMB[::-1], drawings))
    assert told(cases_of(CLIMB, drawings)) == [("acme (c1)", 4)]


def test_of_several_communities_it_is_the_one_with_the_fewest_besides() -> None:
    made = [
        verdict("community", "c0", "abcdefgh", Action.SOFTEN),
        verdict("community", "c2", "ab", Action.SOFTEN),
        verdict("community", "watched", "abc", Action.WATCH),
        *CLIMB,
    ]
    assert told(cases_of(made)) == [("c0", 1), ("c2", 1), ("watched", 1), ("acme (c1)", 4)]


def test_members_spared_since_and_verdicts_after_the_block_stay_with_it() -> None:
    made = [
        *CLIMB[:3],
        verdict("org", "acme", "ab", Action.BLOCK, 9),  # an appeal of c was upheld
        verdict("community", "c1", "abd", Action.BLOCK, 30),
    ]
    assert told(cases_of(made, DRAWINGS)) == [("acme (c1)", 5)]


def test_an_organisation_without_a_community_is_a_case_by_itself() -> None:
    alone = verdict("org", "acme", "xyz", Action.BLOCK, 9)
    assert told(cases_of([*CLIMB[:3], alone], DRAWINGS)) == [("c1", 3), ("acme", 1)]
    # A drawing of that moment is enough, where the earlier verdicts were not handed in.
    (case,) = cases_of(CLIMB[3:], DRAWINGS)
    assert (case.name, case.drawing) == ("acme (c1)", DRAWINGS[3])


def test_two_communities_of_one_organisation_are_two_cases() -> None:
    made = [
        *CLIMB,
        verdict("community", "c2", "xyz", Action.VERIFY, 3),
        verdict("org", "acme", "xyz", Action.BLOCK, 12),
    ]
    assert told(cases_of(made)) == [("acme (c1)", 4), ("acme (c2)", 2)]
