"""What collecting does whatever the task: freeze the recipe, work in parallel, stop at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from overproof.collect.asker import Asker
from overproof.collect.terms_note import record_terms
from overproof.config.load import LoadedRecipe, LoadedTextRecipe
from overproof.errors import OverproofError
from overproof.records.exchange import Outcome
from overproof.records.files import write_atomically
from overproof.records.ledger import Ledger
from overproof.records.run import RunPaths

__all__ = ["begun", "failures_told", "freeze_recipe", "in_parallel"]

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


@asynccontextmanager
async def failures_told(asker: Asker, ledger: Ledger, path: Path) -> AsyncIterator[None]:
    """Where a run ends early, wait for what is in flight, list what failed, count what came.

    Args:
        asker: knows what failed.
        ledger: where what was asked is read.
        path: of ``failed.jsonl``.
    """
    try:
        yield
    except OverproofError as error:
        await asker.drain()
        if asker.progress.outcomes:
            error.outcomes = {"so far": {str(k): n for k, n in asker.progress.outcomes.items()}}
        lines = []
        for key, reason in asker.failures:
            entry = ledger.recorded(key)[-1:]
            exchange = entry[0].exchange if entry else None
            said = exchange.request.messages if exchange else ()
            text = next((m.content for m in reversed(said) if m.role == "user"), "")
            outcome = exchange.completion.outcome if exchange else Outcome.FAILED
            line = {"text": text, "outcome": outcome, "reason": reason, "request_keys": [key]}
            lines.append(json.dumps(line, ensure_ascii=False))
        if lines:
            write_atomically(path, "\n".join(lines) + "\n")
        raise


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
