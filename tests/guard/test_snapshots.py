"""Snapshots: what goes in comes out; what is damaged or of another run is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overproof.errors import DataError, RunError
from overproof.guard import snapshots
from overproof.guard.snapshots import read_snapshot, write_snapshot

ME = {"configuration": "a", "key": "k"}
STATE: dict[str, Any] = {
    "accounts": {"rows": [[i, f"account {i}", b"\x00\xff"] for i in range(10_000)], "next": 7},
    "deep": {"a": {"b": {"c": {"d": {"e": {"f": {"g": [1, 2]}}}}}}},
    "empty": [],
    "nothing": None,
    "largest": 2**64 - 1,
    "by number": {1: [2.5], 2: []},
}

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary()
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "snapshot"
    size = write_snapshot(path, ME, STATE)
    assert size == path.stat().st_size
    assert read_snapshot(path, ME) == STATE
    assert [file.name for file in path.parent.iterdir()] == ["snapshot"]


@settings(max_examples=25, deadline=None)
@given(state=st.dictionaries(st.text(), plain))
def test_any_plain_state(state: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "snapshot"
    write_snapshot(path, {}, state)
    assert read_snapshot(path, {}) == state


def test_iterators_are_lists_when_read(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    write_snapshot(path, ME, {"a": {"b": iter(range(9_000)), "c": iter(())}, "nan": math.nan})
    state = read_snapshot(path, ME)
    assert state["a"] == {"b": list(range(9_000)), "c": []}
    assert math.isnan(state["nan"])


@pytest.mark.parametrize("other", [
    {"configuration": "b", "key": "k"}, {"configuration": "a"}, {**ME, "calibration": "new"},
])  # fmt: skip
def test_a_snapshot_of_another_run_is_refused(other: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    write_snapshot(path, ME, STATE)
    name = next(name for name in {*ME, *other} if ME.get(name) != other.get(name))
    with pytest.raises(RunError, match=f"another {name}"):
        read_snapshot(path, other)


def test_a_snapshot_of_another_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "snapshot"
    monkeypatch.setattr(snapshots, "FORMAT", 99)
    write_snapshot(path, ME, STATE)
    monkeypatch.undo()
    with pytest.raises(RunError, match="format 99"):
        read_snapshot(path, ME)


def test_damage_is_found(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    write_snapshot(path, ME, STATE)
    whole = path.read_bytes()
    for cut in (0, 5, 16, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError):
            read_snapshot(path, ME)
    for place in range(16, len(whole), len(whole) // 25):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            state = read_snapshot(path, ME)
        except (DataError, RunError):
            continue
        assert state == STATE  # a bit that compression does not use


def test_a_missing_one_and_another_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such snapshot"):
        read_snapshot(tmp_path / "none", ME)
    other = tmp_path / "other"
    other.write_text("something else")
    with pytest.raises(DataError, match="no snapshot of guard"):
        read_snapshot(other, ME)


def test_a_failed_write_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    write_snapshot(path, ME, {"old": 1})

    def breaks() -> Any:
        yield 1
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_snapshot(path, ME, {"new": breaks()})
    assert read_snapshot(path, ME) == {"old": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["snapshot"]
