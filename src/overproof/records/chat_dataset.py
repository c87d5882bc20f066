"""The dataset of a text task as files: Parquet and JSONL in the chat format, with a manifest.

Layout, under ``RUN/dataset/``::

    train.jsonl  tune.jsonl  test.jsonl          {"messages": […], "tools": […]} a line, answers
    chat/train.parquet  …                        the same as Parquet
    train.parquet  tune.parquet  test.parquet    every outcome, with where each came from
    references.parquet                           known right answers of tune and test, if there are
    dropped.jsonl                                what filters dropped, by which and why
    README.md                                    the dataset card
    dataset_info.json                            for LLaMA-Factory
    manifest.json                                ``TextManifest``, written last

The JSONL files follow OpenAI's fine-tuning format, which TRL, axolotl and LLaMA-Factory read too:
a call's arguments are JSON text. ``train`` holds answered and kept examples alone; the Parquet
files of ``tune`` and ``test`` hold every outcome, because an invalid answer counts as one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from overproof.errors import RunError
from overproof.records.exchange import Message, Outcome, Record, Tool, ToolCall
from overproof.records.files import write_atomically
from overproof.records.hashing import file_sha256
from overproof.records.text_dataset import FilterReport, TextExample

__all__ = [
    "TextManifest",
    "chat_of",
    "read_chats",
    "read_references",
    "write_chats",
    "write_references",
    "write_text_manifest",
]

Split = Literal["train", "tune", "test"]

_CALL = pa.struct(
    [
        ("id", pa.string()),
        ("type", pa.string()),
        ("function", pa.struct([("name", pa.string()), ("arguments", pa.string())])),
    ]
)
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
_TOOL_MESSAGE = pa.struct(
    [
        ("role", pa.string()),
        ("content", pa.string()),
        ("tool_calls", pa.list_(_CALL)),
        ("tool_call_id", pa.string()),
    ]
)
_ORIGIN = pa.struct(
    [("kind", pa.string()), ("source", pa.string()), ("parents", pa.list_(pa.string())),
     ("teacher", pa.string())]
)  # fmt: skip
_FACTS = [
    ("outcome", pa.string()),
    ("error", pa.string()),
    ("reasoning", pa.string()),
    ("item", pa.string()),
    ("sample", pa.int64()),
    ("origin", _ORIGIN),
    ("teacher", pa.string()),
    ("licence", pa.string()),
    ("terms", pa.string()),
    ("request_keys", pa.list_(pa.string())),
    ("output_tokens", pa.int64()),
]


class TextManifest(Record):
    """What was frozen, from what, and how.

    ``counts`` are rows by split and ``outcomes`` answers by split and outcome before filtering;
    ``provenance`` are training rows by teacher. ``recipe_sha256`` decides what was asked,
    ``dataset_sha256`` also what was dropped. ``gap``, ``drift`` and ``synthesis`` are reports.
    """

    kind: Literal["text"] = "text"
    recipe_sha256: str
    dataset_sha256: str
    input_file: str = ""
    input_sha256: str = ""
    counts: dict[str, int]
    outcomes: dict[str, dict[str, int]]
    exact_duplicates: int = 0
    near_duplicates: int = 0
    near_duplicate_threshold: float = 0.0
    filters: tuple[FilterReport, ...] = ()
    synthesis: tuple[dict[str, Any], ...] = ()
    gap: dict[str, Any] | None = None
    drift: dict[str, Any] | None = None
    origins: dict[str, int] = Field(default_factory=dict)
    provenance: dict[str, int] = Field(default_factory=dict)
    teacher: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, directory: Path) -> TextManifest:
        """Read a manifest and check that no file of the dataset has changed since.

        Raises:
            RunError: there is no dataset, or a file differs from its recorded hash.
        """
        path = directory / "manifest.json"
        if not path.exists():
            raise RunError(str(directory), "holds no frozen dataset", "run `overproof collect`")
        again = f"remove {directory} and run `overproof collect` again: the ledger has every answer"
        try:
            manifest = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            reason = "is damaged: " + str(error).splitlines()[0]
            raise RunError(str(path), reason, again) from error
        for name, digest in manifest.files.items():
            if not (directory / name).exists() or file_sha256(directory / name) != digest:
                raise RunError(
                    str(directory / name),
                    "is not the file that was frozen",
                    f"restore it, or {again}",
                )
        return manifest


def chat_of(example: TextExample, tools: Sequence[Tool] = ()) -> dict[str, Any]:
    """An example as a line of the chat format: the messages with the answer last."""
    answer = Message(role="assistant", content=example.answer, tool_calls=example.tool_calls)
    chat: dict[str, Any] = {"messages": [_message(m) for m in (*example.messages, answer)]}
    if tools:
        chat["tools"] = [
            {"type": "function", "function": tool.model_dump(mode="json")} for tool in tools
        ]
    return chat


def _message(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        plain["tool_calls"] = [_call(call, i) for i, call in enumerate(message.tool_calls)]
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def _call(call: ToolCall, number: int) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id or f"call_{number}", "type": "function", "function": function}


def write_chats(
    directory: Path, split: Split, examples: Sequence[TextExample], tools: Sequence[Tool] = ()
) -> None:
    """Write one split: answered examples as JSONL, all of them as Parquet."""
    lines = (
        json.dumps(chat_of(example, tools), ensure_ascii=False) + "\n"
        for example in examples
        if example.outcome is Outcome.ANSWERED
    )
    with (directory / f"{split}.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(lines)
    with_calls = bool(tools) or any(
        m.tool_calls or m.tool_call_id is not None for e in examples for m in e.messages
    )
    fields = [("messages", pa.list_(_TOOL_MESSAGE if with_calls else _MESSAGE))]
    fields += [("tools", pa.string())] if tools else []
    rows = [_row(example, tools) for example in examples]
    table = pa.Table.from_pylist(rows, schema=pa.schema([*fields, *_FACTS]))
    pq.write_table(table, directory / f"{split}.parquet")
    (directory / "chat").mkdir(exist_ok=True)
    answered = [row for row in rows if row["outcome"] == Outcome.ANSWERED.value]
    chats = pa.Table.from_pylist(answered, schema=pa.schema(fields))
    pq.write_table(chats, directory / "chat" / f"{split}.parquet")


def _row(example: TextExample, tools: Sequence[Tool]) -> dict[str, Any]:
    chat = chat_of(example, tools)
    if example.outcome is not Outcome.ANSWERED:
        chat["messages"].pop()  # no answer to learn or to compare with
    if tools:
        # Schemas differ from function to function, and Arrow wants one type a column.
        chat["tools"] = json.dumps(chat["tools"], ensure_ascii=False)
    facts = example.model_dump(mode="json", include={name for name, _ in _FACTS})
    return chat | facts


def write_references(directory: Path, examples: Iterable[TextExample]) -> None:
    """Write what scorers need of held-out prompts, by item; training never opens it.

    ``reference`` is the known right answer, ``facts`` what verifiers need besides, as JSON.
    """
    known = {
        e.item: (e.reference, json.dumps(e.facts, ensure_ascii=False) if e.facts else None)
        for e in examples
        if e.reference is not None or "reasoning_gym" in e.facts
    }
    if known:
        columns = {
            "item": pa.array(list(known), pa.string()),
            "reference": pa.array([reference for reference, _ in known.values()], pa.string()),
            "facts": pa.array([facts for _, facts in known.values()], pa.string()),
        }
        pq.write_table(pa.table(columns), directory / "references.parquet")


def read_references(directory: Path) -> dict[str, tuple[str | None, dict[str, Any]]]:
    """Known right answers and facts of held-out prompts, by item; empty where there are none."""
    path = directory / "references.parquet"
    if not path.exists():
        return {}
    return {
        row["item"]: (row["reference"], json.loads(row.get("facts") or "{}"))
        for row in pq.read_table(path).to_pylist()
    }


def read_chats(directory: Path, split: Split) -> list[dict[str, Any]]:
    """Rows of one split's Parquet file, in file order."""
    rows: list[dict[str, Any]] = pq.read_table(directory / f"{split}.parquet").to_pylist()
    return rows


def write_text_manifest(directory: Path, manifest: TextManifest) -> None:
    """Write the manifest last: a dataset without one is not frozen."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False)
    write_atomically(directory / "manifest.json", text + "\n")
