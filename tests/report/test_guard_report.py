"""The page of findings: complete, self-contained, the same every time, and safe to open."""

from __future__ import annotations

import random
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from overproof.records.traffic import Action, Evidence, Subject, TrafficVerdict
from overproof.report.guard import Findings, render_guard_html
from overproof.report.guard_graph import MOST_EDGES, MOST_NODES, DrawnCommunity, draw_graph

START = 1.7672256e9
DAY = 86_400.0
HOSTILE = "<script>alert(1)</script>\"'&\u202egnp.\0\ud800" + "x" * 500
TEXT = Evidence("injected", "text", "31 accounts share an opening", 0.0004)
NETWORK = Evidence("payer", "network", "6 payers stand behind them", 0.004, 12.0)
EXEMPT = Evidence("declared use", "exemption", "evaluation, permitted until July")
VOID = {"meta", "br"}


def verdict(
    name: str,
    action: Action = Action.SOFTEN,
    *,
    kind: Any = "account",
    day: float = 0.0,
    members: tuple[str, ...] = (),
    evidence: tuple[Evidence, ...] = (TEXT, NETWORK),
    **fields: Any,
) -> TrafficVerdict:
    given: dict[str, Any] = {
        "p_value": 0.0002,
        "e_value": 40.0,
        "n_calibration": 4_999,
        "tokens_before": 1_234_567,
        "expires_at": START + (day + 7) * DAY,
        "assumption": "exchangeable with trusted accounts",
    }
    return TrafficVerdict(
        subject=Subject(kind, name, members or (name,)),
        decided_at=START + day * DAY,
        action=action,
        evidence=evidence,
        **{**given, **fields},
    )


def community(size: int, seed: int = 0) -> DrawnCommunity:
    draw = random.Random(seed)
    members = tuple(f"m{i:04}" for i in range(size))
    edges = [
        (draw.choice(members), draw.choice(members), draw.choice(["template", "payer", "pivot"]), 3)
        for _ in range(size * 8)
    ]
    return DrawnCommunity.from_row({"id": "c1", "at": START, "members": members, "edges": edges})


