"""What may stand behind a served student: llama.cpp, transformers, vLLM, all asked alike.

An engine answers one choice as pieces; ``choices_of`` makes several of them. What it cannot honour
of a request it refuses beforehand, in ``check``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self

from overproof.clients.local_batch import NO_NUMBER, TOO_LARGE
from overproof.clients.local_stream import TextPiece, said_tokens, stream_of
from overproof.clients.local_weights import MOST_LOGPROBS, LocalTeacher
from overproof.config.teacher import TeacherConfig
from overproof.errors import TeacherError
from overproof.evaluate.chat import ProtocolError
from overproof.evaluate.serve_chat_pieces import Piece, Usage, token_objects
from overproof.evaluate.serve_chat_request import ChatAsked
from overproof.records.exchange import Completion, Outcome
from overproof.records.tool_calls import call_object

__all__ = ["Engine", "TransformersEngine", "choices_of", "pieces_of_completion", "unsupported"]

# Where neither the request nor the model says how long an answer may be.
MOST_TOKENS = 4096


class Engine(Protocol):
    """What answers for the student. Used as an async context manager.

    Attributes:
        name: as ``--backend`` takes it.
        most_logprobs: the largest ``top_logprobs``.
    """

    name: str
    most_logprobs: int

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    @property
    def slots(self) -> int:
        """Answers that are generated at a time."""

    @property
    def context_length(self) -> int | None:
        """The longest prompt with answer in tokens, ``None`` where unknown."""

    def check(self, asked: ChatAsked) -> None:
        """Refuse what cannot be honoured.

        Raises:
            ProtocolError: with the field.
        """

    def choice(self, asked: ChatAsked, index: int) -> AsyncGenerator[Piece, None]:
        """One choice; its last piece has the usage of it alone.

        Raises:
            ProtocolError: it cannot be answered.
        """

    async def is_alive(self) -> bool:
        """Whether it can be asked."""


async def choices_of(engine: Engine, asked: ChatAsked) -> AsyncGenerator[Piece, None]:
    """All choices of a request, generated side by side; the usage of them all comes last.

    Raises:
        ProtocolError: one of them cannot be answered.
    """
    if asked.n == 1:
        async for piece in _closing(engine.choice(asked, 0)):
            yield piece
        return
    total = Usage()
    async for piece in _merged([engine.choice(asked, index) for index in range(asked.n)]):
        if piece.usage is not None:
            spent = total.completion + piece.usage.completion
            total = Usage(max(total.prompt, piece.usage.prompt), spent)
        yield replace(piece, usage=None)
    yield Piece(usage=total)


async def _merged(
    sources: Sequence[AsyncGenerator[Piece, None]],
) -> AsyncGenerator[Piece, None]:
    """Pieces of several choices as they come; the first failure ends them all."""
    queue: asyncio.Queue[Piece | None] = asyncio.Queue()

    async def listen(source: AsyncGenerator[Piece, None]) -> None:
        try:
            async for piece in _closing(source):
                queue.put_nowait(piece)
        finally:
            queue.put_nowait(None)

    tasks = [asyncio.create_task(listen(source)) for source in sources]
    try:
        for _ in tasks:
            while (piece := await queue.get()) is not None:
                yield piece
            for task in tasks:
                if task.done():
                    task.result()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _closing(pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
    """``pieces``, closed in any case: an abandoned generator would go on generating."""
    try:
        async for piece in pieces:
            yield piece
    finally:
        await pieces.aclose()


def unsupported(name: str, engine: str, way_out: str) -> ProtocolError:
    """The error for a field that an engine cannot honour."""
    return ProtocolError(
        f"{name}: the server behind ({engine}) cannot honour it; {way_out}",
        param=name,
        code="unsupported_parameter",
    )


class TransformersEngine:
    """Hugging Face weights in this process, answered in batches.

    A batch that is under way is finished before the next one begins: under load the engine for a
    CPU is llama.cpp, and the one for a GPU is vLLM.

    Args:
        config: a teacher of kind ``local``.

    Raises:
        MissingExtraError: torch or transformers is not installed.
    """

    name = "transformers"
    most_logprobs = MOST_LOGPROBS

    def __init__(self, config: TeacherConfig) -> None:
        self._teacher = LocalTeacher(config)
        self._config = config

    async def __aenter__(self) -> Self:
        await self._teacher.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._teacher.__aexit__(kind, error, trace)

    @property
    def slots(self) -> int:
        """Answers of a batch."""
        return self._config.concurrency

    @property
    def context_length(self) -> int | None:
        """What the weights were made for, or less where so configured."""
        return self._teacher.capabilities.context_length

    def check(self, asked: ChatAsked) -> None:
        """Refuse what transformers alone does not do: penalties, formats, forced calls."""
        for name, value in asked.more.items():
            if name in ("tools", "chat_template_kwargs"):
                continue
            if name == "tool_choice" and value in ("auto", "none"):
                continue
            raise unsupported(
                name, "transformers", "leave it out, or serve with --backend llamacpp or vllm"
            )
        if asked.more.get("tools") and not self._teacher.capabilities.tools:
            raise unsupported("tools", "its chat template", "the student was taught none")

    async def choice(self, asked: ChatAsked, index: int) -> AsyncGenerator[Piece, None]:
        """One choice; see ``Engine``."""
        request = asked.request(
            self._teacher.model, self.context_length or MOST_TOKENS, sample=index
        )
        if asked.more.get("tool_choice") == "none":
            asked_for = request.parameters.model_copy(update={"tools": (), "tool_choice": None})
            request = request.model_copy(update={"parameters": asked_for})
        wanted = asked.top_logprobs is not None
        try:
            if not asked.stream:
                whole = await self._teacher.complete(request)
                for told in pieces_of_completion(_answered(whole), index):
                    yield told
                return
            stream = stream_of(self._teacher, request)
            try:
                async for piece in stream:
                    if isinstance(piece, TextPiece):
                        tokens = token_objects(piece.logprobs) if wanted else None
                        delta = {"content": piece.text} if piece.text else {}
                        yield Piece(index, delta, tokens)
                    else:
                        shown = bool(request.parameters.tools)
                        for told in pieces_of_completion(_answered(piece), index, shown=shown):
                            yield told
            finally:
                await stream.aclose()
        except TeacherError as error:
            raise ProtocolError(
                f"the student failed: {error.reason}", status=500, kind="server_error"
            ) from error

    async def is_alive(self) -> bool:
        """Weights in this process are there as long as it is."""
        return True


def _answered(completion: Completion) -> Completion:
    """The completion, if it is an answer.

    Raises:
        ProtocolError: it failed; the request is to blame unless the computation is.
    """
    if completion.outcome is not Outcome.FAILED:
        return completion
    said = completion.error or "the student failed"
    if said in (NO_NUMBER, TOO_LARGE):
        raise ProtocolError(said, status=500, kind="server_error")
    code = "context_length_exceeded" if "no room for an answer" in said else None
    raise ProtocolError(said.partition(": shorten it")[0], param="messages", code=code)


def pieces_of_completion(
    completion: Completion, index: int = 0, *, shown: bool = True
) -> list[Piece]:
    """A completion as pieces: what it says, unless it was shown, then how it ended."""
    delta: dict[str, Any] = {}
    tokens: list[dict[str, Any]] | None = None
    if shown:
        delta = {"content": completion.text}
        if completion.outcome is Outcome.REFUSED:
            delta = {"content": None, "refusal": completion.text}
        if completion.reasoning:
            delta["reasoning_content"] = completion.reasoning
        if completion.tool_calls:
            calls = [{"index": i} | call_object(c) for i, c in enumerate(completion.tool_calls)]
            delta = {**delta, "content": completion.text or None, "tool_calls": calls}
        if completion.logprobs is not None:
            tokens = token_objects(said_tokens(completion))
    usage = completion.usage
    told = Usage(usage.input_tokens, usage.output_tokens) if usage else Usage()
    values = tuple(token.logprob for token in completion.logprobs or ())
    truncated = completion.outcome is Outcome.TRUNCATED
    reason = "length" if truncated else completion.finish_reason or "stop"
    found = [Piece(index, delta, tokens)] if shown else []
    return [*found, Piece(index, finish_reason=reason, usage=told, values=values)]
