"""What collecting for a text task holds: prompts with their origin, answers with their fate.

A text task's dataset is a directory of chats that training libraries read as they are; these are
the records that it is made of.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from overproof.records.exchange import Message, Outcome, Record, ToolCall
from overproof.records.hashing import content_hash

__all__ = ["FilterReport", "Origin", "Prompt", "TextExample", "prompt_item"]


class Origin(Record):
    """Where a prompt came from.

    ``kind`` is ``file`` or ``ledger`` for prompts that people wrote, else the strategy that made
    it: ``paraphrase``, ``expand``, ``documents``, ``reasoning_gym``. ``source`` says where in it:
    ``FILE: row N``, or a generator with its seed. ``parents`` are the items of the prompts or
    documents that it was made of, ``teacher`` who wrote it, ``request_keys`` lead into the ledger.
    """

    kind: str
    source: str
    parents: tuple[str, ...] = ()
    teacher: str | None = None
    request_keys: tuple[str, ...] = ()

    @property
    def synthetic(self) -> bool:
        """Whether the prompt was made rather than found."""
        return self.kind not in ("file", "ledger")


class Prompt(Record):
    """A prompt to put to the teacher.

    ``item`` is its content address (``prompt_item``). ``turns`` are further user messages, asked
    one after another once the teacher has answered. ``reference`` is a known right answer: hidden
    from the teacher and from training. ``facts`` is what verifiers need: the row's other columns,
    or a generator's entry.
    """

    item: str
    messages: tuple[Message, ...]
    origin: Origin
    turns: tuple[str, ...] = ()
    reference: str | None = None
    facts: dict[str, Any] = Field(default_factory=dict)

    @property
    def text(self) -> str:
        """What the user says, all messages and turns: what near-duplicates are compared by."""
        said = [message.content for message in self.messages if message.role == "user"]
        return "\n".join([*said, *self.turns])


class TextExample(Record):
    """One answer of a teacher to one prompt.

    ``messages`` are the whole chat before the answer, earlier answers of the teacher included.
    ``answer``, ``reasoning`` and ``tool_calls`` are the teacher's last word; ``error`` says why an
    outcome is not ``answered``. ``sample`` tells several answers to one prompt apart.
    """

    item: str
    sample: int
    split: Literal["train", "tune", "test"]
    messages: tuple[Message, ...]
    outcome: Outcome
    answer: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    error: str = ""
    origin: Origin
    reference: str | None = None
    facts: dict[str, Any] = Field(default_factory=dict)
    request_keys: tuple[str, ...] = ()
    output_tokens: int | None = None
    teacher: str = ""
    licence: str = "unknown"
    terms: str = "unknown"

    @property
    def asked(self) -> str:
        """What the user said, all turns."""
        return "\n".join(m.content for m in self.messages if m.role == "user")


class FilterReport(Record):
    """What one filter saw and dropped, by reason, and what else is worth knowing of it."""

    name: str
    seen: int
    dropped: int
    reasons: dict[str, int] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


def prompt_item(messages: tuple[Message, ...], turns: tuple[str, ...] = ()) -> str:
    """The content address of a prompt: system, messages and turns to come."""
    said = [message.model_dump(mode="json", exclude_defaults=True) for message in messages]
    return content_hash({"messages": said, "turns": list(turns)})
