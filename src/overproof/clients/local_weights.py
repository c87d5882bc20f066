"""A teacher whose weights are here: answered in batches, with exact log-probs.

    async with LocalTeacher(config) as teacher:
        completion = await teacher.complete(request)

Requests that wait are gathered, sorted by length, and answered ``teacher.concurrency`` at a time in
a thread of their own.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from overproof.clients import local_model
from overproof.clients.local_model import LocalModel
from overproof.clients.local_rows import Row, row_of
from overproof.clients.protocol import Capabilities, Meter
from overproof.config.teacher import TeacherConfig
from overproof.errors import ConfigError, MissingExtraError, TeacherError
from overproof.records.exchange import Completion, Outcome, Request

__all__ = ["MOST_LOGPROBS", "LocalTeacher"]

MOST_LOGPROBS = 200
# Askers of one moment come one after another: a batch waits this long to be filled.
GATHER_S = 0.01
GIVEN_UP = Completion(
    outcome=Outcome.FAILED, error="nobody waited for the answer any more; ask again"
)
CLOSED = Completion(
    outcome=Outcome.FAILED, error="the teacher was closed before the answer came; ask again"
)


@dataclass(eq=False)
class _Waiting:
    """A request with whoever waits for its answer."""

    request: Request
    future: asyncio.Future[Completion]
    hear: Callable[[Row], None] | None = None
    has_begun: bool = False


class LocalTeacher:
    """Hugging Face weights, run by transformers in this process.

    A temperature that is not set is 1 and a ``top_p`` that is not set is 1: the model's own
    distribution, whatever its generation config recommends. An answer depends on its own request
    and seed, not on what else is in its batch, as far as rounding goes: a token may differ where
    two are equally likely to about seven digits in float32, and three in bfloat16. JSON Schemas
    are left to the prompt. The request's ``extra`` may hold ``chat_template_kwargs``.

    Args:
        config: a teacher of kind ``local``.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        ModelError: no such weights.
        ConfigError: an extra body, which local weights have no use for.
    """

    def __init__(self, config: TeacherConfig) -> None:
        for module in ("torch", "transformers"):
            if importlib.util.find_spec(module) is None:
                raise MissingExtraError(module, "local")
        if unknown := sorted(config.body.keys() - {"chat_template_kwargs"}):
            raise ConfigError(
                f"teacher.body.{unknown[0]}",
                "has no meaning for local weights",
                "take it out; chat_template_kwargs is all that can be set",
            )
        self._source = local_model.source_of(config.model)
        self.model = self._source.name
        self.name = f"{self.model}@local"
        self._config = config
        self._queue: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._closing = threading.Event()
        self._thread: ThreadPoolExecutor | None = None
        self._loaded: LocalModel | None = None
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._closing.clear()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="local-weights")
        loop = asyncio.get_running_loop()
        try:
            self._loaded = await loop.run_in_executor(
                self._thread, local_model.load, self._source, self._config
            )
        except BaseException:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None
            raise
        self._serving = asyncio.create_task(self._serve())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()  # a batch under way ends with its next token
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait([self._serving])
            self._serving = None
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, thread.shutdown)
        self._fail_waiting(CLOSED)
        self._loaded = None

    @property
    def capabilities(self) -> Capabilities:
        """What the weights offer; tools and the context's length are known once loaded."""
        loaded, config = self._loaded, self._config
        most = MOST_LOGPROBS if config.top_logprobs is None else config.top_logprobs
        return Capabilities(
            top_logprobs=most,
            prompt_logprobs=True,
            assistant_prefill=config.supports_prefill is not False,
            tokenize=True,
            seed=config.supports_seed,
            temperature=config.supports_temperature,
            context_length=loaded.context if loaded else config.context_length,
            tools=config.supports_tools and (loaded is None or "tools" in loaded.chat.template),
        )

    async def check(self) -> str | None:
        """Inside the context the weights are loaded: what could fail has raised already."""
        return None

    async def complete(
        self,
        request: Request,
        meter: Meter | None = None,
        *,
        hear: Callable[[Row], None] | None = None,
    ) -> Completion:
        """Answer one request.

        Args:
            request: what to answer.
            meter: told of it.
            hear: called in the thread of the weights with every token; see ``local_stream``.

        Raises:
            BudgetError: ``meter`` has no room for it.
            TeacherError: the computation broke, for this and every other request of its batch.
        """
        if self._thread is None:
            raise RuntimeError("use the teacher inside `async with`")
        if meter is not None:
            await meter.before()
        waiting = _Waiting(request, asyncio.get_running_loop().create_future(), hear)
        self._queue.append(waiting)
        self._arrived.set()
        try:
            completion = await waiting.future
        except BaseException:
            if meter is not None:
                meter.after(GIVEN_UP, reached=waiting.has_begun)
            raise
        if meter is not None:
            meter.after(completion, reached=waiting.has_begun)
        return completion

    async def tokenize(self, text: str) -> list[bytes] | None:
        """Byte pieces of ``text``, ``None`` for a tokenizer that does not keep every byte."""
        if self._thread is None or self._loaded is None:
            raise RuntimeError("use the teacher inside `async with`")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._loaded.chat.pieces, text)

    async def _serve(self) -> None:
        """Answer whoever waits, one round after another."""
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            if len(self._queue) < self._config.concurrency:
                await asyncio.sleep(GATHER_S)
            self._arrived.clear()
            round_, self._queue = self._queue, []
            try:
                await loop.run_in_executor(self._thread, self._answer, loop, round_)
            except Exception as error:  # noqa: BLE001 - every waiting asker raises it
                said = str(error).strip().partition("\n")[0] or type(error).__name__
                for waiting in round_:
                    if not waiting.future.done():
                        waiting.future.set_exception(
                            TeacherError(
                                f"local weights {self.model}",
                                f"the computation broke: {said}",
                                "check teacher.device and teacher.dtype",
                            )
                        )
            finally:
                # An interrupted round: whoever was left gets word of it.
                self._queue = [w for w in round_ if not w.future.done()] + self._queue

    def _answer(self, loop: asyncio.AbstractEventLoop, round_: list[_Waiting]) -> None:
        """In the thread: make rows of those who wait, and answer them batch by batch."""
        from overproof.clients.local_batch import answer

        model = self._loaded
        if model is None:
            raise RuntimeError("the weights are not loaded")
        rows: list[Row] = []
        for waiting in round_:
            if not waiting.future.done():
                self._ready(model, loop, waiting, rows)
        rows.sort(key=lambda row: len(row.prompt))  # less padding
        size = self._config.concurrency
        for start in range(0, len(rows), size):
            if self._closing.is_set():
                return
            answer(model, rows[start : start + size])

    def _ready(
        self,
        model: LocalModel,
        loop: asyncio.AbstractEventLoop,
        waiting: _Waiting,
        rows: list[Row],
    ) -> None:
        """Add the row of one who waits; what cannot be asked fails at once."""

        def deliver(completion: Completion) -> None:
            loop.call_soon_threadsafe(_settle, waiting, completion)

        def is_abandoned() -> bool:
            waiting.has_begun = True
            return waiting.future.done() or self._closing.is_set()

        asked = waiting.request.parameters
        extra = {**self._config.body, **asked.extra}
        request = waiting.request.model_copy(
            update={"parameters": asked.model_copy(update={"extra": extra})}
        )
        try:
            row = row_of(model, request, is_abandoned, deliver)
            row.hear = waiting.hear
            rows.append(row)
        except ValueError as error:
            deliver(Completion(outcome=Outcome.FAILED, error=str(error)))

    def _fail_waiting(self, completion: Completion) -> None:
        waiting, self._queue = self._queue, []
        for each in waiting:
            _settle(each, completion)


def _settle(waiting: _Waiting, completion: Completion) -> None:
    if not waiting.future.done():
        waiting.future.set_result(completion)