class Reader(HTMLParser):
    """Well-formedness, ids, links and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if "href" in given else []
        assert not any(name.startswith("on") or name == "src" for name in given)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def full_page() -> str:
    drawn = community(40)
    return render_guard_html(
        [
            verdict("c1", Action.WATCH, kind="community", members=drawn.members),
            verdict("c1", Action.BLOCK, kind="community", members=drawn.members, day=3),
            verdict("key-1", Action.WITHHOLD, day=1),
            verdict("key-2", Action.WATCH, day=2, evidence=(TEXT,)),
            verdict("key-3", Action.WATCH, day=2, evidence=(TEXT, NETWORK, EXEMPT)),
            verdict("key-4", day=40),
        ],
        communities=[drawn],
        scores={"campaigns caught": {"L0": 0.99}},
        replay={"lines": 1_000, "events": 998},
        spared=[{"org": "o7", "use": "evaluation"}],
        name="log",
    )


def test_the_page_is_whole_and_loads_nothing():
    page = full_page()
    reader = Reader(page)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert all(link.startswith("#") and link[1:] in reader.ids for link in reader.links)
    assert not reader.tags & {"script", "img", "link", "iframe", "object", "form"}
    assert "url(" not in page
    assert "@import" not in page


def test_it_is_the_same_every_time():
    assert full_page() == full_page()


def test_everything_that_was_found_is_said():
    text = re.sub(r"\s+", " ", " ".join(Reader(full_page()).texts))
    for said in (
        "1 group and 2 accounts",
        "42 accounts came to soften or above",
        "31 accounts share an opening",
        "evaluation, permitted until July",
        "exchangeable with trusted accounts",
        "6 decisions about 5 subjects",
        "1,234,567",
        "4,999",
        "2.0e-04",
        "o7",
        "0.99",
        "998",
    ):
        assert said in text, said


def test_who_was_spared_and_why():
    findings = Findings(
        [
            verdict("one family", Action.WATCH, evidence=(TEXT, TEXT)),
            verdict("two families", Action.WATCH),
            verdict("exempt", Action.WATCH, evidence=(TEXT, EXEMPT)),
            verdict("lapsed", day=1),
            verdict("standing", day=30),
        ]
    )
    assert [case.name for case in findings.one_family] == ["one family"]
    assert [case.name for case in findings.exempt] == ["exempt"]
    assert [case.name for case in findings.lapsed] == ["lapsed"]
    assert [case.name for case in findings.acted] == ["lapsed", "standing"]


def test_a_subject_is_one_case_from_first_watch_to_last_rung():
    made = [verdict("a", action, day=day) for day, action in enumerate(list(Action)[1:])]
    (case,) = Findings(made[::-1]).cases
    assert case.highest is Action.BLOCK
    assert case.caught_at == START + DAY
    assert case.families == ("network", "text")


def test_hostile_names_are_only_names():
    evil = Evidence(HOSTILE, HOSTILE, HOSTILE, 0.001)
    drawn = DrawnCommunity(
        HOSTILE,
        START,
        (HOSTILE, "b"),
        ((HOSTILE, "b", HOSTILE, float(2)), ("b", HOSTILE, "x", 1.0)),
    )
    page = render_guard_html(
        [
            verdict(HOSTILE, evidence=(evil,), assumption=HOSTILE),
            verdict(HOSTILE, kind="community", members=(HOSTILE, "b"), evidence=(evil,)),
        ],
        communities=[drawn],
        scores={HOSTILE: {HOSTILE: HOSTILE}},
        replay={HOSTILE: HOSTILE},
        spared=[{"org": HOSTILE}],
        name=HOSTILE,
    )
    page.encode()
    assert "<script" not in page
    assert not re.search("[\0\u202e]", page)
    assert "x" * 450 not in page
    assert Reader(page).open == []


def test_nothing_found_is_a_page_too():
    text = " ".join(Reader(render_guard_html([], name="empty")).texts)
    assert "Nothing found" in text
    assert "no truth to be scored against" in text


def test_missing_numbers_are_said_and_odd_ones_survived():
    page = render_guard_html(
        [
            verdict("a", p_value=None, e_value=None, expires_at=None, evidence=(), assumption=""),
            verdict("b", p_value=1.0, e_value=0.0, tokens_before=0, n_calibration=0),
            verdict("c", day=10**9),
        ]
    )
    assert "which is itself a limit" in page
    assert "after the epoch" in page


@pytest.mark.parametrize("size", [1, 2, 3, 150, 151, 2_000])
def test_a_graph_fits_its_frame_and_says_what_it_leaves_out(size: int):
    graph = draw_graph(community(size), "g")
    places = re.findall(r'<circle cx="([\d.-]+)" cy="([\d.-]+)"', graph.svg)
    assert len(places) == min(size, MOST_NODES)
    assert all(0 <= float(x) <= 560 and 0 <= float(y) <= 400 for x, y in places)
    assert len(set(places)) == len(places)
    assert graph.svg.count("<line") <= MOST_EDGES
    assert (f"{MOST_NODES} of {size:,} accounts" in graph.note) == (size > MOST_NODES)


def test_a_dense_graph_keeps_what_holds_it_together():
    names = tuple(f"m{i:02}" for i in range(60))
    edges = [(a, b, "template", 5.0) for a in names[:59] for b in names[:59] if a < b]
    edges.append((names[0], names[59], "payer", 0.1))
    graph = draw_graph(DrawnCommunity("c", START, names, tuple(edges)), "g")
    assert graph.svg.count("<line") == MOST_EDGES
    assert graph.svg.count("tie network") == 1
    assert "of 1,712 ties" in graph.note


@pytest.mark.parametrize(
    "row", [{}, {"id": "c", "at": "x", "members": [], "edges": []}, {"id": 1, "members": 5}]
)
def test_a_line_that_is_no_community_is_refused(row: dict[str, Any]):
    with pytest.raises(ValueError, match="is no community"):
        DrawnCommunity.from_row(row)


def test_edges_to_strangers_and_to_oneself_are_left_out():
    row = {
        "id": "c",
        "at": 1,
        "members": ["a", "b"],
        "edges": [["a", "a", "x", 1], ["a", "z", "x", 1]],
    }
    assert DrawnCommunity.from_row(row).edges == ()
