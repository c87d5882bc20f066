"""The log without its text: the same sketches, the other fields kept, never half a file."""

from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from overproof.errors import DataError, SecretError
from overproof.guard import rewriting
from overproof.guard.fingerprints import Fingerprinter
from overproof.guard.reading import read_log
from overproof.guard.rewriting import rewrite_log

KEY = b"a key of thirty-two secret bytes"
SECRET = "the secret words of a customer"


def rows(count: int = 20) -> list[dict[str, Any]]:
    return [
        {
            "ts": "2026-01-02T03:04:05Z" if index % 2 else 1.7e9 + index,
            "request_id": f"r{index}",
            "account": "a",
            "model": "m",
            "endpoint": "messages",
            "messages": [
                {"role": "system", "content": f"You are one. {SECRET}"},
                {"role": "user", "content": f"Question {index}: {SECRET * (index * 20)}"},
            ],
            "tools": ["search", SECRET],
            "params": {"temperature": 0.5, "stop": [SECRET], "user": SECRET * 3, "n": 2},
            "trace_id": {"a": [index, None]},
            "status": None,
        }
        for index in range(count)
    ]


def write(path: Path, items: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_the_sketches_are_those_of_the_full_log(tmp_path: Path, ending: str):
    source, target = write(tmp_path / "full.jsonl", rows()), tmp_path / "out" / f"log{ending}"
    counts = rewrite_log(source, target, KEY)
    printer = Fingerprinter(KEY)
    full, bare = list(read_log(source)), list(read_log(target))
    assert len(full) == len(bare) == 20
    for one, other in zip(full, bare, strict=True):
        assert other.messages is None
        assert other.tools is None
        assert other.text_sketch == printer.sketch(one) == printer.sketch(other)
        assert (one.ts, one.request_id, one.status) == (other.ts, other.request_id, other.status)
        assert other.params == {"temperature": 0.5, "n": 2}
    assert (counts.sketched, counts.kept, counts.params_dropped) == (20, 0, 40)
    assert counts.unknown == {"trace_id": 20}
    assert list(target.parent.iterdir()) == [target]


def test_no_text_is_left_and_unknown_fields_are_kept(tmp_path: Path):
    source, target = write(tmp_path / "full.jsonl", rows()), tmp_path / "bare.jsonl"
    rewrite_log(source, target, KEY)
    text = target.read_text()
    assert "secret" not in text
    assert "Question" not in text
    written = [json.loads(line) for line in text.splitlines()]
    assert [row["trace_id"] for row in written] == [{"a": [i, None]} for i in range(20)]
    assert written[1]["ts"] == "2026-01-02T03:04:05Z"


def test_it_is_the_same_every_time(tmp_path: Path):
    source = write(tmp_path / "full.jsonl", rows())
    for name in ("one.jsonl.gz", "two.jsonl.gz"):
        rewrite_log(source, tmp_path / name, KEY)
    assert (tmp_path / "one.jsonl.gz").read_bytes() == (tmp_path / "two.jsonl.gz").read_bytes()


def test_a_bare_log_stays_as_it_is(tmp_path: Path):
    source = write(tmp_path / "full.jsonl", rows())
    rewrite_log(source, tmp_path / "bare.jsonl", KEY)
    counts = rewrite_log(tmp_path / "bare.jsonl", tmp_path / "again.jsonl", KEY)
    assert (counts.sketched, counts.kept) == (0, 20)
    assert (tmp_path / "again.jsonl").read_text() == (tmp_path / "bare.jsonl").read_text()


def test_parquet_becomes_lines(tmp_path: Path):
    items = [{**row, "ts": 1.7e9, "large": 10**12} for row in rows()]
    pq.write_table(pa.Table.from_pylist(items), tmp_path / "full.parquet")
    counts = rewrite_log(tmp_path / "full.parquet", tmp_path / "bare.jsonl", KEY)
    assert counts.sketched == 20
    printer = Fingerprinter(KEY)
    sketches = [event.text_sketch for event in read_log(tmp_path / "bare.jsonl")]
    assert sketches == [printer.sketch(event) for event in read_log(tmp_path / "full.parquet")]


def test_numbers_and_characters_that_break_writers_survive(tmp_path: Path):
    odd = {**rows(1)[0], "large": 10**40, "half": "\ud800", "account": "a\0\u2028"}
    rewrite_log(write(tmp_path / "full.jsonl", [odd]), tmp_path / "bare.jsonl", KEY)
    (event,) = read_log(tmp_path / "bare.jsonl")
    assert event.account == "a\0\u2028"
    assert json.loads((tmp_path / "bare.jsonl").read_text())["large"] == 10**40


def test_bad_lines_are_left_out_and_counted(tmp_path: Path):
    source = write(tmp_path / "full.jsonl", rows(200))
    with source.open("a") as stream:
        stream.write('{"messages": "' + SECRET + '"}\n')
    counts = rewrite_log(source, tmp_path / "bare.jsonl", KEY)
    assert counts.read.bad_lines == 1
    assert "secret" not in (tmp_path / "bare.jsonl").read_text()
    with pytest.raises(DataError, match="1 of 201"):
        rewrite_log(source, tmp_path / "strict.jsonl", KEY, most_bad_lines=0.0)
    assert not (tmp_path / "strict.jsonl").exists()


class _FullDisk:
    """A file system that has room for so many bytes."""

    def __init__(self, stream: Any, error: BaseException, room: int = 2_000) -> None:
        self._stream, self._error, self._room = stream, error, room

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, data: bytes) -> int:
        self._room -= len(data)
        if self._room < 0:
            raise self._error
        return int(self._stream.write(data))


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
@pytest.mark.parametrize(
    ("fault", "raised"),
    [(OSError(errno.ENOSPC, "No space left on device"), DataError), (KeyboardInterrupt(), None)],
)
def test_no_half_file_is_left(
    tmp_path: Path,
    ending: str,
    fault: BaseException,
    raised: type[BaseException] | None,
    monkeypatch: pytest.MonkeyPatch,
):
    source, target = write(tmp_path / "full.jsonl", rows()), tmp_path / "out" / f"bare{ending}"
    rewrite_log(source, target, KEY)
    before = target.read_bytes()
    made = rewriting._compressed
    monkeypatch.setattr(
        rewriting, "_compressed", lambda file, name: made(_FullDisk(file, fault, 90), name)
    )
    with pytest.raises(raised or KeyboardInterrupt):
        rewrite_log(source, target, KEY)
    assert target.read_bytes() == before
    assert list(target.parent.iterdir()) == [target]


