from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overproof.errors import DataError
from overproof.records.tables import (
    iter_table,
    parquet_schema,
    read_table,
    write_table,
)

ROWS = [
    {"text": "plain", "label": "a"},
    {"text": 'with "quotes", commas\nand a line break', "label": "b"},
    {"text": "naïve café 東京 \U0001f6f0", "label": ""},
]
ENDINGS = [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".csv.gz", ".tsv.gz", ".jsonl.gz"]


def file(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def failure(path: Path, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        read_table(path, **options)
    return caught.value


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"table{ending}"
    write_table(path, ROWS)
    assert read_table(path, columns=["text"]) == ROWS
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(cells, cells), min_size=1, max_size=5), ending=st.sampled_from(ENDINGS)
)
def test_any_text_survives(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], ending: str
) -> None:
    path = tmp_path_factory.mktemp("t") / f"t{ending}"
    table = [{"x": x, "y": y} for x, y in rows]
    write_table(path, table)
    assert read_table(path) == table


def test_jsonl_and_parquet_keep_types(tmp_path: Path) -> None:
    rows = [{"n": 1, "f": 0.5, "none": None, "list": [1, 2]}]
    for ending in (".jsonl", ".parquet"):
        path = tmp_path / f"t{ending}"
        write_table(path, rows)
        assert read_table(path) == rows


def test_byte_order_mark_and_crlf(tmp_path: Path) -> None:
    path = file(tmp_path, "a.csv", b"\xef\xbb\xbftext,n\r\none,1\r\n\r\ntwo,2\r\n")
    assert read_table(path) == [{"text": "one", "n": "1"}, {"text": "two", "n": "2"}]
    path = file(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"text": "one"}\r\n\r\n{"text": "two"}')
    assert read_table(path) == [{"text": "one"}, {"text": "two"}]
    utf16 = file(tmp_path, "b.csv", "text\nhé\n".encode("utf-16"))
    assert read_table(utf16, encoding="utf-16") == [{"text": "hé"}]


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    file(tmp_path, "reviews.csv", "text\na\n")
    error = failure(tmp_path / "review.csv")
    assert error.culprit == str(tmp_path / "review.csv")
    assert error.way_out == f"did you mean {tmp_path / 'reviews.csv'}?"
    assert "folder" in failure(tmp_path / "nowhere" / "x.csv").way_out
    assert failure(tmp_path).reason == "is a folder"


def test_missing_file_fails_before_the_first_row_is_asked(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        iter_table(tmp_path / "nothing.csv")


def test_unknown_ending(tmp_path: Path) -> None:
    assert "'.xlsx'" in failure(file(tmp_path, "a.xlsx", "x")).reason
    assert "on each line" in failure(file(tmp_path, "a.json", "[]")).way_out
    assert "'.parquet.gz'" in failure(file(tmp_path, "a.parquet.gz", "x")).reason


def test_undecodable_byte_has_line_and_column(tmp_path: Path) -> None:
    path = file(tmp_path, "a.csv", b"text\nfine\ncaf\xe9 noir\n")
    error = failure(path)
    assert error.culprit == f"{path}:3:4"
    assert error.reason == "byte 0xe9 is not utf-8"
    assert "encoding = 'latin-1'" in error.way_out
    assert read_table(path, encoding="latin-1")[1] == {"text": "café noir"}


def test_undecodable_far_into_the_file(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 5000 + b'{"a": "\xff"}\n'))
    assert failure(path).culprit == f"{path}:5001:8"


def test_utf16_is_recognised(tmp_path: Path) -> None:
    path = file(tmp_path, "a.csv", "text\nhi\n".encode("utf-16"))
    error = failure(path)
    assert error.culprit == f"{path}:1:1"
    assert "utf-16" in error.way_out
    assert "no encoding 'utf-99'" in failure(path, encoding="utf-99").reason


def test_nul_byte(tmp_path: Path) -> None:
    path = file(tmp_path, "a.csv", b"text\nab\0c\n")
    assert failure(path).culprit == f"{path}:2:3"


