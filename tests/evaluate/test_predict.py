from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from overproof.cli.predict import predict_command
from overproof.errors import DataError, StudentError
from overproof.evaluate.predict import STDOUT, predict_file
from overproof.evaluate.student import Student
from overproof.records.tables import read_table, write_table

TEXTS = ["a good film", "", "bad, very bad", " ", 'the "table"\nand a chair', "great"]
LABELS = ["positive", "", "negative", "", "neutral", "positive"]
ROWS = [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz"])
def test_every_row_comes_back_in_order(
    tmp_path: Path, student_dir: Path, student: Student, ending: str
) -> None:
    file = tmp_path / f"films{ending}"
    write_table(file, ROWS)
    report = predict_file(student_dir, file, batch_size=2)
    out = tmp_path / f"films.predictions{ending}"
    assert report.out == str(out)
    rows = read_table(out)
    assert [row["text"] for row in rows] == TEXTS
    assert [row["label"] or "" for row in rows] == LABELS
    assert [row["error"] or "" for row in rows] == ["", "empty input"] * 2 + ["", ""]
    expected = student.predict_proba([text for text in TEXTS if text.strip()])
    answered = [row for row in rows if row["label"]]
    for row, probabilities in zip(answered, expected, strict=True):
        assert float(row["confidence"]) == pytest.approx(probabilities.max(), abs=1e-6)
        for label, share in zip(student.labels, probabilities, strict=True):
            assert float(row[f"p({label})"]) == pytest.approx(share, abs=1e-6)
    assert report.rows == 6
    assert report.labels == {"positive": 2, "negative": 1, "neutral": 1}
    assert report.errors == {"empty input": 2}
    assert report.rows_per_second > 0
    assert sorted(tmp_path.iterdir()) == sorted([file, out])


def test_many_windows(tmp_path: Path, student_dir: Path) -> None:
    file = tmp_path / "t.jsonl"
    write_table(file, [{"text": f"{'good' if i % 3 else 'bad'} {i}"} for i in range(1000)])
    seen: list[tuple[int, int]] = []
    predict_file(student_dir, file, batch_size=4, progress=lambda *done: seen.append(done))
    rows = read_table(tmp_path / "t.predictions.jsonl")
    assert [row["label"] for row in rows] == [
        "positive" if i % 3 else "negative" for i in range(1000)
    ]
    assert [done for done, _ in seen] == [*range(128, 1000, 128), 1000]
    assert {total for _, total in seen} == {1000}


def test_types_of_parquet_are_kept(tmp_path: Path, student_dir: Path) -> None:
    schema = pa.schema([("n", pa.int32()), ("prompt", pa.large_string()), ("x", pa.float32())])
    rows = [{"n": None, "prompt": "good", "x": 1.5}, {"n": 7, "prompt": None, "x": None}]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "t.parquet")
    predict_file(student_dir, tmp_path / "t.parquet", probabilities="none")
    written = pq.read_schema(tmp_path / "t.predictions.parquet")
    assert written.types == [*schema.types, pa.string(), pa.float64(), pa.string()]
    assert written.names == ["n", "prompt", "x", "label", "confidence", "error"]


