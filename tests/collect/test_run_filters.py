"""Running filters: everything is kept or dropped with a reason, and nothing in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
from examples import CONFIG, answers, example, make, tools

from overproof.collect.filters.build import build, run_filters, write_dropped
from overproof.errors import DataError
from overproof.records.exchange import Outcome
from overproof.records.text_dataset import TextExample

ROWS = [
    *answers("Fine.", "I'm sorry, but I can't help with that.", "x" * 300, "Good.", "Fine. " * 40),
    example("Prompt number 0", "fine."),
    example("late", "", outcome=Outcome.TRUNCATED, error="max_tokens"),
    example("lost", "", outcome=Outcome.FAILED),
]


async def test_filters_run_in_order_and_account_for_everything() -> None:
    filters = [
        make("exact"),
        make("refusals"),
        make("length", max=100),
        make("length", name="not too short", min=6),
        make("length", max=50),
    ]
    done = await run_filters(filters, ROWS)
    assert [row.answer for row in done.kept] == []
    assert [(one.filter, one.example.answer[:5]) for one in done.dropped] == [
        ("outcome", ""), ("outcome", ""), ("exact", "fine."), ("refusals", "I'm s"),
        ("length", "xxxxx"), ("length", "Fine."), ("not too short", "Fine."),
        ("not too short", "Good."),
    ]  # fmt: skip
    assert [(r.name, r.seen, r.dropped) for r in done.reports] == [
        ("outcome", 8, 2), ("exact", 6, 1), ("refusals", 5, 1), ("length", 4, 2),
        ("not too short", 2, 2), ("length (2)", 0, 0),
    ]  # fmt: skip
    assert done.reports[0].reasons == {"truncated": 1, "failed": 1}
    assert done.reports[3].reasons == {"answer above 100 characters": 2}
    assert all(sum(r.reasons.values()) == r.dropped for r in done.reports)


async def test_without_filters_answers_pass_as_they_are() -> None:
    done = await run_filters([], ROWS[:6])
    assert done.kept == ROWS[:6]
    assert done.dropped == []
    assert done.reports == []
    assert (await run_filters([make("exact")], [])).reports[0].seen == 0


async def test_order_and_identity_of_what_is_kept() -> None:
    done = await run_filters([make("length", max=100)], ROWS[:6])
    assert done.kept == [ROWS[0], ROWS[1], ROWS[3], ROWS[5]]
    both = [*done.kept, *(one.example for one in done.dropped)]
    assert sorted(map(repr, both)) == sorted(map(repr, ROWS[:6]))


async def test_a_filter_that_breaks_passes_nothing() -> None:
    class Broken:
        name = "broken"
        notes: ClassVar[list[str]] = []

        async def drops(self, examples: object) -> dict[int, str]:
            raise DataError("broken", "is broken")

    with pytest.raises(DataError, match="is broken"):
        await run_filters([Broken()], ROWS)


async def test_what_was_dropped_can_be_read_again(tmp_path: Path) -> None:
    odd = example(
        "é", "line\nbreak \u2028 é and half of a pair \ud800", facts={"n": [1, {"x": None}]}
    )
    done = await run_filters([make("length", max=1)], [*ROWS, odd])
    path = tmp_path / "run" / "dropped.jsonl"
    write_dropped(path, done.dropped)
    read = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    assert [(row["filter"], row["reason"]) for row in read] == [
        (one.filter, one.reason) for one in done.dropped
    ]
    assert TextExample.model_validate(read[2]["example"]) == done.dropped[2].example
    assert read[-1]["example"]["answer"] == odd.answer
    assert read[-1]["example"]["facts"] == {"n": [1, {"x": None}]}
    write_dropped(path, [])
    assert path.read_text() == ""


async def test_half_a_character_breaks_no_filter(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{}")
    rows = [
        example(f"p{n}", "half of a pair \ud800 " * 5, facts={"test": "assert f"}) for n in "ab"
    ]
    for kind in ("exact", "near_duplicate", "length", "refusals", "repetition", "reasoning_gym",
                 "self_consistency", "decontaminate"):  # fmt: skip
        await make(kind, tmp_path, held_out=["x \ud801 y"]).drops(rows)
    await make("near_duplicate", method="lsh").drops(rows)
    await make("language", allowed=["en"]).drops(rows)
    await make("regex", must=["x"]).drops(rows)
    await make("json_schema", tmp_path, schema="s.json").drops(rows)
    await make("unit_tests", isolation="best_effort").drops(rows)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "exact"},
        {"kind": "near_duplicate"},
        {"kind": "semantic_duplicate"},
        {"kind": "length"},
        {"kind": "language", "allowed": ["en"]},
        {"kind": "refusals"},
        {"kind": "repetition"},
        {"kind": "regex", "must": ["x"]},
        {"kind": "json_schema", "schema": "s.json"},
        {"kind": "reasoning_gym"},
        {"kind": "unit_tests"},
        {"kind": "self_consistency"},
        {"kind": "judge"},
        {"kind": "decontaminate"},
    ],
    ids=lambda settings: settings["kind"],
)
async def test_every_kind_builds_and_takes_nothing_for_nothing(
    settings: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "s.json").write_text("{}")
    filter_ = build(CONFIG.validate_python(settings), tools(tmp_path))
    assert filter_.name == settings["kind"]
    assert await filter_.drops([]) == {}
    named = build(CONFIG.validate_python({**settings, "name": "mine"}), tools(tmp_path))
    assert named.name == "mine"
