from __future__ import annotations

from pathlib import Path

import pytest

from overproof.errors import DataError
from overproof.evaluate.looks import distinct_looks, log_look, note_verdict, read_looks


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "manifest.json").write_text("{}")
    for name in ("encoder", "probe", "unfinished"):
        (tmp_path / "students" / name).mkdir(parents=True)
    for name in ("encoder", "probe"):
        (tmp_path / "students" / name / "student.json").write_text(name)
        (tmp_path / "students" / name / "model.onnx").write_bytes(b"weights")
    return tmp_path


def look(run: Path, now: str = "2026-01-01T00:00:00+00:00"):
    return log_look(
        run / "looks.jsonl", now=now, dataset=run / "dataset", students=run / "students"
    )


def test_every_look_is_logged_and_the_same_students_are_a_repeat(run: Path) -> None:
    assert read_looks(run / "looks.jsonl") == []
    (first,) = look(run)
    assert first["what"] == "certify"
    assert first["when"] == "2026-01-01T00:00:00+00:00"
    assert set(first["students"]) == {"encoder", "probe"}
    note_verdict(run / "looks.jsonl", "certified")
    looks = look(run, "2026-01-02T00:00:00+00:00")
    assert looks[0]["verdict"] == "certified"
    assert looks[1]["what"] == "certify: repeat of look 1"
    assert distinct_looks(looks) == 1
    (run / "students" / "probe" / "model.onnx").write_bytes(b"retrained")
    looks = look(run)
    assert looks[2]["repeat_of"] is None
    assert distinct_looks(looks) == 2
    (run / "dataset" / "manifest.json").write_text("{ }")
    assert distinct_looks(look(run)) == 3
    assert look(run)[-1]["repeat_of"] == 4
    assert [each["look"] for each in read_looks(run / "looks.jsonl")] == [1, 2, 3, 4, 5]


def test_a_broken_log_is_named_by_its_line(run: Path) -> None:
    look(run)
    path = run / "looks.jsonl"
    path.write_text(path.read_text() + "{half\n")
    with pytest.raises(DataError, match=r"looks\.jsonl:2"):
        look(run)
    path.write_text("[1]\n")
    with pytest.raises(DataError, match=r"looks\.jsonl:1"):
        read_looks(path)


def test_a_verdict_needs_a_look(run: Path) -> None:
    with pytest.raises(ValueError, match="no look"):
        note_verdict(run / "looks.jsonl", "certified")
