"""A teacher behind any OpenAI-compatible URL."""

from __future__ import annotations

import asyncio
import random
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from overproof.clients import llama_server, secrets
from overproof.clients.openai_rejections import advice
from overproof.clients.openai_wire import (
    WireError,
    body_of,
    completion_of,
    server_error,
    shown,
    without_prefill,
)
from overproof.clients.protocol import Capabilities, Meter
from overproof.clients.retry import (
    Attempt,
    Now,
    Pacer,
    RetryPolicy,
    Sleep,
    is_retryable,
    retry_after_s,
    with_retries,
)
from overproof.config.recipe import TeacherConfig
from overproof.errors import ConfigError, SecretError, TeacherUnreachableError
from overproof.records.exchange import Completion, Outcome, Request

__all__ = ["OpenAICompatibleTeacher"]

PROBE_TIMEOUT_S = 3.0
CONNECT_TIMEOUT_S = 20.0
LOOPBACK = ("127.", "localhost", "::1")


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
        parts = urlsplit(config.base_url or "")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("teacher.base_url", "is not an http(s) URL", "use 'https://HOST/v1'")
        for key in ("stream", "n"):
            if config.body.get(key):
                raise ConfigError(
                    f"teacher.body.{key}", "changes the shape of the answer", "leave it out"
                )
        self.model = config.model
        self.name = f"{config.model}@{parts.hostname}"
        self.base_url = (config.base_url or "").rstrip("/")
        # What errors show: without user, password and query.
        where = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
        self._shown = f"{parts.scheme}://{where}{parts.path.rstrip('/')}"
        self._config = config
        self._policy = policy or RetryPolicy(max_attempts=config.max_attempts)
        self._values = secrets.redaction_of(config)
        self._secrets = secrets.Mask(self._values | (headers or {}))
        self._headers = secrets.resolved(config.headers) | (headers or {})
        self._query = secrets.resolved(config.query)
        if (secret := secrets.key_of(config)) is not None:
            bearer = config.api_key_header.lower() == "authorization"
            self._headers[config.api_key_header] = f"Bearer {secret}" if bearer else secret
        self._sleep, self._now = sleep, now
        self._rng = random.Random(seed)
        self._slots = asyncio.Semaphore(config.concurrency)
        self._pacer = Pacer(config.requests_per_minute, sleep=sleep, now=now)
        self._loopback = parts.hostname.startswith(LOOPBACK)
        self._session: aiohttp.ClientSession | None = None
        self._is_llama = False
        self._absent: TeacherUnreachableError | None = None
        self._is_closed = False
        self._capabilities = self._stated(Capabilities())

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(
            total=self._config.timeout_s,
            sock_connect=min(CONNECT_TIMEOUT_S, self._config.timeout_s),
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the semaphore is the limit
            timeout=timeout,
            headers=self._headers,
            # A proxy set in the environment is for the world outside, not for this machine.
            trust_env=not self._loopback,
        )
        await self._detect_llama()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def capabilities(self) -> Capabilities:
        """What the recipe says of this teacher; more where it turns out to be llama.cpp."""
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
            await self._post({})
        except SecretError as error:
            return str(error)
        return None

    async def complete(self, request: Request, meter: Meter | None = None) -> Completion:  # noqa: ARG002
        """Answer one request, with retries; a retry waits without holding a slot.

        Raises:
            SecretError: the key was refused (401 or 403).
            TeacherUnreachableError: no attempt found anybody at the address.
        """
        body = body_of(request, self._config, self._values)
        completion, nobody_answered = await with_retries(
            lambda: self._attempt(body),
            self._policy,
            rng=self._rng,
            pacer=self._pacer,
            sleep=self._sleep,
        )
        if nobody_answered:
            raise self._unreachable(completion.error or "no reason is known")
        if self._is_llama:
            completion = without_prefill(completion, request.messages)
        return completion

    async def tokenize(self, text: str) -> list[bytes] | None:
        """Byte pieces of ``text``, ``None`` where the server cannot tell."""
        if not self._is_llama:
            return None
        url = llama_server.root_of(self.base_url) + "/tokenize"
        body = {"content": text, "with_pieces": True}
        try:
            async with self._open.post(url, json=body, params=self._query) as response:
                return llama_server.pieces_of(await response.json()) if response.ok else None
        except aiohttp.ClientConnectorError as error:
            raise self._unreachable(_cause(error)) from None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("use the teacher inside `async with`")
        return self._session

    def _stated(self, found: Capabilities) -> Capabilities:
        """What was found, with what the recipe says put over it."""
        config = self._config
        said: dict[str, Any] = {
            "seed": config.supports_seed,
            "temperature": config.supports_temperature,
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
        url = llama_server.root_of(self.base_url) + "/props"
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        try:
            async with self._open.get(
                url, params=self._query, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status in (401, 403):
                    self._is_closed = True
                props = await response.json() if response.status == 200 else None
        except aiohttp.ClientConnectorError as error:
            self._absent = self._unreachable(_cause(error))
            return
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return
        found = llama_server.capabilities_from_props(props)
        if found is not None:
            self._is_llama = True
            self._capabilities = self._stated(found)

    async def _attempt(self, body: dict[str, Any]) -> Attempt:
        await self._pacer.turn()
        while True:
            async with self._slots:
                # Looked at inside the slot: the server may have asked for a pause meanwhile.
                held_s = self._pacer.held_s
                if not held_s:
                    return await self._post(body)
            await self._sleep(held_s)

    async def _post(self, body: dict[str, Any]) -> Attempt:
        started = self._now()
        try:
            async with self._open.post(
                self.base_url + self._config.path,
                json=body,
                params=self._query,
                allow_redirects=False,
            ) as response:
                raw = (await response.read()).decode("utf-8", "replace")
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return self._failed(_cause(error), retry=True, unreachable=True)
        except TimeoutError:
            return self._failed(f"no answer within {self._config.timeout_s:g} s", retry=True)
        except (aiohttp.ClientError, OSError) as error:
            return self._failed(f"the connection broke: {error!r}", retry=True)
        latency_s = self._now() - started
        if response.status != 200:
            return self._rejected(response.status, raw, retry_after_s(response.headers))
        return self._read(raw, latency_s, retry_after_s(response.headers))

    def _read(self, raw: str, latency_s: float, wait_s: float | None) -> Attempt:
        try:
            completion = completion_of(raw)
        except WireError as error:
            _, status = server_error(raw)
            if error.is_json and status is not None:
                # A gateway's 200 around somebody else's error.
                return self._rejected(status, raw, wait_s)
            text = f"{error}; got: {shown(self._mask(raw))}"
            return self._failed(text, Outcome.MALFORMED, status=200, retry=not error.is_json)
        return Attempt(completion.model_copy(update={"latency_s": latency_s, "status": 200}))

    def _rejected(self, status: int, raw: str, wait_s: float | None) -> Attempt:
        message, _ = server_error(self._mask(raw))
        if status in (401, 403):
            variable = self._config.api_key_env
            raise SecretError(
                f"environment variable {variable}" if variable else self._shown,
                f"the server refuses the key ({status}): {message}"
                if variable
                else f"the server wants a key ({status}): {message}",
                "check that the key is current and may use this model"
                if variable
                else "name its environment variable in teacher.api_key_env",
            )
        way_out = advice(status, message, self._config.max_tokens_field)
        text = f"HTTP {status}: {message}" + (f"; {way_out}" if way_out else "")
        return self._failed(text, status=status, retry=is_retryable(status), wait_s=wait_s)

    def _unreachable(self, cause: str) -> TeacherUnreachableError:
        return TeacherUnreachableError(
            self._shown,
            f"nobody answers ({self._mask(cause)})",
            "check teacher.base_url, the network, and that the server runs",
        )

    def _failed(
        self,
        error: str,
        outcome: Outcome = Outcome.FAILED,
        *,
        status: int | None = None,
        retry: bool = False,
        wait_s: float | None = None,
        unreachable: bool = False,
    ) -> Attempt:
        completion = Completion(outcome=outcome, status=status, error=self._mask(error))
        return Attempt(completion, retry=retry, wait_s=wait_s, unreachable=unreachable)

    def _mask(self, text: str) -> str:
        return self._secrets.text(text)


def _cause(error: Exception) -> str:
    """What the system says, without the address as aiohttp words it: a query may hold a key."""
    return str(getattr(error, "os_error", None) or error)
