"""The dataset's directory as the ``datasets`` library and LLaMA-Factory read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from collecting import use
from datasets import load_dataset
from texting import ABLE, collected, last, recipe, says
from typer.testing import CliRunner

from overproof.cli.main import app
from overproof.clients.fake import FakeTeacher
from overproof.config.load import LoadedTextRecipe
from overproof.records.exchange import Completion, Outcome, Request, ToolCall


def load(loaded: LoadedTextRecipe, cache: Path, config: str | None = None) -> Any:
    return load_dataset(str(loaded.run_dir / "dataset"), config, cache_dir=str(cache))


def test_the_directory_loads_in_both_configurations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, FakeTeacher(answer=says(last)))
    loaded = recipe(tmp_path, data="test = 3\ntune = 2")
    collected(loaded)
    everything = load(loaded, tmp_path / "cache")
    assert {name: len(split) for name, split in everything.items()} == {
        "train": 7, "validation": 2, "test": 3}  # fmt: skip
    assert everything["train"][0]["outcome"] == "answered"
    chat = load(loaded, tmp_path / "cache", "chat")
    assert chat["train"].column_names == ["messages"]
    assert chat["train"][0]["messages"] == everything["train"][0]["messages"]


def test_another_dataset_is_not_taken_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, FakeTeacher(answer=says(last)))
    loaded = recipe(tmp_path)
    collected(loaded)
    assert len(load(loaded, tmp_path / "cache")["train"]) == 12
    filtered = recipe(tmp_path, '[[filters]]\nkind = "regex"\nmust_not = ["ada"]\non = "prompt"\n')
    collected(filtered)
    assert len(load(filtered, tmp_path / "cache")["train"]) == 11


def test_calls_are_registered_with_llama_factory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(request: Request) -> Completion:
        made = ToolCall(id="c", name="write", arguments='{"to": "ada"}')
        return Completion(outcome=Outcome.ANSWERED, tool_calls=(made,))

    use(monkeypatch, FakeTeacher(answer=call, capabilities=ABLE))
    (tmp_path / "tools.json").write_text(
        '[{"name": "write", "parameters": {"properties": {"to": {"type": "string"}}}}]'
    )
    loaded = recipe(tmp_path, task='answer = "tools"\ntools = "tools.json"')
    collected(loaded)
    info = json.loads((loaded.run_dir / "dataset" / "dataset_info.json").read_text())
    assert info["overproof_train"]["formatting"] == "openai"
    assert info["overproof_train"]["columns"] == {"messages": "messages", "tools": "tools"}
    row = load(loaded, tmp_path / "cache", "chat")["train"][0]
    assert row["messages"][-1]["tool_calls"][0]["function"]["name"] == "write"
    assert json.loads(row["tools"])[0]["function"]["name"] == "write"
    assert "json.loads" in (loaded.run_dir / "dataset" / "README.md").read_text()


def test_a_prompt_can_be_erased_and_every_trace_of_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from overproof.cli.commands import register

    use(monkeypatch, FakeTeacher(answer=says("fine")))
    loaded = recipe(tmp_path)
    collected(loaded)
    register(app)
    rows = CliRunner().invoke(app, ["ledger", "show", str(loaded.run_dir), "--json"])
    row = next(each for each in json.loads(rows.stdout) if each["kind"] == "exchange")
    done = CliRunner().invoke(
        app, ["ledger", "erase", str(row["seq"]), str(loaded.run_dir), "--yes", "--json"]
    )
    assert done.exit_code == 0, done.output
    erased = json.loads(done.stdout)
    assert erased["erased"] == 1
    assert {"dataset/train.parquet", "dataset/train.jsonl"} <= set(erased["also_in_files"])
