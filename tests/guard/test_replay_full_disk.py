"""A replay that can write no more: it names the file, and says whether one can go on."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest
from file_limits import files_no_larger_than
from guard_logs import BusyJudge, rows, write_log

from overproof.config.guard import GuardConfig
from overproof.errors import DataError
from overproof.guard import verdict_files
from overproof.guard.replay import SnapshotPlan, replay
from overproof.guard.verdict_files import GrowingFile


def run(events: Path, out: Path, **options: Any) -> Any:
    return replay(events, out, GuardConfig(), judge=BusyJudge(), **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log") / "events.jsonl", rows())


class Disk(io.BufferedRandom):
    """A file on a disk that is full as soon as a snapshot, or nothing, has been written."""

    full_after: Path | None = None

    def write(self, data: Any, /) -> int:
        if data and (self.full_after is None or self.full_after.exists()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> type[Disk]:
    monkeypatch.setattr(
        verdict_files.os, "fdopen", lambda handle, mode: Disk(io.FileIO(handle, mode))
    )
    monkeypatch.setattr(Disk, "full_after", None)
    return Disk


def test_a_full_disk_names_the_file_and_leaves_nothing_that_nobody_can_use(
    log: Path, disk: type[Disk], tmp_path: Path
) -> None:
    out = tmp_path / "v.jsonl"
    with pytest.raises(OSError, match="No space left") as caught:
        run(log, out)
    assert caught.value.errno == errno.ENOSPC
    assert Path(caught.value.filename).parent == tmp_path
    assert Path(caught.value.filename).name.endswith(".partial")
    assert names(tmp_path) == []


def test_with_a_snapshot_it_goes_on_once_there_is_room(
    log: Path, disk: type[Disk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "v.jsonl", tmp_path / "whole" / "v.jsonl"
    monkeypatch.setattr(disk, "full_after", tmp_path / "v.jsonl.snapshot")
    with pytest.raises(OSError, match="No space left"):
        run(log, out, snapshots=SnapshotPlan(every_events=1000))
    assert names(tmp_path) == [
        "v.communities.jsonl.partial", "v.jsonl.partial", "v.jsonl.snapshot",
    ]  # fmt: skip
    monkeypatch.undo()
    assert run(log, out, snapshots=SnapshotPlan(resume=True)).resumed_at == 1000
    run(log, whole)
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("every", [None, 500])
def test_what_the_system_refuses_to_write_is_named(
    every: int | None, log: Path, tmp_path: Path
) -> None:
    with files_no_larger_than(2_000), pytest.raises(OSError, match="File too large") as caught:
        run(log, tmp_path / "v.jsonl", snapshots=SnapshotPlan(every_events=every))
    # The first snapshot does not fit either: nothing could be resumed.
    assert caught.value.filename == str(
        tmp_path / ("v.jsonl.partial" if every is None else "v.jsonl.snapshot")
    )
    assert names(tmp_path) == []


def test_any_other_end_without_a_snapshot_leaves_nothing_either(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "events.jsonl").write_text("nonsense\n" * 50)
    with pytest.raises(DataError):
        run(tmp_path / "log" / "events.jsonl", tmp_path / "v.jsonl")
    assert names(tmp_path) == ["log"]


def test_a_file_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "v.jsonl"
    with GrowingFile(out) as theirs:
        theirs.write([{"a": 1}])
        log = write_log(tmp_path / "events.jsonl", rows(count=20))
        with pytest.raises(Exception, match="another process"):
            run(log, out)
        theirs.finish()
    assert out.read_bytes() == b'{"a":1}\n'
