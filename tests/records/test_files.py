"""A file is the old one or the new one, never half of either."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from overproof.records.files import atomically, create_new, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_neighbour_takes_the_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "made" / "here" / "file.bin"
    with atomically(path) as partial:
        assert partial.name == f".file.bin.{os.getpid()}.partial"
        partial.write_bytes(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert names(path.parent) == ["file.bin"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, "old")

    def fail() -> None:
        with atomically(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_rename_that_fails_leaves_nothing(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    (taken / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_atomically(taken, "new")
    assert names(tmp_path) == ["taken"]


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomically(tmp_path / "file.txt"):
        pass
    assert names(tmp_path) == []


def test_text_and_bytes(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "é")
    write_atomically(tmp_path / "b", b"\xff")
    assert (tmp_path / "a").read_bytes() == "é".encode()
    assert (tmp_path / "b").read_bytes() == b"\xff"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_file_is_its_owners_from_the_first_byte(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    left = tmp_path / f".secret.{os.getpid()}.partial"  # by a killed one, open to all
    left.write_text("old")
    left.chmod(0o644)
    with atomically(path, private=True) as partial:
        assert (mode(partial), partial.read_bytes()) == (0o600, b"")
        partial.write_text("new")
    assert (mode(path), path.read_text()) == (0o600, "new")
    write_atomically(path, "newer", private=True)
    assert (mode(path), path.read_text()) == (0o600, "newer")


def test_a_new_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    create_new(path, b"first")
    assert mode(path) == 0o600
    with pytest.raises(FileExistsError):
        create_new(path, b"second")
    assert path.read_bytes() == b"first"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        create_new(tmp_path / "other", b"half")
    assert names(tmp_path) == ["key"]
