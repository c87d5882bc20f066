"""Outputs of a replay are checked before anything runs: no input is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from guard_logs import rows, write_log

from overproof.api.guard import guard_replay
from overproof.api.guard_page import guard_report
from overproof.errors import ConfigError
from overproof.guard import replay as module
from overproof.guard.output_names import refuse_overwriting


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(tmp_path / "log.jsonl", rows(count=10))


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay that would fail otherwise than by refusing."""

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("the log was opened")

    monkeypatch.setattr(module, "open_log", opened)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize(
    ("out", "looks", "said"),
    [
        ("v.jsonl", "log.jsonl", "file of the log"),
        ("v.jsonl", "./sub/../log.jsonl", "file of the log"),
        ("v.jsonl", "v.jsonl", "two outputs"),
        ("v.jsonl", "v.communities.jsonl", "two outputs"),
        ("v.jsonl", "v.replay.json", "two outputs"),
        ("v.jsonl", "v.jsonl.snapshot", "two outputs"),
        ("v.jsonl", "v.jsonl.partial", "two outputs"),
        ("v.jsonl", "sub", "is a directory"),
        ("v.jsonl", "log.jsonl/looks.parquet", "no file can be written"),
        ("log.jsonl/v.jsonl", "looks.parquet", "no file can be written"),
    ],
)
def test_looks_are_an_output_like_others(
    log: Path, tmp_path: Path, out: str, looks: str, said: str
) -> None:
    (tmp_path / "sub").mkdir()
    before = log.read_bytes()
    with pytest.raises(ConfigError, match=said):
        guard_replay(log, tmp_path / out, watch_only=True, looks=tmp_path / looks)
    assert log.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl", "sub"}


@pytest.mark.usefixtures("unread")
def test_looks_beside_a_directory_of_logs_and_over_the_configuration(tmp_path: Path) -> None:
    home = tmp_path / "logs"
    home.mkdir()
    write_log(home / "a.jsonl", rows(count=10))
    config = tmp_path / "guard.toml"
    config.write_text("late_s = 1.0\n")
    out = tmp_path / "v.jsonl"
    with pytest.raises(ConfigError, match="part of it"):
        guard_replay(home, out, watch_only=True, looks=home / "looks.parquet")
    for names in ({"looks": config}, {"snapshot": config}):
        with pytest.raises(ConfigError, match="configuration"):
            guard_replay(home, out, config=config, watch_only=True, **names)
    with pytest.raises(ConfigError, match="configuration"):
        guard_replay(home, config, config=config, watch_only=True)
    assert config.read_text() == "late_s = 1.0\n"


@pytest.mark.parametrize("name", ["v.jsonl", "v.communities.jsonl", "v.replay.json", "s.json"])
def test_a_page_never_replaces_what_it_is_made_from(tmp_path: Path, name: str) -> None:
    for file in ("v.jsonl", "v.communities.jsonl"):
        (tmp_path / file).write_text("")
    for file in ("v.replay.json", "s.json"):
        (tmp_path / file).write_text("{}")
    before = (tmp_path / name).read_bytes()
    with pytest.raises(ConfigError, match="is read for the page"):
        guard_report(tmp_path / "v.jsonl", tmp_path / name, scores=tmp_path / "s.json")
    assert (tmp_path / name).read_bytes() == before


def test_a_link_to_an_input_is_the_input(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    with pytest.raises(ConfigError, match="is read as well"):
        refuse_overwriting([tmp_path / "link"], [tmp_path / "in"])
    refuse_overwriting([tmp_path / "other"], [tmp_path / "in"])
