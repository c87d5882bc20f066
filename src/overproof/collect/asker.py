"""Asking a teacher through the ledger: nothing is asked twice, nothing is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import cast

from overproof.clients.protocol import DrawsMany, Teacher
from overproof.clients.terms import TermsVerdict
from overproof.collect.bookkeeping import Bookkeeper, checked
from overproof.collect.budget import Budget
from overproof.collect.filters.protocol import Check
from overproof.collect.meter import RequestMeter
from overproof.collect.progress import Progress
from overproof.config.running import BaseRecipe
from overproof.errors import LedgerError, TooManyFailedError
from overproof.records.exchange import Completion, Exchange, Outcome, Request
from overproof.records.ledger import Ledger

__all__ = ["Asker", "Progress"]

FAILURES_BEFORE_GIVING_UP = 20
DRAIN_S = 15.0
GIVEN_UP = "the run was stopped before the answer came; ask again"


class Asker:
    """Answers requests from the ledger, else from the teacher, within the recipe's budget.

    A request once sent lives apart from whoever asked: it is recorded even when its asker is
    cancelled. ``drain`` waits for those in flight before ledger and teacher are closed. Sent but
    uncommitted are at most ``recipe.teacher.width`` requests: each holds its place until its
    answer is committed.

    A malformed answer is recorded as such and asked again, ``recipe.budget.reasks`` times in all of
    the run's life: raise that to have another try.

    Args:
        recipe: for prices, terms and caps.
        teacher: an open teacher.
        ledger: a ledger open for writing.
        verdict: the teacher's licence and terms, kept with every exchange.
        changed: called after every answer with the live figures.
    """

    def __init__(
        self,
        recipe: BaseRecipe,
        teacher: Teacher,
        ledger: Ledger,
        verdict: TermsVerdict,
        changed: Callable[[Progress], None] | None = None,
    ) -> None:
        self.progress = Progress()
        self.failures: list[tuple[str, str]] = []
        under_way = getattr(teacher, "under_way", dict)
        self.budget = Budget(recipe, ledger, under_way())
        self._recipe = recipe
        self._teacher = teacher
        self._ledger = ledger
        self._books = Bookkeeper(teacher.name, self.budget, verdict)
        self._changed = changed or (lambda _: None)
        self._places = asyncio.Semaphore(recipe.teacher.width)
        # Who waits for the answer to each request in flight: each for itself, so that one who is
        # cancelled cancels nobody else.
        self._in_flight: dict[str, list[asyncio.Future[Completion]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._malformed = ledger.tally(Outcome.MALFORMED)
        self._sent = 0
        self._closing = False

    async def ask(self, request: Request, check: Check | None = None) -> Completion:
        """The completion of ``request``; identical requests in flight are sent once.

        Args:
            request: what to ask.
            check: says why an answer is malformed. Such an answer is recorded as ``MALFORMED``,
                is no answer to a later question, and is asked again.

        Raises:
            BudgetError: a cap of the recipe is reached.
            TooManyFailedError: so many requests failed that ``max_failed`` cannot be kept.
        """
        while True:
            if request.key not in self._in_flight:
                known = self._known(request, check)
                if known is not None:
                    self.progress.cached += 1
                    return known
                self._start([request], check)
            completion = checked(await self._answer(request.key), check)
            if completion.outcome is not Outcome.MALFORMED or self._is_final(request.key):
                return completion

    async def ask_samples(
        self, request: Request, n: int, check: Check | None = None
    ) -> list[Completion]:
        """Completions of samples ``request.sample`` to ``request.sample + n - 1``.

        Those that are missing are drawn in calls of as many choices as the teacher offers; what is
        malformed in one is asked again by itself.

        Raises:
            BudgetError, TooManyFailedError: as ``ask``.
        """
        first = request.sample
        samples = [
            request.model_copy(update={"sample": number}) for number in range(first, first + n)
        ]
        most = self._teacher.capabilities.choices
        if most > 1:
            missing = [
                one
                for one in samples
                if one.key not in self._in_flight and self._known(one, check) is None
            ]
            for start in range(0, len(missing), most):
                self._start(missing[start : start + most], check)
        asks = [asyncio.ensure_future(self.ask(one, check)) for one in samples]
        try:
            return list(await asyncio.gather(*asks))
        finally:
            for each in asks:
                each.cancel()
            await asyncio.gather(*asks, return_exceptions=True)

    async def drain(self, seconds: float = DRAIN_S) -> None:
        """Wait so long for the answers in flight; the requests given up then are recorded too.

        A batch is not waited for: it goes on at the provider and is picked up by the next run.
        """
        self._closing = True
        loop = asyncio.get_running_loop()
        until = loop.time() + (0.0 if self._teacher.capabilities.batch else seconds)
        try:
            while self._tasks and (left := until - loop.time()) > 0:
                self.progress.draining = self._sent
                with contextlib.suppress(Exception):  # it may be why everything ends
                    self._changed(self.progress)
                await asyncio.wait(
                    self._tasks, timeout=min(left, 1.0), return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            self.progress.draining = 0
            late = list(self._tasks)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            # One that is cancelled before its first step lets go of nothing.
            self._release(dict(self._in_flight), asyncio.CancelledError())
            self._tasks.clear()
            # A lease that cannot be given back counts as spent.
            with contextlib.suppress(LedgerError):
                self.budget.close()

    def _known(self, request: Request, check: Check | None) -> Completion | None:
        """What the ledger says, ``None`` where it is worth asking.

        An answer kept from before that ``check`` refuses is one of the malformed ones.
        """
        known = self._ledger.lookup(request.key)
        if known is None:
            if not self._is_final(request.key):
                return None
            rows = self._ledger.recorded(request.key)
            found = [row.exchange.completion for row in rows if row.exchange is not None]
            return next((one for one in reversed(found) if one.outcome is Outcome.MALFORMED), None)
        completion = checked(known.completion, check)
        if completion.outcome is not Outcome.MALFORMED:
            return completion
        lonely = self._recipe.teacher.kind == "ledger"
        return completion if lonely or self._is_final(request.key, kept=1) else None

    def _is_final(self, key: str, kept: int = 0) -> bool:
        """Whether malformed answers to a request have used up its askings."""
        return self._malformed[key] + kept > self._recipe.budget.reasks

    def _answer(self, key: str) -> asyncio.Future[Completion]:
        """The answer to a request in flight, for one who waits."""
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._in_flight[key].append(answer)
        return answer

    def _start(self, requests: Sequence[Request], check: Check | None) -> None:
        """Send requests, several as the choices of one call."""
        waiting: dict[str, list[asyncio.Future[Completion]]] = {one.key: [] for one in requests}
        self._in_flight |= waiting
        task = asyncio.create_task(self._carry(requests, check, waiting))
        self._tasks.add(task)

    async def _carry(
        self,
        requests: Sequence[Request],
        check: Check | None,
        waiting: dict[str, list[asyncio.Future[Completion]]],
    ) -> None:
        """Send requests, and hand whatever goes wrong to those who wait."""
        try:
            await self._send(requests, check)
        except BaseException as error:
            self._release(waiting, error)
            if not isinstance(error, Exception):
                raise
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.discard(task)

    def _release(
        self, waiting: dict[str, list[asyncio.Future[Completion]]], error: BaseException
    ) -> None:
        """Let go of requests that came to no answer."""
        for key, answers in waiting.items():
            if self._in_flight.get(key) is not answers:
                continue  # it has landed before, and may be asked again by now
            del self._in_flight[key]
            for answer in answers:
                if answer.done():
                    continue
                if isinstance(error, Exception):
                    answer.set_exception(error)
                else:
                    answer.cancel()

    async def _send(self, requests: Sequence[Request], check: Check | None) -> None:
        """Ask the teacher, record what it says, and hand it to whoever waits."""
        first, teacher = requests[0], self._teacher
        meter = RequestMeter(self.budget, first, len(requests), self._places)
        await meter.resume()
        try:
            if self._closing:  # nothing more is sent, nor paid for
                raise asyncio.CancelledError
            for request in requests:
                self.budget.take_over(request.key)
            await meter.reserve()
            self.progress.calls += 1
            self._sent += 1
            try:
                if len(requests) == 1:
                    completions = [await teacher.complete(first, meter)]
                else:
                    many = cast(DrawsMany, teacher)
                    completions = await many.complete_many(requests, meter)
            except asyncio.CancelledError:
                self._give_up(requests, meter)
                raise
            except Exception as error:
                await self._lose(requests, meter, str(error))
                raise
            finally:
                self._sent -= 1
            meter.close(completions[0])
            await self._record(requests, completions, check)
        finally:
            meter.leave()

    async def _record(
        self, requests: Sequence[Request], completions: Sequence[Completion], check: Check | None
    ) -> None:
        """Commit answers; ``_in_flight`` lets go of each once it is committed."""
        commits = []
        for request, answered in zip(requests, completions, strict=True):
            completion = answered
            if request.parameters.max_tokens == 1 and completion.outcome is Outcome.TRUNCATED:
                # One token was all that was asked for; ``finish_reason`` still says "length".
                completion = completion.model_copy(update={"outcome": Outcome.ANSWERED})
            try:
                completion = checked(completion, check)
            except Exception:  # an answer is paid for, whatever becomes of its check
                await self._ledger.append(self._books.exchange(request, completion))
                raise
            exchange = self._books.exchange(request, completion)
            # What fails its check is the task's own affair; the rest is the teacher's.
            failed = answered.outcome in (Outcome.FAILED, Outcome.MALFORMED)
            commits.append((exchange, failed, await self._ledger.put(exchange)))
        for exchange, failed, commit in commits:
            await commit
            self._land(exchange, failed)

    def _land(self, exchange: Exchange, failed: bool) -> None:
        """Count an answer that is committed, and hand it over."""
        key, completion = exchange.request.key, exchange.completion
        if completion.outcome is Outcome.MALFORMED:
            self._malformed[key] += 1
        self._count(exchange)
        if failed and (completion.outcome is Outcome.FAILED or self._is_final(key)):
            self.failures.append((key, completion.error or completion.outcome.value))
            self._give_up_early()
        for answer in self._in_flight.pop(key):
            if not answer.done():
                answer.set_result(completion)

    def _give_up(self, requests: Sequence[Request], meter: RequestMeter) -> None:
        """Record requests that were cancelled on their way, unless they travel on by themselves."""
        may_be_sent = meter.reached or not meter.was_asked
        meter.close(None)
        if self._teacher.capabilities.batch or not may_be_sent:
            return
        uncertain = max(meter.uncertain, 0 if meter.was_asked else 1)
        # A second interrupt closes everything at once, the ledger perhaps first.
        with contextlib.suppress(LedgerError):
            for exchange in self._books.lost(requests, meter.reached, uncertain, GIVEN_UP):
                self._ledger.submit(exchange)

    async def _lose(self, requests: Sequence[Request], meter: RequestMeter, error: str) -> None:
        """Record requests whose attempts ended in an error that ends the run."""
        meter.close(None)
        if meter.reached:
            for exchange in self._books.lost(requests, meter.reached, meter.uncertain, error):
                await self._ledger.append(exchange)

    def _count(self, exchange: Exchange) -> None:
        progress = self.progress
        progress.outcomes[exchange.completion.outcome] += 1
        cost, total = exchange.cost_usd, progress.cost_usd
        if cost is None or total is None:
            progress.cost_usd = None
        else:
            progress.cost_usd = total + cost + exchange.uncertain_usd
        self._changed(progress)

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
                {"so far": {str(name): n for name, n in self.progress.outcomes.items()}},
            )
