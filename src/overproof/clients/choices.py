"""Choices that a server did not deliver, asked for one by one: each is a call of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from overproof.clients.protocol import Meter
from overproof.errors import OverproofError
from overproof.records.exchange import Completion, Outcome, Request

__all__ = ["ask_singly"]


class _Tally:
    """Hands attempts on to a meter, and counts what became of them.

    Several share the meter, so none of them lets go of what it holds while it waits.
    """

    def __init__(self, meter: Meter | None) -> None:
        self.reached = 0
        self.uncertain = 0
        self._meter = meter

    async def before(self) -> None:
        if self._meter is not None:
            await self._meter.before()

    def after(self, completion: Completion, *, reached: bool) -> None:
        self.reached += reached
        self.uncertain += completion.uncertain_attempts if reached else 0
        if self._meter is not None:
            self._meter.after(completion, reached=reached)

    def pause(self) -> None:
        pass

    async def resume(self) -> None:
        pass


async def ask_singly(
    requests: Sequence[Request],
    ask: Callable[[Request, Meter], Awaitable[Completion]],
    meter: Meter | None,
    *,
    first: int = 0,
) -> list[Completion]:
    """Ask each request in a call of its own.

    Where some are answered and others end in an error that ends the run (no room in the budget, a
    refused key), the answers are kept: they are paid for. The others have ``FAILED`` and are asked
    again, which meets the same error.

    Args:
        requests: what to ask.
        ask: asks one.
        meter: told of every attempt.
        first: how many choices of the same request were delivered before.

    Raises:
        OverproofError: none was answered, neither here nor before.
    """
    errors: list[OverproofError] = []

    async def one(request: Request, number: int) -> Completion:
        tally = _Tally(meter)
        try:
            return await ask(request, tally)
        except OverproofError as error:
            errors.append(error)
            return Completion(
                outcome=Outcome.FAILED,
                error=str(error),
                attempts=max(tally.reached, 1),
                uncertain_attempts=tally.uncertain,
                # The attempts of a call stand with its choice 0; this one was never sent.
                choice=0 if tally.reached else number,
            )

    numbered = enumerate(requests, start=first)
    found = await asyncio.gather(*(one(request, number) for number, request in numbered))
    if errors and not first and len(errors) == len(found):
        raise errors[0]
    return list(found)
