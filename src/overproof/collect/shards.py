"""Shards: a recipe cut by request hash into parts that several processes or machines collect.

Each shard has a directory and a ledger of its own in the run, so no two of them write to one file.
Killed or finished, the same command goes on with a shard. ``overproof ledger merge`` then joins
the ledgers, and ``overproof collect`` of the whole recipe finds every answer there.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from overproof.config.load import LoadedRecipe, LoadedTextRecipe
from overproof.config.running import BudgetConfig
from overproof.errors import ConfigError
from overproof.records.run import RunPaths

__all__ = ["SHARDS", "Shard"]

SHARDS = "shards"
MOST = 100_000
FORM = "write INDEX/OF, such as 2/8 for the second of eight"

L = TypeVar("L", LoadedRecipe, LoadedTextRecipe)


@dataclass(frozen=True)
class Shard:
    """One of ``of`` parts; ``index`` counts from 1."""

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard of a text such as ``2/8``.

        Raises:
            ConfigError: it names none.
        """
        found = re.fullmatch(r"\s*([0-9]{1,6})\s*/\s*([0-9]{1,6})\s*", text)
        if found is None:
            raise ConfigError(f"shard {text!r}", "is none", FORM)
        index, of = int(found[1]), int(found[2])
        if not 1 <= of <= MOST:
            raise ConfigError(f"shard {text!r}", f"there are 1 to {MOST} shards", FORM)
        if not 1 <= index <= of:
            raise ConfigError(f"shard {text!r}", f"shards are counted from 1 to {of}", FORM)
        return cls(index, of)

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    def holds(self, key: str) -> bool:
        """Whether an input is of this shard; ``key`` is that of the first request it needs."""
        return int(key.removeprefix("sha256:")[:16], 16) % self.of == self.index - 1

    def directory(self, run_dir: Path) -> Path:
        """Where the shard of a run lies."""
        return run_dir / SHARDS / f"{self.index}-of-{self.of}"

    def part_of(self, loaded: L) -> L:
        """The recipe as this shard collects it.

        Its run directory is the shard's, it reads the answers of the whole run's ledger, too, and
        every cap is divided by the number of shards.

        Raises:
            ConfigError: a cap cannot be divided among so many.
        """
        part = copy.copy(loaded)
        part.run_dir = self.directory(loaded.run_dir)
        part.beside = RunPaths(loaded.run_dir).ledger
        budget = self._share(loaded.recipe.budget)
        # The copy is of the same kind; its caps are no part of what the run is frozen under.
        part.recipe = loaded.recipe.model_copy(update={"budget": budget})
        return part

    def _share(self, budget: BudgetConfig) -> BudgetConfig:
        usd = budget.max_cost_usd
        return budget.model_copy(
            update={
                "max_calls": self._count("max_calls", budget.max_calls),
                "max_tokens": self._count("max_tokens", budget.max_tokens),
                "max_cost_usd": None if usd is None else usd / self.of,
            }
        )

    def _count(self, name: str, cap: int | None) -> int | None:
        """An equal part of a whole number; the first shards take what is left over."""
        if cap is None:
            return None
        share = cap // self.of + (self.index <= cap % self.of)
        if share < 1:
            raise ConfigError(
                f"budget.{name} = {cap}",
                f"leaves nothing for shard {self}",
                "raise it, or cut the recipe into fewer shards",
            )
        return share
