"""What a strategy is: it sees seeds and makes prompts that say where they came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from overproof.collect.filters.protocol import Ask
from overproof.records.text_dataset import Prompt

__all__ = ["Strategy", "StrategyTools"]


@dataclass(frozen=True)
class StrategyTools:
    """What strategies may need.

    ``ask``, ``model`` and ``teacher`` (its name, for the record) are the teacher's; ``home`` is
    the recipe's directory, which file names are relative to. ``system`` is the task's system
    message, put before every prompt, empty for none.
    """

    ask: Ask
    model: str
    teacher: str
    home: Path
    seed: int = 0
    width: int = 16
    system: str = ""


class Strategy(Protocol):
    """Makes prompts."""

    name: str
    notes: list[str]

    async def prompts(self, seeds: Sequence[Prompt]) -> list[Prompt]:
        """New prompts, none of them in ``seeds``, each with its origin."""
