"""What ``overproof audit`` says where something is in the way: always a way out of an audit's."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from auditing import audit, write

from overproof.errors import ConfigError, DataError, OverproofError, TeacherUnreachableError

PLAN = 'suspect = "s"\nteacher = "t"\n[[tests]]\nkind = "weights"\n'


def log(tmp_path: Path) -> Path:
    rows = [{"prompt": f"p{i}", "served": "a", "ghosts": ["b"], "position": 0} for i in range(3)]
    return write(tmp_path / "log.jsonl", rows)


def test_a_file_where_a_folder_belongs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "plan.toml").write_text(PLAN)
    for out in (tmp_path / "file", tmp_path / "file" / "under"):
        for arguments in (
            ("draw", "--slots", 3, "--answers", 2),
            ("commit", log(tmp_path)),
            ("plan", tmp_path / "plan.toml"),
        ):
            error = audit(*arguments, "--out", out)
            assert isinstance(error, ConfigError)
            assert (error.reason, error.culprit) == ("is a file", str(tmp_path / "file"))
            assert "name a folder" in error.way_out
    under = audit("key", "--scheme", "kgw", "--out", tmp_path / "file" / "key")
    assert isinstance(under, ConfigError)
    assert (tmp_path / "file").read_text() == "kept"


def test_what_is_no_plan(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for given in (log(tmp_path), tmp_path, tmp_path / "binary"):
        error = audit("plan", given, "--out", tmp_path / "case")
        assert isinstance(error, ConfigError)
        assert "TOML file: suspect, teacher, alpha" in error.way_out
    assert not (tmp_path / "case").exists()


def test_places_that_cannot_be_written() -> None:
    pytest.importorskip("cryptography")
    for arguments in (
        ("signing-key", "--out", "/proc/x"),
        ("key", "--scheme", "kgw", "--out", "/proc/x"),
        ("draw", "--slots", 2, "--answers", 2, "--out", "/proc"),
    ):
        error = audit(*arguments)
        assert isinstance(error, OverproofError)
        assert "/proc" in error.culprit
        assert "folder" in error.way_out


@pytest.mark.slow
def test_a_dead_server_is_told_in_words_of_an_audit(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = audit("ghosts", log(tmp_path), "--suspect", f"m@http://127.0.0.1:{port}/v1")
    assert isinstance(error, TeacherUnreachableError)
    assert "teacher." not in str(error)
    assert "check the address behind the @" in error.way_out


def test_references_that_nobody_has() -> None:
    error = audit("power", "references", "--alpha", "1e-12")
    assert isinstance(error, ConfigError)
    assert "999,999,999,999" in error.reason
    assert "ghosts" in error.way_out
    said = audit("power", "references", "--shift", 0.01)
    assert "never" not in said
    assert "no number up to 100,000 of each kind is enough" in said
    assert isinstance(audit("power", "references", "--power", 2), ConfigError)
    assert not isinstance(audit("power", "references"), DataError)
