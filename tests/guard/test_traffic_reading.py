"""Reading logs of every format, damaged ones too, from the start and from the middle."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from overproof.errors import DataError
from overproof.guard import reading
from overproof.guard.events import BadReason
from overproof.guard.reading import read_log
from overproof.records.traffic import Event


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "ts": 1.7e9 + index,
            "request_id": f"r{index}",
            "account": f"a{index % 3}",
            "model": "m",
            "endpoint": "messages",
            "messages": [{"role": "user", "content": f"question {index}"}],
            "params": {"temperature": 0.5, "n": None if index % 2 else 2},
            "not_ours": "kept elsewhere",
        }
        for index in range(start, start + count)
    ]


def lines(items: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def write_zstd(path: Path, data: bytes) -> None:
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(data)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], Any]] = {
    ".jsonl": lambda path, items: path.write_bytes(lines(items)),
    ".jsonl.gz": lambda path, items: path.write_bytes(gzip.compress(lines(items))),
    ".jsonl.zst": lambda path, items: write_zstd(path, lines(items)),
    ".parquet": lambda path, items: pq.write_table(
        pa.Table.from_pylist(items), path, row_group_size=40
    ),
}


@pytest.mark.parametrize("ending", WRITERS)
def test_every_format_gives_the_same_events(tmp_path: Path, ending: str):
    WRITERS[".jsonl"](tmp_path / "plain.jsonl", rows(100))
    WRITERS[ending](tmp_path / f"log{ending}", rows(100))
    plain = list(read_log(tmp_path / "plain.jsonl"))
    reader = read_log(tmp_path / f"log{ending}")
    events = list(reader)
    assert [e.request_id for e in events] == [f"r{i}" for i in range(100)]
    for event, same in zip(events, plain, strict=True):
        assert {k: v for k, v in same.params.items() if v is not None} == {
            k: v for k, v in event.params.items() if v is not None
        }
        assert event.messages == same.messages
        assert event.ts == same.ts
    assert (reader.counts.files, reader.counts.lines, reader.counts.bad) == (1, 100, {})


def test_parquet_times_may_be_timestamps(tmp_path: Path):
    table = pa.Table.from_pylist(rows(3))
    times = pa.array([1_700_000_000_123_456_789 + i for i in range(3)], pa.timestamp("ns", "UTC"))
    table = table.set_column(0, "ts", times)
    pq.write_table(table, tmp_path / "log.parquet")
    assert [round(e.ts, 6) for e in read_log(tmp_path / "log.parquet")] == [1700000000.123456] * 3


def test_a_directory_is_one_log_in_the_order_of_names(tmp_path: Path):
    for number, ending in enumerate(WRITERS):
        WRITERS[ending](tmp_path / f"{number}{ending}", rows(10, 10 * number))
    (tmp_path / ".half.jsonl").write_text("{")
    (tmp_path / "README.md").write_text("not a log")
    reader = read_log(tmp_path)
    assert [e.request_id for e in reader] == [f"r{i}" for i in range(40)]
    assert reader.counts.files == 4


def test_bad_lines_are_counted_with_their_place(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(lines(rows(500)) + b"{\n\n  \n" + lines(rows(1, 500)) + b"[]\n\xff\n")
    reader = read_log(path)
    assert len(list(reader)) == 501
    counts = reader.counts
    assert counts.bad == {
        BadReason.NOT_JSON: 1,
        BadReason.NOT_OBJECT: 1,
        BadReason.NOT_UTF8: 1,
    }
    assert [example.line for example in counts.examples] == [501, 505, 506]
    assert counts.lines == 504
    assert "3 of 504" in counts.words()


def test_too_many_bad_lines_end_it_with_exit_code_2(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(lines(rows(50)) + b"{\n")
    with pytest.raises(DataError, match=r"log\.jsonl:51 is not JSON") as caught:
        list(read_log(path))
    assert caught.value.exit_code == 2
    assert len(list(read_log(path, most_bad_lines=1))) == 50
    assert len(list(read_log(path, most_bad_lines=0.05))) == 50


def test_it_ends_early_in_a_long_log(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(lines(rows(980)) + b"{\n" * 5_000)
    reader = read_log(path)
    with pytest.raises(DataError):
        list(reader)
    assert reader.counts.events == 980
    assert reader.counts.lines == 1_000


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_an_empty_log_has_no_events(tmp_path: Path, ending: str):
    WRITERS[ending](tmp_path / f"log{ending}", [])
    reader = read_log(tmp_path / f"log{ending}")
    assert list(reader) == []
    assert reader.counts.lines == 0


def test_there_must_be_a_log(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        read_log(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="holds no log files"):
        read_log(tmp_path)
    (tmp_path / "log.csv").write_text("")
    with pytest.raises(DataError, match="does not say what it is"):
        read_log(tmp_path / "log.csv")


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst", ".parquet"])
@pytest.mark.parametrize("keep", [0.6, 0.0])
def test_a_damaged_file_is_named(tmp_path: Path, ending: str, keep: float):
    path = tmp_path / f"log{ending}"
    WRITERS[ending](path, rows(5_000))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))] or b"no such format")
    with pytest.raises(DataError, match="log") as caught:
        list(read_log(path))
    assert "cut off or damaged" in str(caught.value) or "Parquet" in str(caught.value)
    reader = read_log(path, most_bad_lines=1)
    assert len(list(reader)) < 5_000
    assert reader.counts.bad == {BadReason.CUT_OFF: 1}


def test_a_line_without_end_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "LONGEST_LINE", 1_000)
    path = tmp_path / "log.jsonl"
    path.write_bytes(lines(rows(2)) + b"x" * 10_500 + b"\n" + lines(rows(2, 2)))
    reader = read_log(path, most_bad_lines=0.5)
    assert [event.request_id for event in reader] == ["r0", "r1", "r2", "r3"]
    assert reader.counts.bad == {BadReason.TOO_LONG: 1}


@pytest.mark.parametrize("stop", [1, 39, 40, 41, 75, 119])
def test_reading_goes_on_where_it_stopped(tmp_path: Path, stop: int):
    for number, ending in enumerate((".parquet", ".jsonl", ".jsonl.gz")):
        WRITERS[ending](tmp_path / f"{number}{ending}", rows(40, 40 * number))
    with (tmp_path / "1.jsonl").open("ab") as stream:
        stream.write(b"{\n")
    whole = read_log(tmp_path)
    expected = [event.request_id for event in whole]
    first = read_log(tmp_path)
    events = iter(first)
    seen: list[Event] = [next(events) for _ in range(stop)]
    state = json.loads(json.dumps(first.state()))
    again = read_log(tmp_path, resume=state)
    seen += list(again)
    assert [event.request_id for event in seen] == expected
    assert again.counts == whole.counts
    assert again.position == whole.position


def test_another_log_cannot_be_resumed(tmp_path: Path):
    WRITERS[".jsonl"](tmp_path / "a.jsonl", rows(3))
    WRITERS[".jsonl"](tmp_path / "b.jsonl", rows(3))
    state = read_log(tmp_path / "a.jsonl").state()
    with pytest.raises(DataError, match="is not the log"):
        read_log(tmp_path / "b.jsonl", resume=state)
