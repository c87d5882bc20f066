"""Looks that came with a copied ledger count."""

from __future__ import annotations

from pathlib import Path

import pytest

from overproof.evaluate.looks import CHAINED, Look, distinct_looks, log_look


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "manifest.json").write_text("{}")
    (tmp_path / "students" / "probe").mkdir(parents=True)
    (tmp_path / "students" / "probe" / "student.json").write_text("probe")
    return tmp_path


def test_a_lost_log_comes_back_from_the_chain(run: Path) -> None:
    chain: list[Look] = []

    def look(now: str) -> list[Look]:
        looks = log_look(
            run / "looks.jsonl",
            now=now,
            dataset=run / "dataset",
            students=run / "students",
            chained=chain,
        )
        chain.append({name: looks[-1][name] for name in CHAINED} | {"note": "look", "at": "then"})
        return looks

    look("2026-01-01")
    (run / "students" / "probe" / "student.json").write_text("another")
    assert [each["look"] for each in look("2026-01-02")] == [1, 2]
    (run / "looks.jsonl").unlink()
    looks = look("2026-01-03")
    assert [each["look"] for each in looks] == [1, 2, 3]
    assert [each["when"] for each in looks] == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert [each["repeat_of"] for each in looks] == [None, None, 2]
    assert looks[2]["what"] == "certify: repeat of look 2"
    assert distinct_looks(looks) == 2
    assert len(look("2026-01-04")) == 4
