"""The meter of one request: reserves each attempt in the budget and settles it."""

from __future__ import annotations

import asyncio

from overproof.clients.pricing import cost_usd
from overproof.collect.budget import Budget
from overproof.collect.spending import NOTHING, Spending
from overproof.records.exchange import Completion, Outcome, Request

__all__ = ["RequestMeter"]


class RequestMeter:
    """Watches one request through its attempts; a ``clients.protocol.Meter``.

    ``reached`` counts the attempts that left this machine, ``uncertain`` those of them that may
    have been billed though nobody counted their tokens.

    Args:
        budget: where attempts are charged.
        request: what is asked.
        choices: how many answers the call draws.
        places: where ``resume`` takes a place, which is let go of while the request waits to be
            tried again.
    """

    def __init__(
        self,
        budget: Budget,
        request: Request,
        choices: int = 1,
        places: asyncio.Semaphore | None = None,
    ) -> None:
        self._places = places
        self._has_place = False
        self.reached = 0
        self.uncertain = 0
        self.was_asked = False
        self._budget = budget
        self._price = budget.prices.of(request.model)
        self._most = budget.most(request, choices)
        self._ahead = False
        self._reserved = 0

    async def reserve(self) -> None:
        """Reserve the first attempt ahead, before the request is handed to the teacher.

        Raises:
            BudgetError: a cap leaves no room for it.
        """
        await self._budget.reserve(self._most)
        self._ahead = True
        self._reserved += 1

    async def before(self) -> None:
        """See ``Meter``."""
        self.was_asked = True
        if self._ahead:
            self._ahead = False
            return
        await self._budget.reserve(self._most)
        self._reserved += 1

    def after(self, completion: Completion, *, reached: bool) -> None:
        """See ``Meter``."""
        if self._reserved:
            self._reserved -= 1
            self._budget.settle(self._most, self._spent(completion) if reached else NOTHING)

    def pause(self) -> None:
        """See ``Meter``."""
        self.leave()

    async def resume(self) -> None:
        """See ``Meter``."""
        if self._places is not None:
            await self._places.acquire()
            self._has_place = True

    def leave(self) -> None:
        """Let go of the place, if there is one."""
        if self._places is not None and self._has_place:
            self._has_place = False
            self._places.release()

    def close(self, completion: Completion | None) -> None:
        """Settle what the teacher never told of: by its answer, else as never sent.

        A teacher that tells of no attempt has made one if it answered.
        """
        if completion is not None and not self.was_asked:
            self.after(completion, reached=True)
        while self._reserved:
            self._reserved -= 1
            self._budget.settle(self._most, NOTHING)

    def _spent(self, completion: Completion) -> Spending:
        """What an attempt that left this machine spent."""
        self.reached += 1
        if completion.uncertain_attempts:
            self.uncertain += 1
        if not self._budget.is_capped:
            return NOTHING
        usage = completion.usage
        if usage is not None:
            usd = cost_usd(self._price, usage, batch=completion.batch is not None)
            tokens = usage.input_tokens + usage.output_tokens
            return Spending(1, tokens, self._most.usd if usd is None else usd)
        if completion.outcome is Outcome.FAILED and not completion.uncertain_attempts:
            return Spending(1)  # refused, and not billed
        return self._most
