"""Inputs: rows of a file (or of an imported ledger) checked and told apart by content."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from overproof.config.recipe import DataConfig
from overproof.errors import DataError
from overproof.records.exchange import Exchange
from overproof.records.hashing import text_hash
from overproof.records.tables import read_table

__all__ = ["InputItem", "Inputs", "inputs_of_ledger", "read_inputs"]


@dataclass(frozen=True)
class InputItem:
    """One distinct input. ``row`` counts from 1, without a header."""

    item: str
    text: str
    gold: str | None
    row: int


@dataclass
class Inputs:
    """The distinct inputs of a file with what was left out and why."""

    source: str
    items: list[InputItem]
    empty_rows: list[int] = field(default_factory=list)
    exact_duplicates: int = 0
    conflicting_gold: int = 0

    def notes(self) -> list[str]:
        """What was left out, in words."""
        notes = []
        if self.empty_rows:
            shown = ", ".join(map(str, self.empty_rows[:5]))
            more = ", ..." if len(self.empty_rows) > 5 else ""
            notes.append(f"{len(self.empty_rows)} empty inputs left out (rows {shown}{more})")
        if self.exact_duplicates:
            notes.append(f"{self.exact_duplicates} repeats of an input left out")
        if self.conflicting_gold:
            notes.append(
                f"{self.conflicting_gold} of the repeats had another gold label than their first"
            )
        return notes


def read_inputs(path: Path, data: DataConfig, labels: Iterable[str]) -> Inputs:
    """Read the inputs of ``path``; gold labels are mapped and checked.

    Raises:
        DataError: the file cannot be read, a column is missing, a value is no text, or a gold
            label is not one of ``labels``; the culprit is FILE and row.
    """
    columns = [data.input, *([data.gold] if data.gold else [])]
    rows = read_table(path, columns=columns, encoding=data.encoding)
    inputs = Inputs(source=str(path), items=[])
    seen: dict[str, InputItem] = {}
    known = set(labels)
    for number, row in enumerate(rows, start=1):
        text = _text(row[data.input], path, number, data.input)
        if not text.strip():
            inputs.empty_rows.append(number)
            continue
        gold = _gold(row[data.gold], data, known, path, number) if data.gold else None
        item = InputItem(text_hash(text), text, gold, number)
        if (first := seen.get(item.item)) is not None:
            inputs.exact_duplicates += 1
            inputs.conflicting_gold += first.gold != gold
            continue
        seen[item.item] = item
    inputs.items = list(seen.values())
    if not inputs.items:
        raise DataError(str(path), f"has no input in column {data.input!r} that is not empty")
    return inputs


def inputs_of_ledger(exchanges: Iterable[Exchange], source: str) -> Inputs:
    """The inputs that a ledger's imported exchanges were asked: their last user messages.

    Raises:
        DataError: the ledger holds no imported exchange.
    """
    inputs = Inputs(source=source, items=[])
    seen: dict[str, InputItem] = {}
    for number, exchange in enumerate(exchanges, start=1):
        if not exchange.source.startswith("imported:"):
            continue
        text = last_user_text(exchange)
        if not text.strip():
            inputs.empty_rows.append(number)
            continue
        item = InputItem(text_hash(text), text, None, number)
        inputs.exact_duplicates += item.item in seen
        seen.setdefault(item.item, item)
    inputs.items = list(seen.values())
    if not inputs.items:
        raise DataError(
            source, "holds no imported exchanges", "bring some in with `overproof import LOGS`"
        )
    return inputs


def last_user_text(exchange: Exchange) -> str:
    """Text of the last user message of an exchange."""
    for message in reversed(exchange.request.messages):
        if message.role == "user":
            return message.content
    return ""


def _text(value: Any, path: Path, row: int, column: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    raise DataError(
        f"{path}: row {row}", f"column {column!r} holds {type(value).__name__}, not text"
    )


def _gold(value: Any, data: DataConfig, known: set[str], path: Path, row: int) -> str:
    gold = data.gold_map.get(str(value), str(value))
    if gold not in known:
        raise DataError(
            f"{path}: row {row}",
            f"gold label {gold!r} in column {data.gold!r} is not one of the task's labels "
            f"({', '.join(sorted(known))})",
            "add it to [task] labels, or map it in [data.gold_map]",
        )
    return gold
