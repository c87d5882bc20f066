"""The held-out prompts of a text task: what was asked, what the teacher said, what is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from overproof.errors import RunError
from overproof.evaluate.scorers.protocol import Answer, Known
from overproof.records.chat_dataset import read_chats, read_references
from overproof.records.exchange import Exchange, Message, Outcome, Tool, ToolCall
from overproof.records.ledger import Ledger

__all__ = [
    "HeldOutRow",
    "asked_of",
    "check_not_empty",
    "exchange_of",
    "messages_of",
    "open_if_there",
    "read_held_out",
    "shown_tools",
]


@dataclass(frozen=True)
class HeldOutRow:
    """One prompt of ``tune`` or ``test`` with what became of it.

    ``messages`` are the chat before the answer. ``teacher`` is the teacher's answer where it was
    one; ``known`` is what scorers may read. ``made_by`` is ``file``, or what made the prompt: a
    strategy, or a task of reasoning-gym.
    """

    item: str
    messages: tuple[Message, ...]
    outcome: Outcome
    teacher: Answer | None
    known: Known
    tools: tuple[Tool, ...] = ()
    request_keys: tuple[str, ...] = ()
    output_tokens: int | None = None
    made_by: str = "file"
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def is_synthetic(self) -> bool:
        """Whether a program made the prompt."""
        return self.made_by not in ("file", "ledger")

    @property
    def text(self) -> str:
        """What the user says, all turns: what near-duplicates are told by."""
        return asked_of(self.messages)


def asked_of(messages: tuple[Message, ...]) -> str:
    """What the user says in a chat."""
    return "\n".join(m.content for m in messages if m.role == "user")


def read_held_out(dataset: Path, split: Literal["tune", "test"]) -> list[HeldOutRow]:
    """Every prompt of a split, whatever came of it, in file order; none where there is no file."""
    if not (dataset / f"{split}.parquet").exists():
        return []
    known = read_references(dataset)
    return [_row(row, known) for row in read_chats(dataset, split)]


def _row(row: dict[str, Any], known: dict[str, tuple[str | None, dict[str, Any]]]) -> HeldOutRow:
    messages = messages_of(row)
    outcome, teacher = Outcome(row["outcome"]), None
    if outcome is Outcome.ANSWERED:
        last, messages = messages[-1], messages[:-1]
        teacher = Answer(last.content, last.tool_calls)
    item = str(row["item"])
    reference, facts = known.get(item, (None, {}))
    gym = facts.get("reasoning_gym")
    kind = str((row.get("origin") or {}).get("kind") or "file")
    return HeldOutRow(
        item=item,
        messages=messages,
        outcome=outcome,
        teacher=teacher,
        known=Known(item, reference, facts, teacher),
        tools=shown_tools(row.get("tools")),
        request_keys=tuple(row.get("request_keys") or ()),
        output_tokens=row.get("output_tokens"),
        made_by=str(gym["name"]) if isinstance(gym, dict) and "name" in gym else kind,
        facts=facts,
    )


def messages_of(row: dict[str, Any]) -> tuple[Message, ...]:
    """The chat in a dataset's row; an answer, where there is one, is its last message."""
    return tuple(_message(message) for message in row["messages"])


def shown_tools(column: str | None) -> tuple[Tool, ...]:
    """The functions of a dataset's column ``tools``."""
    if not column:
        return ()
    return tuple(Tool.model_validate(each["function"]) for each in json.loads(column))


def _message(plain: dict[str, Any]) -> Message:
    calls = tuple(
        ToolCall(
            id=call.get("id") or "",
            name=call["function"]["name"],
            arguments=call["function"]["arguments"],
        )
        for call in plain.get("tool_calls") or ()
    )
    return Message(
        role=plain["role"],
        content=plain["content"] or "",
        tool_calls=calls,
        tool_call_id=plain.get("tool_call_id"),
    )


@contextmanager
def open_if_there(path: Path) -> Iterator[Ledger | None]:
    """A ledger to read from, ``None`` where there is none."""
    if not path.exists():
        yield None
        return
    with Ledger.open(path) as ledger:
        yield ledger


def exchange_of(ledger: Ledger | None, row: HeldOutRow) -> Exchange | None:
    """The teacher's last exchange about a prompt, whatever came of it."""
    if ledger is None or not row.request_keys:
        return None
    key = row.request_keys[-1]
    if (found := ledger.lookup(key)) is not None:
        return found
    entries = [entry.exchange for entry in ledger.recorded(key)]
    told = [exchange for exchange in entries if exchange is not None]
    return told[-1] if told else None


def check_not_empty(rows: list[HeldOutRow], dataset: Path) -> None:
    """Refuse a dataset that nothing can be measured on.

    Raises:
        RunError: it has no test prompt.
    """
    if not rows:
        raise RunError(
            str(dataset),
            "has no test prompt, so nothing can be certified",
            "set data.test, and collect into a [run] dir of its own",
        )
