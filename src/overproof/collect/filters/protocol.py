"""What a filter is: it sees examples and says which to drop, and why. See ``exact.py``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from overproof.records.exchange import Completion, Request
from overproof.records.text_dataset import TextExample

__all__ = ["Ask", "Check", "Filter", "FilterTools"]

Check = Callable[[Completion], str | None]
"""Why an answer is malformed, ``None`` where it is not."""


class Ask(Protocol):
    """Asks a teacher through the ledger and within the budget."""

    def __call__(self, request: Request, check: Check | None = None) -> Awaitable[Completion]:
        """The completion of ``request``; malformed ones are asked again as the recipe says."""


@dataclass(frozen=True)
class FilterTools:
    """What filters may need.

    ``ask`` and ``model`` are the teacher's; ``held_out`` are texts of the tune and test pools,
    ``home`` is the recipe's directory, which file names are relative to.
    """

    ask: Ask
    model: str
    home: Path
    seed: int = 0
    width: int = 16
    held_out: Sequence[str] = field(default=())


class Filter(Protocol):
    """Says what to drop."""

    name: str
    notes: list[str]

    async def drops(self, examples: Sequence[TextExample]) -> dict[int, str]:
        """Reasons by index of the examples to drop; the rest is kept."""
