"""What collecting does whatever the task: freeze the recipe, work in parallel, stop at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from overproof.collect.terms_note import record_terms
from overproof.config.load import LoadedRecipe, LoadedTextRecipe
from overproof.records.ledger import Ledger
from overproof.records.run import RunPaths

__all__ = ["begun", "freeze_recipe", "in_parallel"]

T = TypeVar("T")


def begun(ledger: Ledger) -> bool:
    """Whether anything was collected since a recipe was last recorded in the ledger.

    What came before, in the ledger of another run, decides nothing here.
    """
    found = False
    for entry in ledger.entries():
        if (entry.content or {}).get("note") == "recipe":
            found = False
        elif entry.exchange is not None:
            found = found or entry.exchange.source == "collected"
    return found


def freeze_recipe(loaded: LoadedRecipe | LoadedTextRecipe, ledger: Ledger) -> None:
    """Record the recipe, in the run and in the chain, right before the first question."""
    recipe = loaded.recipe
    RunPaths(loaded.run_dir).freeze(
        loaded.sha256, recipe.model_dump(mode="json"), lambda: begun(ledger)
    )
    noted = [note["recipe_sha256"] for note in ledger.notes("recipe")]
    if noted[-1:] != [loaded.sha256]:
        ledger.note("recipe", {"recipe_sha256": loaded.sha256})
    record_terms(ledger, recipe.teacher)


async def in_parallel(items: Iterable[T], work: Callable[[T], Awaitable[None]], width: int) -> None:
    """Do ``work`` on every item, ``width`` at a time; the first error stops all."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    await all_or_first_error([worker() for _ in range(width)])


async def all_or_first_error(work: Sequence[Awaitable[None]]) -> None:
    """Wait for all; the first error cancels the rest and is raised once they have ended."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
