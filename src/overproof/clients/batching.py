"""A teacher that is asked through its provider's batch API, at half the price and in its own time.

Requests join a queue; once no more come, or a batch is full, they are submitted together, and each
is answered when its batch has been read. What was submitted stands in ``batches.jsonl`` of the run
before it is, so that a run that was stopped anywhere picks its batches up and submits none twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from overproof.clients.batch_flight import Flight, Returned, Waiter
from overproof.clients.batch_journal import BatchJournal
from overproof.clients.batch_patience import Patience
from overproof.clients.batch_protocol import KEY_PREFIX, BatchApi, Unanswered, custom_id_of
from overproof.clients.protocol import Capabilities, Meter, Teacher
from overproof.config.teacher import TeacherConfig
from overproof.records.exchange import Completion, Outcome, Request, Usage

__all__ = ["JOURNAL", "BatchingTeacher"]

JOURNAL = "batches.jsonl"
LINGER_S = 1.0
# Requests that trickle in without a pause are not waited for longer than so many lingers.
LONGEST_LINGER = 30
# What a batch holds besides its lines, at most.
FRAME_BYTES = 1000
LONGEST_HOLD = 10.0
GIVEN_UP = Completion(outcome=Outcome.FAILED, error="the run was stopped before the batch ended")


class BatchingTeacher:
    """A ``Teacher`` whose requests travel in batches.

    Args:
        inner: the same teacher asked directly: for its name, capabilities and tokenizer.
        api: its provider's batch API.
        config: ``batch_size``, ``batch_poll_s`` and ``max_attempts`` count here.
        state_dir: the run directory, where the journal is kept; ``None`` keeps none, so that
            batches under way at the end are lost.
        linger_s: seconds without a new request after which a batch is submitted.
        patience: instead of what ``config`` says.
    """

    def __init__(
        self,
        inner: Teacher,
        api: BatchApi,
        config: TeacherConfig,
        *,
        state_dir: Path | None = None,
        linger_s: float | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.name, self.model = inner.name, inner.model
        self._inner, self._api, self._config = inner, api, config
        self._path = state_dir / JOURNAL if state_dir else None
        self._linger_s = min(LINGER_S, config.batch_poll_s) if linger_s is None else linger_s
        self._patience = patience or Patience(config.batch_poll_s, config.max_attempts)
        self._size = self._most = min(config.batch_size, api.limits.requests)
        self._stack = AsyncExitStack()
        self._queue: deque[Waiter] = deque()
        self._arrived, self._landed = asyncio.Event(), asyncio.Event()
        self._last_arrival = 0.0
        self._held_until, self._refusals, self._held_why = 0.0, 0, ""
        self._under_way: dict[str, str] = {}
        self._flights: dict[str, Flight] = {}
        self._read: dict[str, list[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None
        self._farewell: str | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._inner)
            self.name, self.model = self._inner.name, self._inner.model
            self._journal = BatchJournal(self._path, self.name)
            self._under_way = self._journal.under_way()
            await self._api.open()
            stack.push_async_callback(self._api.close)
            self._stack = stack.pop_all()
        self._start(self._gather())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._farewell = self._still_under_way()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for waiter in self._queue:
            waiter.future.cancel()
        try:
            if kind is None:
                # Whoever was told has written it into the ledger by now.
                for tag, custom_ids in self._read.items():
                    self._journal.spent(tag, custom_ids)
        finally:
            await self._stack.__aexit__(kind, error, trace)

    @property
    def capabilities(self) -> Capabilities:
        """The inner teacher's; one answer a request."""
        return self._inner.capabilities.model_copy(update={"batch": True, "choices": 1})

    async def check(self) -> str | None:
        """Why asking would be in vain, as the inner teacher finds out."""
        return await self._inner.check()

    async def tokenize(self, text: str) -> list[bytes] | None:
        """Byte pieces in the teacher's tokenizer, ``None`` where it cannot tell."""
        return await self._inner.tokenize(text)

    async def complete(self, request: Request, meter: Meter | None = None) -> Completion:
        """Answer one request, once the batch that holds it has ended.

        A request that its batch did not come to, or that met a passing error, joins a later one,
        ``max_attempts`` times in all.

        Raises:
            BudgetError: ``meter`` has no room for it.
            SecretError: the key was refused.
            TeacherError: the provider rejects batches, or cannot be reached for too long.
        """
        try:
            line = self._api.line(request)
        except ValueError as error:
            return Completion(outcome=Outcome.FAILED, error=f"it cannot be asked: {error}")
        attempts = uncertain = 0
        again = True
        while again and attempts < self._config.max_attempts:
            attempts += 1
            if meter is not None:
                await meter.before()
            waiter = self._join(request, line)
            try:
                result = await waiter.future
            except BaseException:
                if meter is not None:
                    meter.after(GIVEN_UP, reached=waiter.aboard)
                raise
            again = isinstance(result, Unanswered) and result.again
            completion = _completion(result)
            if meter is not None:
                meter.after(completion, reached=True)
            uncertain += completion.uncertain_attempts
        return completion.model_copy(update={"attempts": attempts, "uncertain_attempts": uncertain})

    def under_way(self) -> dict[str, Usage]:
        """Requests that earlier runs submitted and nobody asked for yet: key → the most tokens.

        They are billed, or will be, whether they are asked for or not. Answers that the ledger has
        by now may be among them.
        """
        most = self._journal.most()
        return {
            KEY_PREFIX + custom_id: Usage(input_tokens=tokens_in, output_tokens=tokens_out)
            for custom_id in self._under_way
            for tokens_in, tokens_out in [most[custom_id]]
        }

    def status_lines(self) -> list[str]:
        """Where every batch stands, and what waits for the next one."""
        lines = [flight.status() for flight in self._flights.values()]
        if self._queue:
            held_s = self._held_until - time.monotonic()
            line = f"{len(self._queue):,} requests wait for the next batch"
            if held_s > 0:
                line += f", which the provider takes later ({self._held_why}): in {held_s:.0f} s"
            lines.append(line)
        return lines

    def farewell(self) -> str | None:
        """After the end: what is still under way at the provider, and how it is picked up."""
        return self._farewell

    def _join(self, request: Request, line: bytes) -> Waiter:
        if self._broken is not None:
            raise self._broken
        custom_id = custom_id_of(request)
        future: asyncio.Future[Completion | Unanswered]
        future = asyncio.get_running_loop().create_future()
        waiter = Waiter(request, custom_id, line, future)
        tag = self._under_way.pop(custom_id, None)
        if tag is None or custom_id in self._journal.records[tag].spent:
            self._enqueue([waiter])
        else:
            self._board(tag, waiter)
        return waiter

    def _enqueue(self, waiters: list[Waiter]) -> None:
        self._queue.extend(waiters)
        self._last_arrival = time.monotonic()
        self._arrived.set()

    def _board(self, tag: str, waiter: Waiter) -> None:
        """Wait for a batch of an earlier run. One read before is read again for a latecomer."""
        waiter.aboard = True
        flight = self._flights.get(tag)
        if flight is None or not flight.is_open:
            record = self._journal.records[tag]
            flight = Flight(
                self._api, self._journal, tag, {}, patience=self._patience, record=record
            )
            self._launch(flight, after_s=self._linger_s)
        flight.waiters[waiter.custom_id] = waiter

    async def _gather(self) -> None:
        """Submit what has queued up, whenever no more comes."""
        while True:
            await self._arrived.wait()
            began = time.monotonic()
            while len(self._queue) < self._size:
                now = time.monotonic()
                quiet_s = self._last_arrival + self._linger_s - now
                if quiet_s <= 0 or now - began > LONGEST_LINGER * self._linger_s:
                    break
                await asyncio.sleep(quiet_s)
            await self._while_held()
            self._arrived.clear()
            while waiters := self._cut():
                tag = secrets.token_hex(16)
                patience = self._patience
                self._launch(Flight(self._api, self._journal, tag, waiters, patience=patience))
                if self._refusals:
                    break  # one by one until the provider takes one
            if self._queue:
                self._arrived.set()

    async def _while_held(self) -> None:
        """Wait while the provider takes no more: for a batch to end, else for a time."""
        while self._refusals:
            held_s = self._held_until - time.monotonic()
            if held_s <= 0 and not self._flights:
                return
            self._landed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._landed.wait(), held_s if held_s > 0 else None)

    def _cut(self) -> dict[str, Waiter]:
        """Take the next batch from the queue: one model, no request twice, within the limits."""
        taken: dict[str, Waiter] = {}
        left: deque[Waiter] = deque()
        room = self._api.limits.bytes - FRAME_BYTES
        while self._queue and len(taken) < self._size:
            waiter = self._queue.popleft()
            needed = len(waiter.line) + 1
            if waiter.future.done():  # its asker has gone
                continue
            if needed > self._api.limits.bytes - FRAME_BYTES:
                waiter.tell(Unanswered(f"{needed:,} bytes are more than a batch holds", status=413))
                continue
            first = next(iter(taken.values()), waiter)
            fits = needed <= room and waiter.request.model == first.request.model
            if not fits or waiter.custom_id in taken:
                left.append(waiter)
                if needed > room:
                    break
                continue
            room -= needed
            waiter.aboard = True
            taken[waiter.custom_id] = waiter
        self._queue.extendleft(reversed(left))
        return taken

    def _launch(self, flight: Flight, after_s: float = 0.0) -> None:
        self._flights[flight.tag] = flight
        self._start(self._fly(flight, after_s))

    async def _fly(self, flight: Flight, after_s: float) -> None:
        try:
            await asyncio.sleep(after_s)
            returned = await flight.run()
        except asyncio.CancelledError:
            for waiter in flight.waiters.values():
                waiter.future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - everybody aboard is told, whatever it is
            flight.fail(error)
        else:
            self._landing(flight, returned)
        finally:
            if self._flights.get(flight.tag) is flight:
                del self._flights[flight.tag]
            self._landed.set()
            if flight.read:
                self._read.setdefault(flight.tag, []).extend(flight.read)

    def _landing(self, flight: Flight, returned: Returned) -> None:
        """Take up what a batch left, and adapt to what the provider takes."""
        if returned.smaller:
            self._size = max(1, min(self._size, flight.size // 2))
        if returned.later:
            self._refusals += 1
            grown = min(2.0 ** (self._refusals - 1), LONGEST_HOLD)
            self._held_until = time.monotonic() + self._patience.poll_s * grown
            self._held_why = returned.why
        elif not returned.waiters:
            self._refusals, self._held_until = 0, 0.0
            self._size = min(self._most, self._size + max(1, self._size // 4))
        if returned.waiters:
            self._enqueue([w for w in returned.waiters if not self._is_refused(w, returned)])

    def _is_refused(self, waiter: Waiter, returned: Returned) -> bool:
        """Whether a request that is too much even alone was tried for often enough."""
        waiter.aboard = False
        if not returned.smaller or len(returned.waiters) > 1:
            return False
        waiter.refused += 1
        if returned.later and waiter.refused < self._config.max_attempts:
            return False
        waiter.tell(Unanswered(returned.why, status=413))
        return True

    def _still_under_way(self) -> str | None:
        flights = [f for f in self._flights.values() if f.may_be_under_way]
        if not flights:
            return None
        count = sum(flight.size for flight in flights)
        ids = ", ".join(flight.id or "id not known yet" for flight in flights)
        if self._path is None:
            return f"{count:,} requests stay under way at {self._api.shown}: {ids}"
        return (
            f"{count:,} requests stay under way at {self._api.shown} and are billed: {ids}; run "
            "the same command again to pick them up"
        )

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Nobody waits in vain for a queue that nobody empties any more."""
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._broken = error
        for waiter in self._queue:
            if not waiter.future.done():
                waiter.future.set_exception(error)


def _completion(result: Completion | Unanswered) -> Completion:
    """What a batch said of a request. Whom it did not answer, it did not bill."""
    if isinstance(result, Completion):
        return result
    return Completion(
        outcome=Outcome.FAILED,
        error=result.error,
        status=result.status,
        usage=None if result.uncertain else Usage(),
        uncertain_attempts=int(result.uncertain),
    )
