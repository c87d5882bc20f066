"""One batch on its way: submitted once, looked at until it has ended, read, and its askers told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from overproof.clients.batch_journal import BatchJournal, BatchRecord
from overproof.clients.batch_patience import PICKS_UP, Dark, Patience
from overproof.clients.batch_protocol import (
    BatchApi,
    BatchState,
    BatchView,
    BrokenDownload,
    Found,
    LostBatch,
    ResultsGone,
    Submission,
    Submitted,
    Unanswered,
)
from overproof.clients.worst_case import worst_usage
from overproof.errors import SecretError, TeacherError, TeacherUnreachableError
from overproof.records.exchange import Completion, Outcome, Request

__all__ = ["Flight", "Returned", "Waiter"]

LINES_A_TURN = 100
MISSED = 3


@dataclass(eq=False)
class Waiter:
    """Somebody who waits for the answer to a request.

    ``refused`` counts how often it alone was too much for the provider.
    """

    request: Request
    custom_id: str
    line: bytes
    future: asyncio.Future[Completion | Unanswered]
    refused: int = 0
    aboard: bool = False

    @property
    def most(self) -> tuple[int, int]:
        """The most input and output tokens that the request can take."""
        worst = worst_usage(self.request)
        return worst.input_tokens, worst.output_tokens

    def tell(self, result: Completion | Unanswered) -> None:
        """Give the result to whoever still waits."""
        if not self.future.done():
            self.future.set_result(result)


@dataclass(frozen=True)
class Returned:
    """Waiters that another batch must serve; ``smaller`` says that it must hold fewer of them.

    ``later`` says that the provider takes no more for now.
    """

    waiters: Sequence[Waiter] = ()
    smaller: bool = False
    later: bool = False
    why: str = ""


class Flight:
    """A batch with those who wait for it.

    Args:
        api: the provider.
        journal: is told of every step.
        record: of a batch that an earlier run submitted; ``None`` for a new one.
        tag: of a new one.
        waiters: by custom id; of a new batch these are its requests.
        patience: how often and how long.
    """

    def __init__(
        self,
        api: BatchApi,
        journal: BatchJournal,
        tag: str,
        waiters: dict[str, Waiter],
        *,
        patience: Patience,
        record: BatchRecord | None = None,
    ) -> None:
        self.tag = tag
        self.waiters = waiters
        self.size = len(record.custom_ids) if record else len(waiters)
        self.is_open = True
        self.view: BatchView | None = None
        self.read: list[str] = []
        self._is_done = False
        self._says = ""
        self._next_look = 0.0
        self._api, self._journal, self._record, self._patience = api, journal, record, patience
        self._rng = random.Random(tag)

    @property
    def id(self) -> str | None:
        """The provider's name of the batch, once it is known."""
        return self._record.id if self._record else None

    @property
    def may_be_under_way(self) -> bool:
        """Whether the provider works on it, or may, or has results that were not read."""
        return self._record is not None and not self._record.is_over and not self._is_done

    def status(self) -> str:
        """One line on how far it is."""
        if self.id is None:
            return self._says or f"submitting a batch of {self.size:,} requests"
        view = self.view
        wait_s = max(self._next_look - time.monotonic(), 0.0)
        word = view.word if view and view.word else "submitted"
        done = f"{word}, {self.size:,} requests"
        if view is not None and view.done is not None:
            done = f"{view.done:,} of {view.total or self.size:,} done"
        after = f"next look in {wait_s:.0f} s" if self.is_open else "reading the results"
        return f"batch {self.id}: {done}, {self._says or after}"

    async def run(self) -> Returned:
        """See the batch through.

        Returns:
            Those who are left for another batch.

        Raises:
            TeacherError: the provider rejects the batch, or does not know it.
            TeacherUnreachableError: nobody could be reached for too long.
            SecretError: the key was refused.
            RunError: the journal cannot be written.
        """
        back = await (self._submit() if self._record is None else self._resume(self._record))
        if back is not None:
            return back
        view = await self._until_ended()
        self.is_open = False
        if view.state is BatchState.GONE:
            raise TeacherError(
                f"batch {self.id}",
                f"is not known at {self._api.shown} ({view.why})",
                "use the key of the account and project that submitted it; where it was deleted, "
                f"remove {self._journal.path} to ask its requests anew, which is paid for anew",
            )
        if view.state is BatchState.FAILED:
            return self._never_ran(view)
        await self._read(view)
        self._is_done = True
        return Returned()

    def fail(self, error: Exception) -> None:
        """Tell everybody aboard that it cannot go on."""
        is_there, self.is_open = self.may_be_under_way, False
        for waiter in self.waiters.values():
            waiter.aboard = is_there
            if not waiter.future.done():
                waiter.future.set_exception(error)
        self.waiters.clear()

    async def _submit(self) -> Returned | None:
        """Create the batch, never twice: where the answer was lost, it is looked for first."""
        self._record = self._journal.intend(
            self.tag, {custom_id: waiter.most for custom_id, waiter in self.waiters.items()}
        )
        lines = [waiter.line for waiter in self.waiters.values()]
        began, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            try:
                submission = await self._api.submit(self.tag, lines)
            except (TeacherError, SecretError) as error:
                self._journal.dropped(self.tag, error.reason)
                raise
            if submission.outcome is Submitted.CREATED:
                self._journal.submitted(self.tag, submission.id)
                return None
            if submission.outcome is Submitted.TOO_LARGE:
                return self._give_back(submission.why, smaller=True)
            self._says = f"a batch of {self.size:,} requests is not taken yet: {submission.why}"
            self._give_up_late(submission, attempt, began)
            await self._pause(attempt, submission.wait_s)
            if submission.outcome is Submitted.UNKNOWN:
                found = await self._find()
                if found.id is not None:
                    return None
                if not found.certain:
                    return self._lose(found.why)

    def _give_up_late(self, submission: Submission, attempt: int, began: float) -> None:
        """Stop where nobody takes the batch; whoever answers "not now" is borne for longer."""
        is_busy = submission.outcome is Submitted.NOT_NOW and submission.reached
        is_long = time.monotonic() - began >= self._patience.dark_s
        if attempt < self._patience.max_attempts or (is_busy and not is_long):
            return
        if submission.outcome is Submitted.NOT_NOW:
            self._journal.dropped(self.tag, submission.why)
        raise TeacherUnreachableError(
            self._api.shown,
            f"takes no batch ({submission.why})",
            "run the same command again later: every answer so far is kept",
        )

    async def _resume(self, record: BatchRecord) -> Returned | None:
        """Pick up a batch of an earlier run; one that never came about is given back."""
        if record.id is not None:
            return None
        self._says = f"looking for a batch of {self.size:,} requests whose id was lost"
        found = await self._find()
        if found.id is not None:
            return None
        if not found.certain:
            return self._lose(found.why)
        return self._give_back("it was never created")

    async def _find(self) -> Found:
        """Look for the batch until it is found, or certainly not there."""
        assert self._record is not None
        lost = LostBatch(
            self.tag,
            frozenset(self._record.custom_ids),
            self._record.at,
            self._journal.known_ids(),
        )
        dark = Dark(self._api.shown, self._patience.dark_s)
        interval = self._patience.poll_s
        while True:
            try:
                found = await self._api.find(lost)
            except BrokenDownload as error:
                dark.failed(str(error))
            else:
                dark.answered()
                self._says = found.why if found.yet else ""
                if found.id is not None:
                    self._journal.submitted(self.tag, found.id)
                if not found.yet:
                    return found
            await asyncio.sleep(interval)
            interval = self._patience.slower(interval, self._rng)

    async def _until_ended(self) -> BatchView:
        """Look at the batch, more and more seldom, until something came of it."""
        assert self.id is not None
        dark = Dark(self._api.shown, self._patience.dark_s)
        interval = self._patience.poll_s
        missed = 0
        while True:
            view = await self._api.look(self.id)
            if view.state is BatchState.UNREADABLE:
                dark.failed(view.why)
                self._says = f"cannot be looked at just now ({view.why})"
            else:
                dark.answered()
                self._says = ""
                self.view = view
                # One just made may not be known everywhere at once.
                missed = missed + 1 if view.state is BatchState.GONE else 0
                if view.state is not BatchState.UNDER_WAY and missed in (0, MISSED):
                    return view
            wait_s = max(interval, view.wait_s or 0.0)
            self._next_look = time.monotonic() + wait_s
            await asyncio.sleep(wait_s)
            interval = self._patience.slower(interval, self._rng)

    def _never_ran(self, view: BatchView) -> Returned:
        """A batch that the provider refused as a whole: nothing of it was billed."""
        why = f"the batch failed before it ran: {view.why}"
        if view.queue_full:
            return self._give_back(view.why, smaller=True, later=True)
        self._journal.dropped(self.tag, why)
        assert self._record is not None
        bad = {
            self._record.custom_ids[number]: reason
            for number, reason in view.bad_lines.items()
            if 0 <= number < len(self._record.custom_ids)
        }
        # Without its bad lines the batch may run; with none named, it would fail again.
        for custom_id, waiter in self.waiters.items():
            if custom_id in bad:
                waiter.tell(Unanswered(bad[custom_id], status=400))
            else:
                waiter.tell(Unanswered(why, again=bool(bad)))
        self.waiters.clear()
        return Returned()

    async def _read(self, view: BatchView) -> None:
        """Tell every waiter its result; what the results leave out is told as well."""
        failed: list[str] = []
        rest = view.rest
        for attempt in range(1, self._patience.max_attempts + 1):
            try:
                await self._read_once(view, failed)
                break
            except ResultsGone as error:
                why = f"the provider no longer has the results ({error})"
                rest = Unanswered(why, again=True, uncertain=True)
                break
            except BrokenDownload as error:
                if attempt == self._patience.max_attempts:
                    raise TeacherError(
                        f"batch {self.id}", f"its results cannot be read: {error}", PICKS_UP
                    ) from None
                await self._pause(attempt, None)
        left = list(self.waiters)
        self._journal.spent(self.tag, [*failed, *left])
        for custom_id in left:
            self.waiters.pop(custom_id).tell(rest)

    async def _read_once(self, view: BatchView, failed: list[str]) -> None:
        assert self._record is not None
        ours = frozenset(self._record.custom_ids)
        number = 0
        requests = {custom_id: waiter.request for custom_id, waiter in self.waiters.items()}
        async with aclosing(self._api.results(view, requests)) as lines:
            async for line in lines:
                if line.custom_id not in ours:
                    continue
                if _is_no_answer(line.result):
                    failed.append(line.custom_id)
                if (waiter := self.waiters.pop(line.custom_id, None)) is not None:
                    waiter.tell(line.result)
                    self.read.append(line.custom_id)
                number += 1
                if number % LINES_A_TURN == 0:
                    await asyncio.sleep(0)  # whoever was told goes on

    def _give_back(self, why: str, *, smaller: bool = False, later: bool = False) -> Returned:
        """Leave a batch that does not exist: nothing of it was billed."""
        self.is_open = False
        self._journal.dropped(self.tag, why)
        waiters = list(self.waiters.values())
        self.waiters.clear()
        return Returned(waiters, smaller=smaller, later=later, why=why)

    def _lose(self, why: str) -> Returned:
        """Leave a batch of which nobody can tell whether it exists, and so whether it is billed."""
        error = f"its batch may have been submitted, but cannot be found: {why}"
        for waiter in self._give_back(error).waiters:
            waiter.tell(Unanswered(error, again=True, uncertain=True))
        return Returned()

    async def _pause(self, attempt: int, wait_s: float | None) -> None:
        policy = self._patience.policy
        if wait_s is not None and wait_s > policy.longest_wait_s:
            raise TeacherError(self._api.shown, f"the server asks to wait {wait_s:.0f} s", PICKS_UP)
        backoff_s = policy.backoff_s(attempt, self._rng)
        await asyncio.sleep(backoff_s if wait_s is None else wait_s)


def _is_no_answer(result: Completion | Unanswered) -> bool:
    """Whether the ledger would ask the request again, so that the batch must not answer it."""
    if isinstance(result, Unanswered):
        return True
    return result.outcome in (Outcome.MALFORMED, Outcome.FAILED)
