"""Asking a teacher through the ledger: nothing is asked twice, nothing is forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from overproof.clients.pricing import cost_usd, price_of
from overproof.clients.protocol import Teacher
from overproof.clients.terms import TermsVerdict
from overproof.config.recipe import Recipe
from overproof.errors import BudgetError, TooManyFailedError
from overproof.records.exchange import Completion, Exchange, Outcome, Request
from overproof.records.ledger import Ledger

__all__ = ["Asker", "Progress"]

FAILURES_BEFORE_GIVING_UP = 20


@dataclass
class Progress:
    """Live figures of a collection. ``cost_usd`` is ``None`` once a price is unknown."""

    total: int = 0
    done: int = 0
    calls: int = 0
    cached: int = 0
    cost_usd: float | None = 0.0
    outcomes: Counter[Outcome] = field(default_factory=Counter)


class Asker:
    """Answers requests from the ledger, else from the teacher, within the recipe's budget.

    Args:
        recipe: for prices, terms and caps.
        teacher: an open teacher.
        ledger: a ledger open for writing.
        verdict: the teacher's licence and terms, kept with every exchange.
        changed: called after every answer with the live figures.
    """

    def __init__(
        self,
        recipe: Recipe,
        teacher: Teacher,
        ledger: Ledger,
        verdict: TermsVerdict,
        changed: Callable[[Progress], None] | None = None,
    ) -> None:
        self.progress = Progress()
        self.failures: list[tuple[str, str]] = []
        self._recipe = recipe
        self._teacher = teacher
        self._ledger = ledger
        self._verdict = verdict
        self._changed = changed or (lambda _: None)
        self._price = price_of(recipe.teacher)
        self._in_flight: dict[str, asyncio.Future[Completion]] = {}

    async def ask(self, request: Request) -> Completion:
        """The completion of ``request``; identical requests in flight are sent once.

        Raises:
            BudgetError: the recipe's cap on calls or money is reached.
            TooManyFailedError: so many requests failed that ``max_failed`` cannot be kept.
        """
        known = self._ledger.lookup(request.key)
        if known is not None:
            self.progress.cached += 1
            return known.completion
        waiting = self._in_flight.get(request.key)
        if waiting is not None:
            return await asyncio.shield(waiting)
        self._check_budget()
        self.progress.calls += 1
        task = asyncio.ensure_future(self._send(request))
        self._in_flight[request.key] = task
        try:
            return await task
        finally:
            self._in_flight.pop(request.key, None)

    async def _send(self, request: Request) -> Completion:
        completion = await self._teacher.complete(request)
        cost = cost_usd(self._price, completion.usage) if completion.usage else None
        if cost is None and completion.outcome is Outcome.FAILED:
            cost = 0.0  # the server refused it: nothing was generated
        await self._ledger.append(
            Exchange(
                request=request,
                completion=completion,
                teacher=self._teacher.name,
                created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                cost_usd=cost,
                licence=self._verdict.licence,
                terms=self._verdict.terms,
            )
        )
        progress = self.progress
        progress.outcomes[completion.outcome] += 1
        total = progress.cost_usd
        progress.cost_usd = None if cost is None or total is None else total + cost
        self._changed(progress)
        if completion.outcome in (Outcome.FAILED, Outcome.MALFORMED):
            self.failures.append((request.key, completion.error or completion.outcome.value))
            self._give_up_early()
        return completion

    def _check_budget(self) -> None:
        budget, progress = self._recipe.budget, self.progress
        if budget.max_calls is not None and progress.calls >= budget.max_calls:
            raise BudgetError(
                f"budget.max_calls = {budget.max_calls}",
                f"is reached with {progress.done} of {progress.total} inputs answered",
                "raise it and run the same command again: every answer so far is in the ledger",
            )
        if budget.max_cost_usd is None:
            return
        if progress.cost_usd is None:
            raise BudgetError(
                f"budget.max_cost_usd = {budget.max_cost_usd}",
                "cannot be kept: the teacher's price or token usage is unknown",
                "state the price in [teacher.price], or remove the cap",
            )
        if progress.cost_usd >= budget.max_cost_usd:
            raise BudgetError(
                f"budget.max_cost_usd = {budget.max_cost_usd}",
                f"is reached with {progress.done} of {progress.total} inputs answered",
                "raise it and run the same command again: every answer so far is in the ledger",
            )

    def _give_up_early(self) -> None:
        allowed = max(
            FAILURES_BEFORE_GIVING_UP, self._recipe.budget.max_failed * self.progress.total
        )
        if len(self.failures) > allowed:
            raise TooManyFailedError(
                self._teacher.name,
                f"{len(self.failures)} requests failed, more than budget.max_failed allows; "
                f"the last one: {self.failures[-1][1]}",
                "mend the cause and run the same command again: every answer so far is kept",
            )
