"""A teacher behind Anthropic's Messages API, or a server that speaks it."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

from overproof.clients.anthropic_stream import MessageStream
from overproof.clients.anthropic_wire import body_of, completion_of
from overproof.clients.body_keys import ANTHROPIC_KEYS, check_body
from overproof.clients.http_teacher import HttpTransport
from overproof.clients.pacing import Now, Sleep
from overproof.clients.protocol import Capabilities, Meter
from overproof.clients.retry import RetryPolicy
from overproof.config.teacher import TeacherConfig
from overproof.errors import SecretError
from overproof.records.exchange import Completion, Outcome, Request

__all__ = ["BASE_URL", "VERSION", "AnthropicTeacher", "anthropic_transport"]

BASE_URL = "https://api.anthropic.com"
VERSION = "2023-06-01"
PATH = "/v1/messages"
# What the recipe says where it says nothing: the places of OpenAI's wire.
OPENAI_PATH = "/chat/completions"
OPENAI_KEY_HEADER = "Authorization"
KEY_HEADER = "x-api-key"


def anthropic_transport(
    config: TeacherConfig,
    *,
    policy: RetryPolicy | None = None,
    sleep: Sleep = asyncio.sleep,
    now: Now = time.monotonic,
    seed: int = 0,
) -> HttpTransport:
    """The transport to Anthropic's API: its address, its key's header, its version.

    The key goes into ``x-api-key`` and the version is ``2023-06-01`` unless the recipe says
    otherwise. Arguments and errors are those of ``HttpTransport``.
    """
    header = config.api_key_header
    stated = any(name.lower() == "anthropic-version" for name in config.headers)
    return HttpTransport(
        config,
        base_url=BASE_URL,
        key_header=KEY_HEADER if header == OPENAI_KEY_HEADER else header,
        open_headers={} if stated else {"anthropic-version": VERSION},
        policy=policy,
        sleep=sleep,
        now=now,
        seed=seed,
    )


class AnthropicTeacher:
    """Asks ``POST /v1/messages``; see ``TeacherConfig`` for what can be set.

    The API knows no seeds, no log-probs and one answer a call, and its tokenizer is not public.
    Thinking is kept apart from the answer and is not sent back in later turns, so a conversation
    with tools asks for no extended thinking.

    Args:
        config: a teacher of kind ``anthropic``.
        policy: how often and how patiently to retry; by default ``config.max_attempts`` times.
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
        sleep: Sleep = asyncio.sleep,
        now: Now = time.monotonic,
        seed: int = 0,
    ) -> None:
        check_body(config.body, ANTHROPIC_KEYS)
        self._transport = anthropic_transport(
            config, policy=policy, sleep=sleep, now=now, seed=seed
        )
        self.model = config.model
        self.name = f"{config.model}@{self._transport.host}"
        self._config = config
        self._path = PATH if config.path == OPENAI_PATH else config.path

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._transport.close()

    @property
    def capabilities(self) -> Capabilities:
        """What the API offers; prefills only where the recipe says so: new models refuse them."""
        config = self._config
        return Capabilities(
            assistant_prefill=bool(config.supports_prefill),
            temperature=config.supports_temperature,
            context_length=config.context_length,
            structured=config.structured != "none",
            tools=config.supports_tools,
        )

    async def check(self) -> str | None:
        """Why asking would be in vain: the key is refused.

        By a request that holds no message: the API looks at the key first, rejects the request as
        invalid, and bills nothing.
        """
        try:
            await self._transport.probe(self._path)
        except SecretError as error:
            return str(error)
        return None

    async def complete(self, request: Request, meter: Meter | None = None) -> Completion:
        """Answer one request, with retries.

        Raises:
            SecretError: the key was refused (401 or 403).
            BudgetError: ``meter`` has no room for an attempt.
            TeacherUnreachableError: no attempt found anybody at the address.
            TeacherError: the server asks to wait longer than is worth waiting.
        """
        try:
            body = body_of(
                request, self._config, self._transport.values, stream=self._config.stream
            )
        except ValueError as error:
            return Completion(outcome=Outcome.FAILED, error=f"it cannot be asked: {error}")
        return await self._transport.ask(
            self._path,
            body,
            completion_of,
            meter,
            tokens=self._transport.most_tokens(request),
            stream=MessageStream if self._config.stream else None,
        )

    async def tokenize(self, text: str) -> list[bytes] | None:  # noqa: ARG002
        """Its tokenizer is not public."""
        return None
