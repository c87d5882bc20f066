"""Looks that were recorded are read back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from overproof.errors import DataError
from overproof.guard.recording import LookRecorder, read_looks


def recorder(only: set[str] | None = None) -> LookRecorder:
    made = LookRecorder(("a", "b"), ("x",), only)
    made.account("one", 0, 1.5, np.array([1.0, np.nan]), stratum="pro", group="org")
    made.account("two", 3, 2.5, np.array([0.0, -1.0]))
    made.community("c1", ["one", "two"], 1, 9.0, np.array([7.0]))
    return made


def test_tables_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "looks.parquet"
    recorder().save(path)
    accounts, communities = read_looks(path)
    assert accounts.names == ("a", "b")
    assert accounts.subjects == ["one", "two"]
    assert accounts.strata == ["pro", ""]
    assert accounts.groups == ["org", ""]
    np.testing.assert_array_equal(accounts.look, [0, 3])
    np.testing.assert_array_equal(accounts.vectors, [[1.0, np.nan], [0.0, -1.0]])
    assert communities.members == [("one", "two")]
    np.testing.assert_array_equal(communities.vectors, [[7.0]])
    assert [file.name for file in tmp_path.iterdir()] == ["looks.parquet"]


def test_only_the_trusted_are_kept() -> None:
    assert recorder({"one"}).accounts.subjects == ["one"]
    assert len(recorder({"one"}).communities) == 0
    assert len(recorder({"one", "two"}).communities) == 1


def test_nothing_recorded_is_a_table_too(tmp_path: Path) -> None:
    path = tmp_path / "looks.parquet"
    LookRecorder(("a", "b"), ("x",)).save(path)
    accounts, communities = read_looks(path)
    assert accounts.vectors.shape == (0, 2)
    assert communities.vectors.shape == (0, 1)


def test_wrong_files_and_wrong_vectors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_looks(tmp_path / "none.parquet")
    (tmp_path / "other.parquet").write_text("text")
    with pytest.raises(DataError, match="no table of looks"):
        read_looks(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="3 signals where 2 have names"):
        recorder().account("one", 0, 0.0, np.zeros(3))
