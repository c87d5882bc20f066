"""Asking a teacher through the ledger: nothing is asked twice, nothing is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from overproof.clients.pricing import cost_usd, price_of
from overproof.clients.protocol import Teacher
from overproof.clients.terms import TermsVerdict
from overproof.collect.budget import Budget
from overproof.config.recipe import Recipe
from overproof.errors import LedgerError, TooManyFailedError
from overproof.records.exchange import Completion, Exchange, Outcome, Request
from overproof.records.ledger import Ledger

__all__ = ["Asker", "Progress"]

FAILURES_BEFORE_GIVING_UP = 20
DRAIN_S = 15.0
GIVEN_UP = Completion(
    outcome=Outcome.FAILED, error="the run was stopped before the answer came; ask again"
)
# Statuses of 4xx that say "not now": whether anything was generated before is not known.
NOT_NOW = frozenset({408, 409, 425, 429})


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

    A request once sent lives apart from whoever asked: it is recorded even when its asker is
    cancelled. ``drain`` waits for those in flight before ledger and teacher are closed.

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
        self.budget = Budget(recipe, ledger.exchanges())
        self._recipe = recipe
        self._teacher = teacher
        self._ledger = ledger
        self._verdict = verdict
        self._changed = changed or (lambda _: None)
        self._price = price_of(recipe.teacher)
        self._in_flight: dict[str, asyncio.Task[Completion]] = {}

    async def ask(self, request: Request) -> Completion:
        """The completion of ``request``; identical requests in flight are sent once.

        Raises:
            BudgetError: the recipe's cap on calls or money is reached.
            TooManyFailedError: so many requests failed that ``max_failed`` cannot be kept.
        """
        while True:
            known = self._ledger.lookup(request.key)
            if known is not None:
                self.progress.cached += 1
                return known.completion
            task = self._in_flight.get(request.key) or self._start(request)
            if task is not None:
                return await asyncio.shield(task)
            # The worst cases of those in flight fill the budget; what they really cost may not.
            if not self._in_flight:
                raise self.budget.exhausted(request)
            await asyncio.wait(self._in_flight.values(), return_when=asyncio.FIRST_COMPLETED)

    async def drain(self, seconds: float = DRAIN_S) -> None:
        """Wait so long for the answers in flight; the requests given up then are recorded too."""
        try:
            if self._in_flight:
                await asyncio.wait(self._in_flight.values(), timeout=seconds)
        finally:
            late = list(self._in_flight.values())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _start(self, request: Request) -> asyncio.Task[Completion] | None:
        """Send a request, ``None`` while the budget has no room for it."""
        reserved = self.budget.reserve(request)
        if reserved is None:
            return None
        self.progress.calls += 1
        task = asyncio.create_task(self._send(request, reserved))
        self._in_flight[request.key] = task

        def landed(task: asyncio.Task[Completion]) -> None:
            del self._in_flight[request.key]
            if not task.cancelled():
                task.exception()  # seen, also when its asker has gone

        task.add_done_callback(landed)
        return task

    async def _send(self, request: Request, reserved: float) -> Completion:
        try:
            completion = await self._teacher.complete(request)
        except asyncio.CancelledError:
            # A second interrupt closes everything at once, the ledger perhaps first.
            with contextlib.suppress(LedgerError):
                self._ledger.submit(self._exchange(request, GIVEN_UP, self._cost(GIVEN_UP)))
            raise
        except Exception:
            self.budget.release(reserved)
            raise
        if request.parameters.max_tokens == 1 and completion.outcome is Outcome.TRUNCATED:
            # One token was all that was asked for; ``finish_reason`` still says "length".
            completion = completion.model_copy(update={"outcome": Outcome.ANSWERED})
        cost = self._cost(completion)
        self.budget.settle(reserved, cost)
        await self._ledger.append(self._exchange(request, completion, cost))
        self._count(request, completion, cost)
        return completion

    def _exchange(self, request: Request, completion: Completion, cost: float | None) -> Exchange:
        return Exchange(
            request=request,
            completion=completion,
            teacher=self._teacher.name,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            cost_usd=cost,
            licence=self._verdict.licence,
            terms=self._verdict.terms,
        )

    def _cost(self, completion: Completion) -> float | None:
        """US dollars; ``None`` where something may have been generated that nobody counted."""
        if completion.usage is None and _is_rejected(completion):
            return 0.0
        return cost_usd(self._price, completion.usage)

    def _count(self, request: Request, completion: Completion, cost: float | None) -> None:
        progress = self.progress
        progress.outcomes[completion.outcome] += 1
        total = progress.cost_usd
        progress.cost_usd = None if cost is None or total is None else total + cost
        self._changed(progress)
        if completion.outcome in (Outcome.FAILED, Outcome.MALFORMED):
            self.failures.append((request.key, completion.error or completion.outcome.value))
            self._give_up_early()

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


def _is_rejected(completion: Completion) -> bool:
    """Whether the server refused the request as it stands, so that nothing was generated."""
    status = completion.status
    return (
        completion.outcome is Outcome.FAILED
        and status is not None
        and 400 <= status < 500
        and status not in NOT_NOW
    )
