"""Engines that are servers themselves, llama.cpp's and vLLM's: requests handed on and translated.

What differs from OpenAI's API, and from one of them to the other, is made up for here: defaults
(llama.cpp draws at temperature 0.8 where nobody says), how many choices, errors, the end of a turn
among the log-probs, fields of their own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from overproof.clients.chat_upstream import (
    UNREACHABLE,
    UpstreamError,
    is_alive,
    models_of,
    streamed_chunks,
    whole_answer,
)
from overproof.clients.embedded import EmbeddedTeacher
from overproof.clients.http_session import HttpSession
from overproof.clients.llama_server import MOST_LOGPROBS as LLAMA_LOGPROBS
from overproof.clients.vllm_process import VllmProcess
from overproof.clients.vllm_server import MOST_LOGPROBS as VLLM_LOGPROBS
from overproof.clients.vllm_server import capabilities_from_models, prefill_body
from overproof.config.teacher import TeacherConfig
from overproof.errors import StudentError, TeacherError
from overproof.evaluate.chat import ProtocolError
from overproof.evaluate.serve_chat_engines import unsupported
from overproof.evaluate.serve_chat_pieces import DELTA, Piece, Usage
from overproof.evaluate.serve_chat_request import ChatAsked

__all__ = ["LlamaEngine", "VllmEngine"]

SEEDS = 2**32 - 1  # llama.cpp takes the last one for "any"
# llama.cpp's server passes over a field that it does not know; these it knows.
LLAMA_KNOWS = frozenset(
    {
        "tools", "tool_choice", "parallel_tool_calls", "response_format", "frequency_penalty",
        "presence_penalty", "logit_bias", "chat_template_kwargs", "top_k", "min_p", "typical_p",
        "repeat_penalty", "repeat_last_n", "grammar", "json_schema", "mirostat", "mirostat_tau",
        "mirostat_eta", "dry_multiplier", "xtc_probability", "xtc_threshold", "ignore_eos",
    }
)  # fmt: skip


class _Proxy:
    """What both have in common."""

    name = ""
    most_logprobs = 0
    slots = 1
    context_length: int | None = None

    def __init__(self, model: str) -> None:
        self._model = model
        self._http: HttpSession | None = None

    @property
    def http(self) -> HttpSession:
        """The server, inside the context."""
        if self._http is None:
            raise RuntimeError("use the engine inside `async with`")
        return self._http

    async def is_alive(self) -> bool:
        """Whether the server answers."""
        return await is_alive(self.http)

    def check(self, asked: ChatAsked) -> None:
        """The server refuses what it cannot do."""

    def _body(self, asked: ChatAsked, index: int) -> dict[str, Any]:
        raise NotImplementedError

    async def choice(self, asked: ChatAsked, index: int) -> AsyncGenerator[Piece, None]:
        """One choice; see ``Engine``."""
        body = self._body(asked, index)
        # llama.cpp tells the end of a turn only among the log-probs of an answer in one piece, and
        # a prefill as part of one.
        prefilled = asked.messages[-1].role == "assistant"
        reader = _Reader(index, asked)
        try:
            if not asked.stream and not prefilled:
                for piece in reader.whole(await whole_answer(self.http, body)):
                    yield piece
                return
            chunks = streamed_chunks(self.http, body)
            try:
                async for chunk in chunks:
                    for piece in reader.chunk(chunk):
                        yield piece
            finally:
                await chunks.aclose()
            yield reader.end()
        except UpstreamError as error:
            raise _translated(error, self.name) from error


class LlamaEngine(_Proxy):
    """A GGUF file, run by llama.cpp in a process of its own.

    Args:
        file: the GGUF file.
        concurrency: answers at a time, as far as there are threads for them.
        context_length: of one answer with its prompt, in tokens.

    Raises:
        MissingExtraError: xllamacpp is not installed.
    """

    name = "llamacpp"
    most_logprobs = LLAMA_LOGPROBS

    def __init__(self, file: Path, *, concurrency: int, context_length: int) -> None:
        config = TeacherConfig(
            kind="embedded",
            model=str(file),
            concurrency=concurrency,
            context_length=context_length,
        )
        self._file = file
        self._server = EmbeddedTeacher(config)
        super().__init__(self._server.model)
        self.slots = self._server.slots
        self.context_length = context_length

    async def __aenter__(self) -> Self:
        try:
            await self._server.__aenter__()
        except TeacherError as error:
            raise StudentError(
                str(self._file), f"llama.cpp: {error.reason}", error.way_out
            ) from error
        self._http = self._server.http
        self.context_length = self._server.capabilities.context_length
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http = None
        await self._server.__aexit__(kind, error, trace)

    def check(self, asked: ChatAsked) -> None:
        """Refuse a field that it would pass over."""
        for name in asked.more:
            if name not in LLAMA_KNOWS:
                raise unsupported(name, "llama.cpp", "leave it out")

    def _body(self, asked: ChatAsked, index: int) -> dict[str, Any]:
        body = {"temperature": 1.0, "top_p": 1.0} | asked.body(self._model)
        if asked.seed is not None:
            body["seed"] = (asked.seed + index) % SEEDS
        if asked.top_logprobs is not None:
            body["top_logprobs"] = max(1, asked.top_logprobs)  # 0 would switch them off
        return body


class VllmEngine(_Proxy):
    """A vLLM server: one that runs at ``upstream``, or one started here on a directory.

    Args:
        model: the name to ask for; of a server that runs, where it lists no such model, its first.
        upstream: a teacher of kind ``openai`` with the server's address and key.
        process: what starts one instead.

    Raises:
        ConfigError, SecretError: an address or a key that cannot be used.
    """

    name = "vllm"
    most_logprobs = VLLM_LOGPROBS
    slots = 64

    def __init__(
        self,
        model: str,
        *,
        upstream: TeacherConfig | None = None,
        process: VllmProcess | None = None,
    ) -> None:
        super().__init__(model)
        self._process = process
        self._upstream = None if upstream is None else HttpSession(upstream)

    async def __aenter__(self) -> Self:
        http = self._upstream
        try:
            if self._process is not None:
                config, headers = await self._process.start()
                http = HttpSession(config, headers=headers)
            if http is None:
                raise RuntimeError("neither an address nor a process")
            await http.open()
            self._http = http
            listed = await models_of(http)
        except UpstreamError as error:
            await self.__aexit__(None, None, None)
            raise StudentError(
                http.shown if http else "vLLM",
                f"cannot be served from: {error.message}",
                "start it (vllm serve DIR), check --upstream (it ends in /v1) and its key",
            ) from error
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        names = [str(each.get("id")) for each in listed]
        if names and self._model not in names:
            self._model = names[0]
        found = capabilities_from_models({"data": listed}, self._model)
        self.context_length = found.context_length if found else None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        http, self._http = self._http, None
        try:
            if http is not None:
                await http.close()
        finally:
            if self._process is not None:
                await self._process.stop()

    def _body(self, asked: ChatAsked, index: int) -> dict[str, Any]:
        body = {"temperature": 1.0, "top_p": 1.0} | asked.body(self._model)
        if asked.seed is not None:
            body["seed"] = (asked.seed + index) % 2**63
        return body | prefill_body(asked.request(self._model, 1))


class _Reader:
    """The answer of a server as pieces of one choice."""

    def __init__(self, index: int, asked: ChatAsked) -> None:
        self._index = index
        self._k = asked.top_logprobs
        self._usage = Usage()
        self._reason: str | None = None
        self._values: list[float] = []
        self._waiting: list[dict[str, Any]] = []
        self._size = 0  # of the text so far, in bytes
        self._at = 0  # where the next token begins

    def whole(self, answer: dict[str, Any]) -> list[Piece]:
        """Of a ``chat.completion`` object."""
        choice = _first(answer)
        message = choice.get("message")
        told = {**choice, "delta": _numbered(message if isinstance(message, dict) else {})}
        found = [*self.chunk({**answer, "choices": [told]}), self.end()]
        if self._reason is None:
            raise UpstreamError(502, "an answer without a choice")
        return found

    def chunk(self, chunk: dict[str, Any]) -> list[Piece]:
        """Of a ``chat.completion.chunk`` object."""
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self._usage = Usage(_count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))
        choice = _first(chunk)
        delta = choice.get("delta")
        said = delta if isinstance(delta, dict) else {}
        said = {name: said[name] for name in DELTA if said.get(name) not in (None, "", [])}
        reason = choice.get("finish_reason")
        self._reason = reason if isinstance(reason, str) else self._reason
        tokens = self._tokens(said.get("content"), choice.get("logprobs"))
        return [Piece(self._index, said, tokens)] if said or tokens else []

    def end(self) -> Piece:
        """How the choice ended."""
        if self._reason is None:
            raise UpstreamError(502, "the answer ended without a reason")
        values = tuple(self._values)
        return Piece(self._index, finish_reason=self._reason, usage=self._usage, values=values)

    def _tokens(self, text: Any, logprobs: Any) -> list[dict[str, Any]] | None:
        """The tokens that the text so far is made of, and that were not told yet."""
        if self._k is None:
            return None
        self._size += len(text.encode()) if isinstance(text, str) else 0
        listed = logprobs.get("content") if isinstance(logprobs, dict) else None
        for token in listed if isinstance(listed, list) else ():
            if isinstance(token, dict) and isinstance(token.get("logprob"), int | float):
                self._values.append(float(token["logprob"]))
                self._waiting.append(token)
        told = []
        while self._waiting and self._at < self._size:
            token = self._waiting.pop(0)
            plain = _plain(token)
            self._at += len(plain["bytes"] or plain["token"].encode())
            others = token.get("top_logprobs")
            others = [each for each in others or () if isinstance(each, dict)][: self._k]
            told.append({**plain, "top_logprobs": [_plain(each) for each in others]})
        return told


def _plain(token: dict[str, Any]) -> dict[str, Any]:
    """A token without what OpenAI's has not, such as llama.cpp's ``id``."""
    return {
        "token": str(token.get("token", "")),
        "logprob": token.get("logprob"),
        "bytes": token.get("bytes"),
    }


def _first(answer: dict[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _numbered(message: dict[str, Any]) -> dict[str, Any]:
    """A message as a delta: calls have numbers there."""
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [{"index": i} | dict(c) for i, c in enumerate(calls)]}


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if type(value) is int else 0


def _translated(error: UpstreamError, engine: str) -> ProtocolError:
    """The server's error as ours: whose fault it is stays the same."""
    said, status = error.message, error.status
    too_long = error.kind == "exceed_context_size_error" or "context length" in said.lower()
    if status in (400, 413, 422) or too_long:
        code = "context_length_exceeded" if too_long else None
        return ProtocolError(said, param="messages" if too_long else None, code=code)
    if status in (429, 503):
        code = "engine_unreachable" if error.kind == UNREACHABLE else "overloaded"
        said = f"{engine} cannot answer now: {said}"
        return ProtocolError(said, status=503, code=code, kind="server_error")
    return ProtocolError(f"{engine} failed: {said}", status=502, kind="server_error")