def test_the_source_is_never_overwritten(tmp_path: Path):
    source = write(tmp_path / "full.jsonl", rows())
    for target in (source, tmp_path / "." / "full.jsonl"):
        with pytest.raises(DataError, match="elsewhere"):
            rewrite_log(source, target, KEY)
    with pytest.raises(DataError, match="elsewhere"):
        rewrite_log(tmp_path, tmp_path / "bare.jsonl", KEY)
    with pytest.raises(DataError, match="does not say how"):
        rewrite_log(source, tmp_path / "bare.parquet", KEY)


def test_faults_are_told_before_anything_is_written(tmp_path: Path):
    source = write(tmp_path / "full.jsonl", rows())
    with pytest.raises(SecretError):
        rewrite_log(source, tmp_path / "bare.jsonl", b"short")
    with pytest.raises(DataError, match="no such file"):
        rewrite_log(tmp_path / "none.jsonl", tmp_path / "bare.jsonl", KEY)
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(source.read_bytes())[:-20])
    with pytest.raises(DataError, match="cut off"):
        rewrite_log(tmp_path / "cut.jsonl.gz", tmp_path / "bare.jsonl", KEY)
    # The way out that the error names is one: what is left is what a replay reads of it, too.
    whole = write(tmp_path / "whole.jsonl", rows(400))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(whole.read_bytes())[:-2000])
    counts = rewrite_log(tmp_path / "cut.jsonl.gz", tmp_path / "left.jsonl", KEY, most_bad_lines=1)
    reader = read_log(tmp_path / "cut.jsonl.gz", most_bad_lines=1)
    left = [event.request_id for event in reader]
    assert 0 < len(left) < 400
    assert [event.request_id for event in read_log(tmp_path / "left.jsonl")] == left
    assert (counts.read.lines, counts.read.bad) == (reader.counts.lines, reader.counts.bad)
    assert not (tmp_path / "bare.jsonl").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        rewrite_log(source, tmp_path / "file" / "bare.jsonl", KEY)


def test_progress_is_told(tmp_path: Path):
    source = write(tmp_path / "full.jsonl", [{**rows(1)[0], "messages": None}] * 20_000)
    told: list[int] = []
    rewrite_log(source, tmp_path / "bare.jsonl", KEY, progress=told.append)
    assert told == [10_000, 20_000]


def test_the_files_of_a_directory_come_by_time(tmp_path: Path):
    log = tmp_path / "log"
    log.mkdir()
    items = [row | {"ts": 1.7e9 + i} for i, row in enumerate(rows(9))]
    write(log / "b.jsonl", items[::2])
    write(log / "a.jsonl", items[1::2])
    with (log / "a.jsonl").open("a") as stream:
        stream.write("no event\n")
    counts = rewrite_log(log, tmp_path / "out.jsonl", KEY, most_bad_lines=0.5)
    assert (counts.read.events, counts.read.bad_lines) == (9, 1)
    assert [one.request_id for one in read_log(tmp_path / "out.jsonl")] == [
        f"r{i}" for i in range(9)
    ]
