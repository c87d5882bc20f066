"""The dataset of a text task as files, read back by the libraries that train on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from overproof.errors import RunError
from overproof.records.chat_dataset import (
    TextManifest,
    chat_of,
    read_chats,
    write_chats,
    write_references,
    write_text_manifest,
)
from overproof.records.exchange import Message, Outcome, Tool, ToolCall
from overproof.records.hashing import file_sha256
from overproof.records.text_dataset import Origin, TextExample

WEATHER = Tool(
    name="weather",
    description="The weather of a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
)
CALL = ToolCall(id="c1", name="weather", arguments='{"city": "Zürich"}')


def example(**changes: Any) -> TextExample:
    return TextExample(
        item="sha256:00",
        sample=0,
        split="train",
        messages=(Message(role="system", content="Be kind."), Message(role="user", content="Hi ☃")),
        outcome=Outcome.ANSWERED,
        answer="Hello!",
        origin=Origin(kind="file", source="x.csv: row 1"),
        teacher="t@host",
        request_keys=("sha256:11",),
        output_tokens=3,
        reference="known",
        facts={"a": 1},
    ).model_copy(update=changes)


def test_a_line_is_what_openai_fine_tuning_reads() -> None:
    from openai.types.chat import ChatCompletionAssistantMessageParam, ChatCompletionToolParam
    from pydantic import TypeAdapter

    line = chat_of(example(answer="", tool_calls=(CALL,)), [WEATHER])
    assert line["messages"][:2] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi ☃"},
    ]
    answer = line["messages"][2]
    TypeAdapter(ChatCompletionAssistantMessageParam).validate_python(answer)
    TypeAdapter(list[ChatCompletionToolParam]).validate_python(line["tools"])
    assert json.loads(answer["tool_calls"][0]["function"]["arguments"]) == {"city": "Zürich"}


def test_jsonl_holds_answers_and_parquet_everything(tmp_path: Path) -> None:
    refused = example(outcome=Outcome.REFUSED, answer="No.", error="refused", split="test")
    write_chats(tmp_path, "test", [example(split="test"), refused])
    lines = (tmp_path / "test.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1
    rows = read_chats(tmp_path, "test")
    assert [row["outcome"] for row in rows] == ["answered", "refused"]
    assert [len(row["messages"]) for row in rows] == [3, 2]  # a refusal is no answer to learn
    assert rows[0]["origin"]["source"] == "x.csv: row 1"
    assert "reference" not in rows[0]
    assert "facts" not in rows[0]


@pytest.mark.parametrize("with_tools", [False, True])
def test_the_datasets_library_loads_both_forms(tmp_path: Path, with_tools: bool) -> None:
    from datasets import load_dataset

    tools = [WEATHER] if with_tools else []
    examples = [example(tool_calls=(CALL,) if with_tools else ()) for _ in range(3)]
    write_chats(tmp_path, "train", examples, tools)
    for kind, suffix in (("parquet", "parquet"), ("json", "jsonl")):
        files = {"train": str(tmp_path / f"train.{suffix}")}
        loaded = load_dataset(kind, data_files=files, cache_dir=str(tmp_path / "cache"))["train"]
        assert len(loaded) == 3
        messages = loaded[0]["messages"]
        assert [m["role"] for m in messages] == ["system", "user", "assistant"]
        assert messages[1]["content"] == "Hi ☃"
        assert ("tools" in loaded.column_names) is with_tools


def test_references_stand_alone(tmp_path: Path) -> None:
    write_references(tmp_path, [example(reference=None)])
    assert not (tmp_path / "references.parquet").exists()
    write_references(tmp_path, [example()])
    assert (tmp_path / "references.parquet").exists()


def manifest(**changes: Any) -> TextManifest:
    return TextManifest(
        recipe_sha256="sha256:0", dataset_sha256="sha256:1", counts={}, outcomes={}
    ).model_copy(update=changes)


def test_a_file_that_changed_is_found(tmp_path: Path) -> None:
    write_chats(tmp_path, "train", [example()])
    files = {"train.jsonl": file_sha256(tmp_path / "train.jsonl")}
    write_text_manifest(tmp_path, manifest(files=files))
    assert TextManifest.load(tmp_path).files == files
    with (tmp_path / "train.jsonl").open("a") as stream:
        stream.write("{}\n")
    with pytest.raises(RunError, match=r"train\.jsonl: is not the file that was frozen"):
        TextManifest.load(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        TextManifest.load(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(RunError, match="holds no frozen dataset"):
        TextManifest.load(tmp_path)
