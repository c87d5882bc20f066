"""Prompts of a text task: rows of a file, rendered, told apart by content, and split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from overproof.collect.prompts import UNRENDERABLE
from overproof.config.text_recipe import TextDataConfig, TextTaskConfig
from overproof.errors import ConfigError, DataError
from overproof.records.exchange import Message
from overproof.records.openai_json import messages_of
from overproof.records.tables import read_table
from overproof.records.text_dataset import Origin, Prompt, prompt_item
from overproof.stats.shingles import jaccard_pairs

__all__ = ["PromptSplits", "Prompts", "Renderer", "read_prompts", "split_prompts"]


@dataclass
class Prompts:
    """The distinct prompts of a file with what was left out and why."""

    source: str
    prompts: list[Prompt]
    empty_rows: list[int] = field(default_factory=list)
    exact_duplicates: int = 0

    def notes(self) -> list[str]:
        """What was left out, in words."""
        notes = []
        if self.empty_rows:
            shown = ", ".join(map(str, self.empty_rows[:5]))
            more = ", ..." if len(self.empty_rows) > 5 else ""
            rows = "rows" if len(self.empty_rows) > 1 else "row"
            what = "prompts" if len(self.empty_rows) > 1 else "prompt"
            left = f"{len(self.empty_rows)} empty {what} left out"
            notes.append(f"{left} ({rows} {shown}{more})")
        if self.exact_duplicates:
            several = "s" if self.exact_duplicates > 1 else ""
            notes.append(f"{self.exact_duplicates} repeat{several} of a prompt left out")
        return notes


@dataclass(frozen=True)
class PromptSplits:
    """The pools. ``near_duplicates`` prompts were left out, ``unused`` were not needed."""

    train: list[Prompt]
    tune: list[Prompt]
    test: list[Prompt]
    near_duplicates: int
    unused: int


class Renderer:
    """Turns an input with its row into messages.

    Raises:
        ConfigError: a template that is none.
    """

    def __init__(self, task: TextTaskConfig) -> None:
        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False
        )
        self._templates = {}
        for name in ("system", "prompt"):
            try:
                self._templates[name] = environment.from_string(getattr(task, name))
            except TemplateSyntaxError as error:
                raise ConfigError(
                    f"task.{name}: line {error.lineno}", f"is no template: {error.message}"
                ) from error

    def system(self, where: str, row: Mapping[str, Any]) -> tuple[Message, ...]:
        """The system message, nothing where the recipe has none."""
        text = self._render("system", where, row)
        return (Message(role="system", content=text),) if text.strip() else ()

    def user(self, where: str, row: Mapping[str, Any]) -> Message:
        """The user message that holds ``row["input"]``."""
        return Message(role="user", content=self._render("prompt", where, row))

    def _render(self, name: str, where: str, row: Mapping[str, Any]) -> str:
        try:
            return str(self._templates[name].render(**dict(row) | {"row": row}))
        except UNRENDERABLE as error:
            raise ConfigError(
                f"task.{name}",
                f"cannot be rendered for {where}: {error}",
                "it may use input and the file's columns, by name or as row['name']",
            ) from error


def read_prompts(path: Path, data: TextDataConfig, task: TextTaskConfig) -> Prompts:
    """Read the prompts of ``path``.

    Raises:
        DataError: the file cannot be read, a column is missing, a value is of the wrong kind; the
            culprit is FILE and row.
        ConfigError: a template that cannot be rendered.
    """
    needed = [data.messages or data.input, *([data.reference] if data.reference else [])]
    rows = read_table(path, columns=needed, encoding=data.encoding)
    renderer = Renderer(task)
    found = Prompts(source=str(path), prompts=[])
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        if data.messages:
            prompt = _of_chat(where, row, data, renderer)
        else:
            prompt = _of_text(where, row, data, renderer)
        if prompt is None:
            found.empty_rows.append(number)
        elif prompt.item in seen:
            found.exact_duplicates += 1
        else:
            seen.add(prompt.item)
            source = f"{path.name}: row {number}"
            origin = Origin(kind="file", source=source)
            found.prompts.append(prompt.model_copy(update={"origin": origin}))
    if not found.prompts:
        raise DataError(str(path), f"has no prompt in column {needed[0]!r} that is not empty")
    return found


def _of_text(
    where: str, row: dict[str, Any], data: TextDataConfig, renderer: Renderer
) -> Prompt | None:
    text = row[data.input]
    if text is None or (isinstance(text, str) and not text.strip()):
        return None
    if not isinstance(text, str):
        raise DataError(
            where,
            f"column {data.input!r} holds {type(text).__name__}, not text",
            "a column of chats is named by data.messages instead of data.input",
        )
    shown = {name: value for name, value in row.items() if name != data.reference}
    shown["input"] = text
    messages = (*renderer.system(where, shown), renderer.user(where, shown))
    return _prompt(messages, (), row, data, _reference(where, row, data))


def _of_chat(
    where: str, row: dict[str, Any], data: TextDataConfig, renderer: Renderer
) -> Prompt | None:
    """A chat: what comes before the first user message that another one follows, then turns.

    A last message of the assistant is a known answer: a reference, not part of the prompt.
    """
    assert data.messages is not None
    value = row[data.messages]
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise DataError(where, f"column {data.messages!r} is no JSON: {error}") from None
    if value is None or value == []:
        return None
    try:
        chat = list(messages_of([_without_nulls(m) for m in value] if isinstance(value, list)
                                else value))  # fmt: skip
    except ValueError as error:
        raise DataError(where, f"column {data.messages!r}: {error}") from None
    reference = _reference(where, row, data)
    if chat[-1].role == "assistant":
        reference = reference if data.reference else chat[-1].content
        chat.pop()
    first = next((i + 1 for i, (a, b) in enumerate(pairwise(chat))
                  if a.role == b.role == "user"), len(chat))  # fmt: skip
    if not chat or chat[first - 1].role not in ("user", "tool"):
        raise DataError(where, f"column {data.messages!r}: the chat does not end with the user")
    if any(message.role != "user" for message in chat[first:]):
        raise DataError(
            where,
            f"column {data.messages!r}: after user messages that wait for an answer each, there "
            "is a message of another role",
            "either write all answers of the assistant, or none after the first open question",
        )
    shown = {n: v for n, v in row.items() if n not in (data.reference, data.messages)}
    head = () if chat[0].role == "system" else renderer.system(where, shown | {"input": ""})
    messages, turns = (*head, *chat[:first]), tuple(m.content for m in chat[first:])
    return _prompt(messages, turns, row, data, reference)


def _without_nulls(message: Any) -> Any:
    """Parquet gives every message the fields of all others, empty."""
    if isinstance(message, dict):
        return {name: value for name, value in message.items() if value is not None}
    return message


def _reference(where: str, row: dict[str, Any], data: TextDataConfig) -> str | None:
    if data.reference is None or row[data.reference] is None:
        return None
    value = row[data.reference]
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str | int | float | bool):
        raise DataError(where, f"column {data.reference!r} holds {type(value).__name__}, not text")
    return str(value)


def _prompt(
    messages: tuple[Message, ...],
    turns: tuple[str, ...],
    row: dict[str, Any],
    data: TextDataConfig,
    reference: str | None,
) -> Prompt:
    hidden = {data.input, data.messages, data.reference}
    facts = {name: _plain(value) for name, value in row.items() if name not in hidden}
    return Prompt(
        item=prompt_item(messages, turns),
        messages=messages,
        turns=turns,
        origin=Origin(kind="file", source=""),
        reference=reference,
        facts=facts,
    )


def _plain(value: Any) -> Any:
    """A value of a row as JSON can hold it."""
    return json.loads(json.dumps(value, default=str))


def split_prompts(prompts: Sequence[Prompt], data: TextDataConfig, seed: int) -> PromptSplits:
    """Divide into test, tune and train, in this order, by salted content hash.

    Of near-duplicates (Jaccard of character shingles) the first is kept.

    Raises:
        DataError: a pool cannot be filled, or nothing is left to train on.
    """

    def order(prompt: Prompt) -> str:
        return hashlib.sha256(f"{seed}:{prompt.item}".encode()).hexdigest()

    ordered = sorted(prompts, key=order)
    dropped: set[int] = set()
    pairs = jaccard_pairs([prompt.text for prompt in ordered], threshold=data.near_duplicate)
    for first, second, _ in sorted(pairs):
        if first not in dropped:
            dropped.add(second)
    pool = [prompt for i, prompt in enumerate(ordered) if i not in dropped]
    test, rest = pool[: data.test], pool[data.test :]
    tune, rest = rest[: data.tune], rest[data.tune :]
    train = rest[: data.train]
    if len(test) < data.test or len(tune) < data.tune or (prompts and not train):
        raise DataError(
            data.file or "the prompts",
            f"{len(pool)} distinct prompts are too few for test = {data.test}, "
            f"tune = {data.tune} and at least one to train on",
            "bring more prompts, or lower the sizes in [data]",
        )
    return PromptSplits(train, tune, test, len(dropped), len(rest) - len(train))
