"""Micro-batching: many small requests share one pass through the model, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["BusyError", "MicroBatcher"]

Answer = TypeVar("Answer")
Item = tuple[str, "asyncio.Future[Answer]"]


class BusyError(Exception):
    """The queue is full; try again in a moment."""


class MicroBatcher(Generic[Answer]):
    """Gathers texts until ``max_batch`` are there or ``max_wait_s`` have passed, then runs them.

    One worker thread runs one batch at a time; what arrives meanwhile makes up the next one.

    Args:
        run: answers a batch of texts, in order; called in the worker thread.
        max_batch: texts in a batch.
        max_wait_s: how long the first text of a batch waits for others, in seconds.
        max_queued: texts that may wait; more are refused, so that memory and latency stay bounded.
    """

    def __init__(
        self,
        run: Callable[[Sequence[str]], Sequence[Answer]],
        *,
        max_batch: int = 64,
        max_wait_s: float = 0.002,
        max_queued: int = 4096,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self.max_queued = max_queued
        self._waiting = 0

    async def __aenter__(self) -> MicroBatcher[Answer]:
        self._queue: asyncio.Queue[Item[Answer]] = asyncio.Queue()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="student")
        self._collector = asyncio.create_task(self._collect())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._collector.cancel()
        await asyncio.gather(self._collector, return_exceptions=True)
        while not self._queue.empty():
            self._queue.get_nowait()[1].cancel()
        # The batch in the thread ends on its own; waiting for it here would block the loop.
        self._worker.shutdown(wait=False)

    async def ask(self, texts: Sequence[str]) -> list[Answer]:
        """Answers of ``texts``, in order.

        Raises:
            BusyError: when they do not fit into the queue now.
            Exception: whatever ``run`` raised on the batch.
        """
        if self._waiting + len(texts) > self.max_queued:
            raise BusyError
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Answer]] = [loop.create_future() for _ in texts]
        self._waiting += len(texts)
        try:
            for item in zip(texts, futures, strict=True):
                self._queue.put_nowait(item)
            return list(await asyncio.gather(*futures))
        finally:
            self._waiting -= len(texts)
            for future in futures:
                future.cancel()  # nobody waits any more; done ones stay as they are

    async def _collect(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [item for item in await self._gather() if not item[1].done()]
            if not batch:
                continue
            texts = [text for text, _ in batch]
            try:
                answers = await loop.run_in_executor(self._worker, self._run, texts)
            except asyncio.CancelledError:
                for _, future in batch:
                    future.cancel()
                raise
            except Exception as error:  # noqa: BLE001 - passed on to everyone who asked
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    async def _gather(self) -> list[Item[Answer]]:
        batch = [await self._queue.get()]
        try:
            async with asyncio.timeout(self._max_wait_s):
                while len(batch) < self._max_batch:
                    batch.append(await self._queue.get())
        except TimeoutError:
            pass
        return batch