@pytest.mark.parametrize(
    ("content", "where", "reason"),
    [
        ('{"a": 1}\n{"a": }\n', ":2:7", "is not JSON"),
        ('{"a": 1}\n\n[1]\n', ":3:1", "an array"),
        ('"text"\n', ":1:1", "a string"),
        ('{"a": "\\ud800"}\n', ":1", "surrogate"),
        ('{"a": ' + "9" * 5000 + "}\n", ":1", "not usable JSON"),
        ('{"a": ' + "[" * 100_000 + "\n", ":1", "not usable JSON"),
    ],
)
def test_bad_jsonl(tmp_path: Path, content: str, where: str, reason: str) -> None:
    path = file(tmp_path, "a.jsonl", content)
    error = failure(path)
    assert error.culprit == f"{path}{where}"
    assert reason in error.reason


def test_whole_surrogate_pair_is_fine(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", '{"a": "\\ud83d\\ude00"}\n')
    assert read_table(path) == [{"a": "\U0001f600"}]


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ('a,b\n1,2\n"x\ny",2\n1,2,3\n', 5, "has 3 fields, its header 2"),
        ("a,b\n1,2\n1\n", 3, "has 1 fields, its header 2"),
        ('a,b\n1,2\n"never closed,2\n3,4\n', 3, "unexpected end of data"),
        ('a,b\n"x"y,2\n', 2, "cannot be read"),
        ("a,a\n1,2\n", 1, "names the column 'a' twice"),
    ],
)
def test_bad_csv(tmp_path: Path, content: str, line: int, reason: str) -> None:
    path = file(tmp_path, "a.csv", content)
    error = failure(path)
    assert error.culprit == f"{path}:{line}"
    assert reason in error.reason
    assert error.way_out


def test_missing_column_names_the_nearest(tmp_path: Path) -> None:
    error = failure(file(tmp_path, "a.csv", "Text,label\nx,y\n"), columns=["text"])
    assert error.reason == "has no column 'text'"
    assert error.way_out == "did you mean 'Text'? columns there: 'Text', 'label'"
    path = file(tmp_path, "a.jsonl", '{"text": "x"}\n{"texts": "x"}\n')
    error = failure(path, columns=["text"])
    assert error.culprit == f"{path}:2"
    write_table(tmp_path / "a.parquet", ROWS)
    assert "'text'" in failure(tmp_path / "a.parquet", columns=["txt"]).way_out


def test_empty_files(tmp_path: Path) -> None:
    assert failure(file(tmp_path, "a.csv", "")).reason == "is empty"
    assert failure(file(tmp_path, "b.csv", "text\n")).reason == "has a header and no rows"
    assert failure(file(tmp_path, "a.jsonl", "\n\n")).reason == "is empty"
    pq.write_table(pa.table({"a": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert failure(tmp_path / "a.parquet").reason == "has no rows"


def test_damaged_files(tmp_path: Path) -> None:
    assert "Parquet" in failure(file(tmp_path, "a.parquet", "no")).reason
    assert "gzipped" in failure(file(tmp_path, "a.csv.gz", "text\n")).reason
    whole = gzip.compress(b"text\n" + bytes(range(97, 123)) * 100)
    assert "damaged" in failure(file(tmp_path, "b.csv.gz", whole[: len(whole) // 2])).reason
    with pytest.raises(DataError):
        parquet_schema(tmp_path / "a.parquet")


def test_reading_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n' * 10_000 + "broken\n")
    rows = iter_table(path)
    assert len(list(itertools.islice(rows, 100))) == 100
    with pytest.raises(DataError, match="10001:1"):
        list(rows)


def interrupted() -> Iterator[dict[str, Any]]:
    yield ROWS[0]
    raise KeyboardInterrupt


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    for ending in ENDINGS:
        path = tmp_path / f"t{ending}"
        write_table(path, ROWS)
        before = path.read_bytes()
        with pytest.raises(KeyboardInterrupt):
            write_table(path, interrupted())
        assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == len(ENDINGS)


def test_rows_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lacks"):
        write_table(tmp_path / "t.csv", [{"a": 1}, {"a": 1, "b": 2}])
    with pytest.raises(DataError, match="one type"):
        write_table(tmp_path / "t.parquet", [{"a": 1}, {"a": "x"}])
    with pytest.raises(DataError, match="Parquet column"):
        write_table(tmp_path / "t.parquet", [{"a": 1}] * 1024 + [{"a": "x"}])
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place(tmp_path: Path) -> None:
    file(tmp_path, "folder", "not a folder")
    for ending in (".csv", ".parquet"):
        with pytest.raises(DataError, match="cannot be written"):
            write_table(tmp_path / "folder" / f"t{ending}", ROWS)
