"""Single HTTP attempts for batch APIs: what came back, or whether anything may have arrived.

A batch must not be created twice, so every attempt reports by itself, and whoever created decides
what to do about one whose answer never came.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from overproof.clients.batch_protocol import (
    BatchState,
    BatchView,
    BrokenDownload,
    ResultsGone,
    Submission,
    Submitted,
)
from overproof.clients.http_answers import broken
from overproof.clients.http_session import CONNECT_TIMEOUT_S, HttpSession
from overproof.clients.http_teacher import NOT_DONE
from overproof.clients.openai_wire import server_error
from overproof.clients.retry import is_retryable, retry_after_s
from overproof.errors import TeacherError

__all__ = ["Answer", "BatchHttp", "body_of_bytes"]

# Between two reads, not for a whole transfer: a file of 200 MB takes its time.
READ_TIMEOUT_S = 120.0
TOO_LARGE = 413


@dataclass(frozen=True)
class Answer:
    """One attempt. ``status`` is ``None`` where no answer came, and ``why`` says why.

    ``sent`` is false where the request certainly did not reach the server.
    """

    status: int | None
    body: bytes = b""
    wait_s: float | None = None
    sent: bool = True
    why: str = ""

    @property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one where it is something else."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


class BatchHttp:
    """Sends single requests as a teacher does: with its key, headers, query and masking."""

    def __init__(self, server: HttpSession) -> None:
        self.server = server
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S
        )

    async def send(
        self,
        method: str,
        path: str,
        *,
        data: Callable[[], Any] | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        """Try once.

        Args:
            method: such as ``GET``.
            path: appended to the base URL.
            data: makes the body.
            headers: besides the usual ones.
            query: besides the recipe's.

        Raises:
            SecretError: the key was refused (401 or 403).
        """
        try:
            async with self.server.session.request(
                method,
                self.server.base_url + path,
                data=data() if data else None,
                headers=headers,
                params={**self.server.query, **(query or {})},
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            said = broken(error, READ_TIMEOUT_S)
            return Answer(None, sent=not said.unreachable, why=self.server.mask(said.error))
        answer = Answer(
            response.status, body, retry_after_s(response.headers), why=self._said(response, body)
        )
        if answer.status in (401, 403):
            fatal = self.server.rejected(answer.status, body.decode("utf-8", "replace")).fatal
            if fatal is not None:
                raise fatal
        return answer

    async def lines(self, path: str) -> AsyncGenerator[bytes, None]:
        """The lines of a file, read as they come.

        Raises:
            BrokenDownload: it could not be read to its end.
            ResultsGone: the server does not have it any more.
            SecretError: the key was refused.
            TeacherError: the server refuses for good.
        """
        try:
            async with self.server.session.get(
                self.server.base_url + path,
                params=self.server.query,
                timeout=self._timeout,
                allow_redirects=False,  # the key is for this server alone
            ) as response:
                if response.status != 200:
                    self._refuse(response, await response.read())
                rest = b""
                async for chunk in response.content.iter_any():
                    *whole, rest = (rest + chunk).split(b"\n")
                    for line in whole:
                        yield line
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            said = broken(error, READ_TIMEOUT_S)
            raise BrokenDownload(self.server.mask(said.error)) from None
        yield rest

    def submission(self, answer: Answer) -> Submission:
        """What an attempt to create something came to, short of having created it.

        Raises:
            TeacherError: the server rejects it for good.
        """
        if not answer.sent:
            why = f"nobody answers ({answer.why})"
            return Submission(Submitted.NOT_NOW, why=why, reached=False)
        if answer.status is None or (answer.status >= 500 and answer.status not in NOT_DONE):
            return Submission(Submitted.UNKNOWN, wait_s=answer.wait_s, why=answer.why)
        if answer.status in NOT_DONE:
            return Submission(Submitted.NOT_NOW, wait_s=answer.wait_s, why=answer.why)
        if answer.status == TOO_LARGE:
            return Submission(Submitted.TOO_LARGE, why=answer.why)
        if answer.status < 300:
            why = "the answer to the new batch cannot be read"
            return Submission(Submitted.UNKNOWN, why=why)
        raise TeacherError(
            self.server.shown,
            f"the batch is rejected: {answer.why}",
            "mend the cause, or take batch = true out of [teacher]; every answer so far is kept",
        )

    def view(
        self,
        batch_id: str,
        answer: Answer,
        read: Callable[[str, dict[str, Any], float | None], BatchView],
    ) -> BatchView:
        """The view of a batch that an answer shows.

        Raises:
            TeacherError: the server rejects the question for good.
        """
        if answer.status == 200:
            try:
                return read(batch_id, answer.json, answer.wait_s)
            except (KeyError, TypeError, ValueError, AttributeError):
                return BatchView(batch_id, BatchState.UNREADABLE, why="no JSON of a batch")
        return self._unreadable(batch_id, answer)

    def _unreadable(self, batch_id: str, answer: Answer) -> BatchView:
        if answer.status == 404:
            return BatchView(batch_id, BatchState.GONE, why=answer.why)
        passing = answer.status is None or is_retryable(answer.status)
        if not passing:
            raise TeacherError(
                self.server.shown,
                f"batch {batch_id} cannot be looked at: {answer.why}",
                "mend the cause and run the same command again: the batch goes on meanwhile",
            )
        return BatchView(batch_id, BatchState.UNREADABLE, why=answer.why, wait_s=answer.wait_s)

    async def pages(self, path: str, query: Mapping[str, str]) -> dict[str, Any] | None:
        """One page of a list, ``None`` where the server offers no such list.

        Raises:
            BrokenDownload: it cannot be had just now.
        """
        answer = await self.send("GET", path, query=query)
        if answer.status == 200 and isinstance(answer.json.get("data"), list):
            return answer.json
        if answer.status is None or is_retryable(answer.status):
            raise BrokenDownload(answer.why)
        return None

    def _said(self, response: aiohttp.ClientResponse, body: bytes) -> str:
        if response.status < 300:
            return ""
        message, _ = server_error(self.server.mask(body.decode("utf-8", "replace")))
        return f"HTTP {response.status}: {message}"

    def _refuse(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        why = self._said(response, body)
        raw = body.decode("utf-8", "replace")
        if response.status in (404, 410):
            raise ResultsGone(why)
        attempt = self.server.rejected(response.status, raw)
        if attempt.fatal is not None:
            raise attempt.fatal
        if attempt.retry:
            raise BrokenDownload(why)
        raise TeacherError(
            self.server.shown,
            f"the results of a batch cannot be read: {why}",
            "mend the cause and run the same command again: the results are kept for a while",
        )


def body_of_bytes(data: bytes) -> Callable[[], io.BytesIO]:
    """Makes the body of a request anew each time: one cannot be sent twice."""
    return lambda: io.BytesIO(data)
