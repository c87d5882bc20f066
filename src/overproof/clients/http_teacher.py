"""The HTTP side of a teacher, shared by every wire: secrets, pace, places, retries, money.

A client says what to send and how to read what comes back::

    transport = HttpTransport(config)
    await transport.open()
    completion = await transport.ask("/chat/completions", body, completion_of, meter)

With ``stream`` the answer is read as it is written: a ``StreamReader`` takes the bytes and says
whether a part of the answer came; ``config.stall_s`` seconds without one is a failure like a
timeout, and retried like one.
"""

from __future__ import annotations

import asyncio
import json as jsonlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from overproof.clients.http_answers import (
    Broken,
    Read,
    ReadMany,
    Reply,
    StreamError,
    StreamReader,
    broken,
    read_streamed,
)
from overproof.clients.http_session import CONNECT_TIMEOUT_S, HttpSession
from overproof.clients.openai_wire import WireError, server_error, shown
from overproof.clients.pacing import Limiter, Now, Pacer, Sleep, TokenEntry
from overproof.clients.protocol import Meter
from overproof.clients.retry import (
    Attempt,
    RetryPolicy,
    retry_after_s,
    with_retries,
)
from overproof.clients.worst_case import worst_usage
from overproof.config.teacher import TeacherConfig
from overproof.errors import TeacherError
from overproof.records.exchange import Completion, Outcome, Request

__all__ = ["HttpTransport", "Read", "ReadMany", "Reply", "StreamError", "StreamReader"]

JSON = {"Content-Type": "application/json"}
_encode = jsonlib.JSONEncoder(separators=(",", ":")).encode
# Whether a request that must not be done twice was certainly not done once.
NOT_DONE = frozenset({408, 409, 425, 429, 503, 529})
# ``OSError`` holds ``TimeoutError``.
BROKEN = (aiohttp.ClientError, OSError)
GIVEN_UP = Completion(
    outcome=Outcome.FAILED, error="given up before the answer came", uncertain_attempts=1
)


@dataclass(frozen=True, slots=True)
class Call:
    """What every attempt of one question sends and how its answer is read."""

    url: str
    data: bytes
    read: ReadMany
    meter: Meter | None
    tokens: int
    stream: Callable[[], StreamReader] | None


