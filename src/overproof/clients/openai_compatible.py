"""A teacher behind any OpenAI-compatible URL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp

from overproof.clients import llama_server, vllm_server
from overproof.clients.body_keys import OPENAI_KEYS, check_body
from overproof.clients.choices import ask_singly
from overproof.clients.http_answers import broken
from overproof.clients.http_teacher import HttpTransport, StreamReader
from overproof.clients.openai_wire import (
    body_of,
    can_stream,
    completion_of,
    completions_of,
    without_prefill,
)
from overproof.clients.pacing import Now, Sleep
from overproof.clients.protocol import Capabilities, Meter
from overproof.clients.retry import RetryPolicy
from overproof.clients.stream import ChatStream
from overproof.config.recipe import TeacherConfig
from overproof.errors import SecretError, TeacherUnreachableError
from overproof.records.exchange import Completion, Outcome, Request

__all__ = ["OpenAICompatibleTeacher"]

PROBE_TIMEOUT_S = 3.0


class OpenAICompatibleTeacher:
    """Asks ``POST base_url + path``; see ``TeacherConfig`` for what can be set.

    Args:
        config: a teacher of kind ``openai``.
        policy: how often and how patiently to retry; by default ``config.max_attempts`` times.
        headers: sent with every request in addition to the recipe's, and kept as secret.
        sleep: awaited instead of ``asyncio.sleep``.
        now: clock in seconds for pacing and latency.
        seed: of the jitter between retries.

    Raises:
        ConfigError: a base URL or an extra body that cannot work.
        SecretError: an environment variable that the recipe names is missing.
    """

    def __init__(
        self,
        config: TeacherConfig,
        *,
        policy: RetryPolicy | None = None,
        headers: dict[str, str] | None = None,
        sleep: Sleep = asyncio.sleep,
        now: Now = time.monotonic,
        seed: int = 0,
    ) -> None:
        check_body(config.body, OPENAI_KEYS)
        self.transport = HttpTransport(
            config, headers=headers, policy=policy, sleep=sleep, now=now, seed=seed
        )
        self.model = config.model
        self.name = f"{config.model}@{self.transport.host}"
        self._config = config
        self._is_llama = self._is_vllm = False
        self._absent: TeacherUnreachableError | None = None
        self._is_closed = False
        self._capabilities = self._stated(
            Capabilities(choices=config.choices, structured=True, tools=True)
        )

    async def __aenter__(self) -> Self:
        await self.transport.open()
        await self._detect_llama()
        if not self._is_llama and self._absent is None:
            await self._detect_vllm()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.transport.close()

    @property
    def capabilities(self) -> Capabilities:
        """What the recipe says of this teacher; more where it turns out to be llama.cpp or vLLM."""
        return self._capabilities

    async def check(self) -> str | None:
        """Why asking would be in vain: nobody is there, or the key is refused.

        By what ``/props`` met on the way in. A gateway may forbid that path alone, so a refusal is
        confirmed where completions are asked for, by a request that holds no message: a server
        that takes the key rejects it as invalid, and none can answer it.
        """
        if self._absent is not None:
            return str(self._absent)
        if not self._is_closed:
            return None
        try:
            await self.transport.probe(self._config.path)
        except SecretError as error:
            return str(error)
        return None

    async def complete(self, request: Request, meter: Meter | None = None) -> Completion:
        """Answer one request, with retries; a retry waits without holding a place.

        Raises:
            SecretError: the key was refused (401 or 403).
            BudgetError: ``meter`` has no room for an attempt.
            TeacherUnreachableError: no attempt found anybody at the address.
            TeacherError: the server asks to wait longer than is worth waiting.
        """
        tools = bool(request.parameters.tools)
        completion = await self.transport.ask(
            self._config.path,
            self._body(request, 1),
            lambda raw: completion_of(raw, tools=tools),
            meter,
            tokens=self.transport.most_tokens(request),
            stream=self._stream(request, 1),
        )
        if self._is_llama:
            completion = without_prefill(completion, request.messages)
        return completion

    async def complete_many(
        self, requests: Sequence[Request], meter: Meter | None = None
    ) -> list[Completion]:
        """Answer requests that differ in ``sample`` alone, in one call of ``n`` choices.

        Where the call as a whole fails, so does each of them, by the same error. Choices that the
        server does not deliver are asked for singly, each in a call of its own, and so is
        everything from then on: ``capabilities.choices`` is 1 for the rest of the session.

        Raises:
            ValueError: more requests than ``capabilities.choices`` ever was.
            SecretError, BudgetError, TeacherUnreachableError, TeacherError: as ``complete``.
        """
        n = len(requests)
        most = self._capabilities.choices
        if n > self._config.choices:
            raise ValueError(f"{n} requests for a call of at most {most} choices")
        if n == 1:
            return [await self.complete(requests[0], meter)]
        if n > most:  # made up before it was known
            return await ask_singly(requests, self.complete, meter)
        first = requests[0]
        tools = bool(first.parameters.tools)
        found = await self.transport.ask_many(
            self._config.path,
            self._body(first, n),
            lambda raw: completions_of(raw, n, tools=tools),
            meter,
            tokens=self.transport.most_tokens(first, n),
            stream=self._stream(first, n),
        )
        if found[0].outcome is Outcome.FAILED:  # the call as a whole
            return [found[0].model_copy(update={"choice": i}) for i in range(n)]
        if self._is_llama:
            found = [without_prefill(one, first.messages) for one in found]
        if (came := len(found)) < n:
            self._capabilities = self._capabilities.model_copy(update={"choices": 1})
            found += await ask_singly(requests[came:], self.complete, meter, first=came)
        return found

    async def tokenize(self, text: str) -> list[bytes] | None:
        """Byte pieces of ``text``, ``None`` where the server cannot tell."""
        if self._is_llama:
            body = {"content": text, "with_pieces": True}
        elif self._is_vllm:
            body = vllm_server.tokenize_body(text, self.model)
        else:
            return None
        url = llama_server.root_of(self.transport.base_url) + "/tokenize"
        try:
            async with self.transport.session.post(
                url, json=body, params=self.transport.query
            ) as response:
                answer = await response.json() if response.ok else None
        except aiohttp.ClientConnectorError as error:
            raise self._unreachable(error) from None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None
        if self._is_vllm:
            return vllm_server.pieces_of(answer, text)
        return llama_server.pieces_of(answer)

    def _body(self, request: Request, n: int) -> dict[str, Any]:
        stream = can_stream(request, self._config)
        body = body_of(request, self._config, self.transport.values, n=n, stream=stream)
        return body | (vllm_server.prefill_body(request) if self._is_vllm else {})

    def _stream(self, request: Request, n: int) -> Callable[[], StreamReader] | None:
        if not can_stream(request, self._config):
            return None
        tools = bool(request.parameters.tools)
        return lambda: ChatStream(n, tools=tools)

    def _unreachable(self, error: aiohttp.ClientError) -> TeacherUnreachableError:
        return self.transport.unreachable(broken(error, self._config.timeout_s).error)

    def _stated(self, found: Capabilities) -> Capabilities:
        """What was found, with what the recipe says put over it."""
        config = self._config
        said: dict[str, Any] = {
            "seed": config.supports_seed,
            "temperature": config.supports_temperature,
            "choices": min(config.choices, found.choices),
            "structured": found.structured and config.structured != "none",
            "tools": found.tools and config.supports_tools,
        }
        if config.top_logprobs is not None:
            said["top_logprobs"] = config.top_logprobs
        if config.supports_prefill is not None:
            said["assistant_prefill"] = config.supports_prefill
        if config.context_length is not None:
            said["context_length"] = config.context_length
        return found.model_copy(update=said)

    async def _detect_llama(self) -> None:
        """Ask for llama.cpp's ``/props``; whoever does not know it is a plain OpenAI server."""
        url = llama_server.root_of(self.transport.base_url) + "/props"
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        try:
            async with self.transport.session.get(
                url, params=self.transport.query, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status in (401, 403):
                    self._is_closed = True
                props = await response.json() if response.status == 200 else None
        except aiohttp.ClientConnectorError as error:
            self._absent = self._unreachable(error)
            return
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return
        found = llama_server.capabilities_from_props(props)
        if found is not None:
            self._is_llama = True
            self._capabilities = self._stated(found)

    async def _detect_vllm(self) -> None:
        """Ask for the models, of which vLLM says that they are its own."""
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        try:
            async with self.transport.session.get(
                f"{self.transport.base_url}/models",
                params=self.transport.query,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                models = await response.json() if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return
        found = vllm_server.capabilities_from_models(models, self.model)
        if found is not None:
            self._is_vllm = True
            self._capabilities = self._stated(found)
