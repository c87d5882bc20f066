"""What a strategy is: it sees seeds and makes prompts that say where they came from.

To add one: a section in ``config/synthesize.py`` with its ``kind``, a file here, and a line in
``build.py``. A strategy that asks the teacher says what to ask and how to read an answer
(``asking.py`` does the rest; see ``paraphrase.py``); one that does not hands its candidates to a
``Harvest`` (see ``reasoning_gym.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field

from overproof.collect.filters.protocol import Ask
from overproof.records.exchange import Message, Record
from overproof.records.text_dataset import FilterReport, Prompt, prompt_item

__all__ = [
    "Candidate",
    "Dropped",
    "Embedder",
    "Strategy",
    "StrategyReport",
    "StrategyTools",
    "messages_of_text",
    "one_turn",
]


class Embedder(Protocol):
    """Turns texts into vectors whose cosine says how much two texts mean the same."""

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors of n texts: n x d, each of unit length."""


@dataclass(frozen=True)
class StrategyTools:
    """What strategies may need.

    ``ask``, ``model`` and ``teacher`` (its name, for the record) are the teacher's; ``home`` is
    the recipe's directory, which file names are relative to. ``system`` is the task's system
    message, put before every prompt, empty for none. ``structured`` says that the teacher follows
    a JSON Schema. ``extra`` is the recipe's additional request body. ``held_out`` are texts of the
    tune and test pools: what is too like one of them is dropped. ``embedder`` takes the
    place of the one that an entry with ``diversity = "embedding"`` names.
    """

    ask: Ask
    model: str
    teacher: str
    home: Path
    seed: int = 0
    width: int = 16
    system: str = ""
    structured: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    held_out: Sequence[str] = ()
    embedder: Embedder | None = None


@dataclass(frozen=True)
class Candidate:
    """A prompt that a strategy proposes, before it is looked at.

    ``text`` is what the user would say. ``compared`` is what it is compared by, where that is not
    the whole text. ``rejected`` says why the strategy itself drops it.
    """

    text: str
    source: str
    parents: tuple[str, ...] = ()
    reference: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    compared: str | None = None
    rejected: str | None = None


class Dropped(Record):
    """A candidate that did not become a prompt: ``reason`` in words, ``like`` what it is like."""

    strategy: str
    text: str
    reason: str
    like: str | None = None
    similarity: float | None = None
    source: str = ""
    parents: tuple[str, ...] = ()
    request_keys: tuple[str, ...] = ()


class StrategyReport(FilterReport):
    """What a strategy was asked for and what it brought.

    ``seen`` candidates, ``dropped`` of them for ``reasons``; ``answers`` of the teacher by
    outcome.
    """

    wanted: int
    made: int
    answers: dict[str, int] = Field(default_factory=dict)

    def lines(self) -> list[str]:
        """The report in words."""
        asked = sum(self.answers.values())
        first = f"{self.name}: {self.made} of {self.wanted} prompts"
        if asked:
            first += f" from {asked} answers"
            bad = {k: v for k, v in self.answers.items() if k != "answered"}
            if bad:
                first += " (" + ", ".join(f"{v} {k}" for k, v in sorted(bad.items())) + ")"
        lines = [first]
        if self.dropped:
            told = sorted(self.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
            why = ", ".join(f"{n} {reason}" for reason, n in told)
            lines.append(f"{self.dropped} of {self.seen} candidates dropped: {why}")
        return [*lines, *self.notes]


class Strategy(Protocol):
    """Makes prompts."""

    @property
    def name(self) -> str:
        """Its ``kind``, which is its prompts' origin."""

    @property
    def notes(self) -> list[str]:
        """What is worth knowing of the last call of ``prompts``."""

    @property
    def dropped(self) -> list[Dropped]:
        """The candidates that became no prompts, each with its reason."""

    async def prompts(self, seeds: Sequence[Prompt]) -> list[Prompt]:
        """New prompts, none of them in ``seeds``, each with its origin."""

    def report(self) -> StrategyReport:
        """What came of the last call of ``prompts``."""


def messages_of_text(text: str, system: str = "") -> tuple[tuple[Message, ...], str]:
    """The messages that put ``text`` to the teacher, with the content address of the prompt."""
    head = (Message(role="system", content=system),) if system.strip() else ()
    messages = (*head, Message(role="user", content=text))
    return messages, prompt_item(messages)


def one_turn(seeds: Sequence[Prompt]) -> list[Prompt]:
    """The seeds that are one message of the user: what can be said in other words."""
    return [
        seed
        for seed in seeds
        if not seed.turns
        and seed.text.strip()
        and sum(message.role != "system" for message in seed.messages) == 1
    ]