def test_other_formats_out(tmp_path: Path, student_dir: Path) -> None:
    file = tmp_path / "t.jsonl"
    write_table(file, [{"text": "", "n": 1}] * 1100 + [{"text": "good", "tags": ["x"]}])
    predict_file(student_dir, file, tmp_path / "deep" / "t.csv")
    rows = read_table(tmp_path / "deep" / "t.csv")
    assert rows[0]["n"] == "1"
    assert rows[-1]["tags"] == '["x"]'
    assert rows[-1]["label"] == "positive"
    write_table(file, [{"text": "", "n": 1}] * 1100 + [{"text": "good", "n": 2}])
    predict_file(student_dir, file, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet")[-1]["confidence"] > 0.5


def test_names_that_the_input_uses(tmp_path: Path, student_dir: Path) -> None:
    file = tmp_path / "t.csv"
    write_table(file, [{"text": "good", "label": "gold", "p(neutral)": "x", "student_label": "y"}])
    report = predict_file(student_dir, file)
    (row,) = read_table(tmp_path / "t.predictions.csv")
    assert row["label"] == "gold"
    assert row["student_student_label"] == "positive"
    assert float(row["student_p(neutral)"]) < 0.5
    assert report.renamed == {
        "label": "student_student_label",
        "p(neutral)": "student_p(neutral)",
    }


@pytest.mark.parametrize(
    ("row", "chosen"),
    [
        ({"prompt": "a", "text": "b"}, "text"),
        ({"prompt": "a", "input": "b"}, "input"),
        ({"review": "a", "n": 1}, "review"),
    ],
)
def test_input_column_is_found(
    tmp_path: Path, student_dir: Path, row: dict[str, Any], chosen: str
) -> None:
    write_table(tmp_path / "t.jsonl", [row])
    assert predict_file(student_dir, tmp_path / "t.jsonl").input == chosen


def test_input_column_is_not_guessed(tmp_path: Path, student_dir: Path) -> None:
    file = tmp_path / "t.jsonl"
    write_table(file, [{"title": "a", "body": "b", "n": 1}])
    with pytest.raises(DataError, match="several columns of texts") as caught:
        predict_file(student_dir, file)
    assert "'title', 'body', 'n'" in caught.value.way_out
    assert predict_file(student_dir, file, input="body").input == "body"
    with pytest.raises(DataError, match="holds no text"):
        predict_file(student_dir, file, input="n")
    with pytest.raises(DataError, match="did you mean 'body'"):
        predict_file(student_dir, file, input="bodi")
    write_table(file, [{"n": 1}])
    with pytest.raises(DataError, match="no column of texts"):
        predict_file(student_dir, file)


def test_a_value_that_is_no_text(tmp_path: Path, student_dir: Path) -> None:
    file = tmp_path / "t.jsonl"
    write_table(file, [{"text": "good"}, {"text": 5}])
    report = predict_file(student_dir, file)
    assert report.errors == {"input is not a text but int": 1}
    assert read_table(tmp_path / "t.predictions.jsonl")[1]["label"] is None


def test_broken_row_fails_before_anything_is_labelled(tmp_path: Path, student_dir: Path) -> None:
    file = tmp_path / "t.jsonl"
    seen: list[int] = []
    for last in ("oops", '{"txt": "good"}'):
        file.write_text('{"text": "good"}\n' * 5000 + last + "\n")
        with pytest.raises(DataError, match=r"t\.jsonl:5001"):
            predict_file(student_dir, file, progress=lambda done, _: seen.append(done))
    assert seen == []
    assert list(tmp_path.iterdir()) == [file]


def test_interrupt_leaves_no_file(tmp_path: Path, student_dir: Path) -> None:
    file = tmp_path / "t.csv"
    write_table(file, ROWS)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_file(student_dir, file, progress=interrupt)
    assert list(tmp_path.iterdir()) == [file]


def test_the_input_is_never_overwritten(tmp_path: Path, student_dir: Path) -> None:
    file = tmp_path / "t.csv"
    write_table(file, ROWS)
    with pytest.raises(DataError, match="is the input itself"):
        predict_file(student_dir, file, tmp_path / "." / "t.csv")
    with pytest.raises(StudentError):
        predict_file(tmp_path, file)


@pytest.fixture
def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(predict_command)
    return app


def test_command(tmp_path: Path, student_dir: Path, command: typer.Typer) -> None:
    file = tmp_path / "t.csv"
    write_table(file, [{"text": text, "label": ""} for text in TEXTS])
    result = CliRunner().invoke(command, [str(student_dir), str(file)])
    assert result.exit_code == 0, result.output
    assert "labelled 6 rows" in result.stdout
    assert "rows/s with tiny" in result.stdout
    assert "without a label: 2 (empty input)" in result.stdout
    assert "the student's is 'student_label'" in result.stdout
    result = CliRunner().invoke(command, [str(student_dir), str(file), "--json"])
    assert json.loads(result.stdout)["labels"]["positive"] == 2


def test_command_to_stdout(tmp_path: Path, student_dir: Path, command: typer.Typer) -> None:
    file = tmp_path / "t.csv"
    write_table(file, ROWS)
    options = [str(student_dir), str(file), "--out", "-", "--probabilities", "none"]
    result = CliRunner().invoke(command, options)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["label"] or "" for row in rows] == LABELS
    assert set(rows[0]) == {"id", "text", "label", "confidence", "error"}
    assert "labelled 6 rows" in result.stderr
    result = CliRunner().invoke(command, [*options, "--json"])
    assert "leave out one" in str(result.exception)
    assert Path("-") == STDOUT


def test_written_csv_is_read_by_others(tmp_path: Path, student_dir: Path) -> None:
    file = tmp_path / "t.csv"
    write_table(file, ROWS)
    predict_file(student_dir, file)
    with (tmp_path / "t.predictions.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[4]["text"] == TEXTS[4]