class HttpTransport(HttpSession):
    """Sends requests to one server; see ``TeacherConfig`` for what can be set.

    Args:
        config: a teacher of a kind that is asked over HTTP.
        base_url: where ``config.base_url`` says nothing.
        key_header: header that carries the API key, by default ``config.api_key_header``. In
            ``Authorization`` it is a bearer token, elsewhere it stands alone.
        headers: sent with every request besides the recipe's, and kept as secret.
        open_headers: sent with every request besides the recipe's, no secrets.
        policy: how often and how patiently to retry; by default ``config.max_attempts`` times.
        sleep: awaited instead of ``asyncio.sleep``.
        now: clock in seconds for pacing and latency.
        seed: of the jitter between retries.

    Raises:
        ConfigError: a base URL that cannot work.
        SecretError: an environment variable that the recipe names is missing.
    """

    def __init__(
        self,
        config: TeacherConfig,
        *,
        base_url: str | None = None,
        key_header: str | None = None,
        headers: Mapping[str, str] | None = None,
        open_headers: Mapping[str, str] | None = None,
        policy: RetryPolicy | None = None,
        sleep: Sleep = asyncio.sleep,
        now: Now = time.monotonic,
        seed: int = 0,
    ) -> None:
        super().__init__(
            config,
            base_url=base_url,
            key_header=key_header,
            headers=headers,
            open_headers=open_headers,
        )
        self._policy = policy or RetryPolicy(max_attempts=config.max_attempts)
        self._sleep, self._now = sleep, now
        self._rng = random.Random(seed)
        adaptive = config.pacing == "adaptive"
        self.limiter = Limiter(config.concurrency, adaptive=adaptive, now=now)
        self.pacer = Pacer(
            config.requests_per_minute, config.tokens_per_minute, sleep=sleep, now=now
        )

    async def ask(
        self,
        path: str,
        body: Mapping[str, Any],
        read: Read,
        meter: Meter | None = None,
        *,
        tokens: int = 0,
        stream: Callable[[], StreamReader] | None = None,
    ) -> Completion:
        """Ask for one answer; see ``ask_many``."""
        completions = await self.ask_many(
            path, body, lambda raw: (read(raw),), meter, tokens=tokens, stream=stream
        )
        return completions[0]

    async def ask_many(
        self,
        path: str,
        body: Mapping[str, Any],
        read: ReadMany,
        meter: Meter | None = None,
        *,
        tokens: int = 0,
        stream: Callable[[], StreamReader] | None = None,
    ) -> list[Completion]:
        """Ask until an answer comes, cannot come, or was tried for often enough.

        A retry waits without holding a place. Latency and status are filled in here.

        Args:
            path: appended to the base URL.
            body: JSON.
            read: reads the body of a 200 response.
            meter: told of every attempt.
            tokens: the most tokens that it can take, for the cap on tokens a minute; see
                ``most_tokens``.
            stream: makes the reader of a streamed answer; ``read`` is not used then, unless the
                server answers with JSON all the same.

        Returns:
            The choices of the call; one ``FAILED`` or ``MALFORMED`` completion where there are
            none.

        Raises:
            SecretError: the key was refused (401 or 403).
            BudgetError: ``meter`` has no room for an attempt.
            TeacherUnreachableError: no attempt found anybody at the address.
            TeacherError: the server asks to wait longer than is worth waiting.
        """
        data = _encode(body).encode()
        call = Call(self.url_of(path), data, read, meter, tokens, stream)
        completions, nobody_answered = await with_retries(
            lambda: self._attempt(call),
            self._policy,
            rng=self._rng,
            pacer=self.pacer,
            sleep=lambda seconds: self._rest(seconds, meter),
        )
        if nobody_answered:
            raise self.unreachable(completions[0].error or "no reason is known")
        return completions

    async def _rest(self, seconds: float, meter: Meter | None) -> None:
        """Wait before the next attempt, in nobody's way."""
        if meter is not None:
            meter.pause()
        await self._sleep(seconds)
        if meter is not None:
            await meter.resume()

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: Callable[[], Any] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        once: bool = False,
    ) -> Reply:
        """Send something that is no question to the model: a file, a batch, a look at one.

        Retried like a question, without a place, a turn or a meter. The time limit is between two
        reads, for a file may be large.

        Args:
            method: such as ``GET``.
            path: appended to the base URL; a whole URL must be of the same origin.
            json: a body of JSON.
            data: a body of bytes, or what makes one (a form cannot be sent twice).
            headers: besides the usual ones.
            once: whether doing it twice does harm. Then it is sent again only where the server
                certainly did not do it.

        Returns:
            The last reply, whatever its status except for 401 and 403.

        Raises:
            SecretError: the key was refused (401 or 403).
            TeacherUnreachableError: no attempt found anybody at the address.
            TeacherError: the connection broke each time, or the server asks to wait for too long.
        """
        url = self.url_of(path)
        replies: list[Reply] = []

        async def attempt() -> Attempt:
            await self._while_held()
            try:
                reply = await self._send(method, url, json, data, headers)
            except BROKEN as error:
                result = self._broken(broken(error, self._config.timeout_s))
                again = not once or result.unreachable
                return result if again else Attempt(result.completion)
            replies.append(reply)
            if reply.status < 400:
                return Attempt(Completion(outcome=Outcome.ANSWERED, status=reply.status))
            raw = reply.body.decode("utf-8", "replace")
            result = self.rejected(reply.status, raw, retry_after_s(reply.headers))
            if once and reply.status not in NOT_DONE:
                return Attempt(result.completion, fatal=result.fatal)
            return result

        completions, nobody_answered = await with_retries(
            attempt, self._policy, rng=self._rng, pacer=self.pacer, sleep=self._sleep
        )
        said = completions[0].error or "no reason is known"
        if nobody_answered:
            raise self.unreachable(said)
        if completions[0].status is None or not replies:
            raise TeacherError(self.shown, said, "run the same command again: nothing is lost")
        return replies[-1]

    async def probe(self, path: str) -> None:
        """Send one empty question, without retries; whatever is answered is forgotten.

        Raises:
            SecretError: the key was refused (401 or 403).
        """
        attempt = await self._post(Call(self.url_of(path), b"{}", _unread, None, 0, None))
        if attempt.fatal is not None:
            raise attempt.fatal

    def most_tokens(self, request: Request, choices: int = 1) -> int:
        """The most tokens that a request can take; 0 where no cap asks for it."""
        if self._config.tokens_per_minute is None:
            return 0
        worst = worst_usage(request, choices)
        return worst.input_tokens + worst.output_tokens

    async def _attempt(self, call: Call) -> Attempt:
        """One attempt: paid for beforehand, in a place, in its turn."""
        meter = call.meter
        if meter is not None:
            await meter.before()  # without a place: who has one must never wait for money
        sent = False
        try:
            while True:
                async with self.limiter:
                    pacer = self.pacer
                    entry = None if pacer.is_free else await pacer.turn(call.tokens)
                    # Looked at inside the place: the server may have asked for a pause meanwhile.
                    if not self.pacer.held_s:
                        started, sent = self._now(), True
                        attempt = await self._post(call)
                        break
                self.pacer.settle(entry, 0)
                await self._while_held()
        except BaseException:
            if meter is not None:
                meter.after(GIVEN_UP, reached=sent)
            raise
        if meter is not None:
            meter.after(attempt.completion, reached=not attempt.unreachable)
        self._heed(attempt, started, entry)
        return attempt

    def _heed(self, attempt: Attempt, started: float, entry: TokenEntry | None) -> None:
        """Let an attempt decide how the next ones are paced."""
        if attempt.overloaded:
            self.limiter.overloaded(started)
        elif not attempt.retry:
            self.limiter.succeeded()
        if entry is None:
            return
        usage = attempt.completion.usage
        if usage is not None:
            self.pacer.settle(entry, usage.input_tokens + usage.output_tokens)
        elif not attempt.completion.uncertain_attempts:
            self.pacer.settle(entry, 0)

    async def _while_held(self) -> None:
        while held_s := self.pacer.held_s:
            await self._sleep(held_s)

    async def _post(self, call: Call) -> Attempt:
        started = self._now()
        raw: str | None = None
        try:
            async with self.session.post(
                call.url, data=call.data, headers=JSON, params=self.query, allow_redirects=False
            ) as response:
                if call.stream is None or response.status != 200 or "json" in response.content_type:
                    raw = (await response.read()).decode("utf-8", "replace")
                else:
                    completions = await read_streamed(
                        response.content, call.stream(), self._config.stall_s
                    )
            if raw is not None:
                if response.status != 200:
                    return self.rejected(response.status, raw, retry_after_s(response.headers))
                completions = call.read(raw)
            self._was_answered = True
        except WireError as error:
            return self._unreadable(error, raw, retry_after_s(response.headers))
        except StreamError as error:
            attempt = self.rejected(error.status, error.raw, retry_after_s(response.headers))
            # The stream had begun: whatever the status says, something may have been generated.
            begun = attempt.completion.model_copy(update={"uncertain_attempts": 1})
            return replace(attempt, completion=begun)
        except BROKEN as error:
            return self._broken(broken(error, self._config.timeout_s))
        seen = {"latency_s": self._now() - started, "status": 200}
        first, *more = [one.model_copy(update=seen) for one in completions]
        return Attempt(first, more)

    async def _send(
        self,
        method: str,
        url: str,
        json: Any,
        data: Callable[[], Any] | bytes | None,
        headers: Mapping[str, str] | None,
    ) -> Reply:
        limit = self._config.timeout_s
        timeout = aiohttp.ClientTimeout(sock_connect=min(CONNECT_TIMEOUT_S, limit), sock_read=limit)
        async with self.session.request(
            method,
            url,
            json=json,
            data=data() if callable(data) else data,
            headers=headers,
            params=self.query,
            timeout=timeout,
            allow_redirects=False,
        ) as response:
            body = await response.read()
        lowered = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status, lowered, body)

    def _unreadable(self, error: WireError, raw: str | None, wait_s: float | None) -> Attempt:
        """A body of status 200 that is no answer. Something was generated, and nobody counted."""
        if raw is not None and error.is_json:
            _, status = server_error(raw)
            if status is not None:  # a gateway's 200 around somebody else's error
                return self.rejected(status, raw, wait_s)
        got = "" if raw is None else f"; got: {shown(self.mask(raw))}"
        said = self.mask(f"{error}{got}")
        # What is garbled or cut is retried here, and came to no answer where that does not help.
        outcome = Outcome.MALFORMED if error.is_json else Outcome.FAILED
        completion = Completion(outcome=outcome, status=200, error=said, uncertain_attempts=1)
        return Attempt(completion, retry=not error.is_json)

    def _broken(self, found: Broken) -> Attempt:
        completion = Completion(
            outcome=Outcome.FAILED,
            error=self.mask(found.error),
            uncertain_attempts=int(not found.unreachable),
        )
        return Attempt(
            completion, retry=True, unreachable=found.unreachable, overloaded=found.timed_out
        )


def _unread(raw: str) -> list[Completion]:  # noqa: ARG001
    return [Completion(outcome=Outcome.ANSWERED)]
