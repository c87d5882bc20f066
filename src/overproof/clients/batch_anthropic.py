"""Anthropic's Message Batches API.

``POST /v1/messages/batches`` with all requests in its body, ``GET`` of the batch, and of its
results as JSON lines; up to 100,000 requests or 256 MB a batch, done within 24 hours, results kept
for 29 days. https://platform.claude.com/docs/en/build-with-claude/batch-processing

Batches carry no tag of ours, and their requests cannot be read back. One whose id was lost is told
by its size and the time that it was made, and then by the custom ids in its results.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

from overproof.clients.anthropic_messages import OPENAI_PATH, PATH, anthropic_transport
from overproof.clients.anthropic_wire import body_of, completion_of
from overproof.clients.batch_http import BatchHttp, body_of_bytes
from overproof.clients.batch_protocol import (
    BatchLimits,
    BatchLine,
    BatchState,
    BatchView,
    Found,
    LostBatch,
    ResultsGone,
    Submission,
    Submitted,
    Unanswered,
    custom_id_of,
)
from overproof.clients.http_session import HttpSession
from overproof.clients.openai_wire import WireError, shown
from overproof.config.teacher import TeacherConfig
from overproof.records.exchange import Completion, Outcome, Request

__all__ = ["AnthropicBatches"]

PAGE = 100
# Clocks of two machines are not the same.
SKEW_S = 600.0
# Errors of a request that will not go away; https://platform.claude.com/docs/en/api/errors
FOR_GOOD = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
}
PASSING = {"rate_limit_error": 429, "api_error": 500, "timeout_error": 504, "overloaded_error": 529}
_EXPIRED = Unanswered("the batch expired before it came to this request", again=True)
_CANCELED = Unanswered("the batch was cancelled at the provider before it came to this request")


class AnthropicBatches:
    """A ``BatchApi`` for the Messages API.

    Args:
        config: a teacher of kind ``anthropic``.
        server: shared with nobody; opened and closed here.
    """

    limits = BatchLimits(requests=100_000, bytes=256_000_000)

    def __init__(self, config: TeacherConfig, server: HttpSession | None = None) -> None:
        self._config = config
        self._server = server or anthropic_transport(config)
        messages = PATH if config.path == OPENAI_PATH else config.path
        self._path = f"{messages}/batches"
        self._http = BatchHttp(self._server)
        self.shown = self._server.shown

    async def open(self) -> None:
        """Open the connections."""
        await self._server.open()

    async def close(self) -> None:
        """Close the connections; batches go on at the provider."""
        await self._server.close()

    def line(self, request: Request) -> bytes:
        """The request as an item of the batch."""
        params = body_of(request, self._config, self._server.values)
        item = {"custom_id": custom_id_of(request), "params": params}
        return json.dumps(item, separators=(",", ":")).encode()

    async def submit(self, tag: str, lines: Sequence[bytes]) -> Submission:  # noqa: ARG002
        """Create the batch. No field of it could hold the tag."""
        answer = await self._http.send(
            "POST",
            self._path,
            data=body_of_bytes(b'{"requests":[' + b",".join(lines) + b"]}"),
            headers={"Content-Type": "application/json"},
        )
        batch_id = answer.json.get("id") if answer.status == 200 else None
        if isinstance(batch_id, str):
            return Submission(Submitted.CREATED, id=batch_id)
        return self._http.submission(answer)

    async def look(self, batch_id: str) -> BatchView:
        """``GET`` the batch."""
        answer = await self._http.send("GET", f"{self._path}/{batch_id}")
        return self._http.view(batch_id, answer, _view)

    async def results(
        self,
        view: BatchView,
        requests: Mapping[str, Request],  # noqa: ARG002 - no answer needs its request
    ) -> AsyncGenerator[BatchLine, None]:
        """Lines of the results; lines without meaning are left out.

        Read below our own address, not at the ``results_url``: the key is for this server alone.
        """
        if not view.files:
            raise ResultsGone("the provider keeps results for 29 days")
        async for raw in self._http.lines(f"{self._path}/{view.id}/results"):
            if (line := self._read(raw, view)) is not None:
                yield line

    async def find(self, lost: LostBatch) -> Found:
        """Look among the batches made since for one of the same size and with our custom ids.

        Raises:
            BrokenDownload: the provider cannot be asked just now.
        """
        doubtful = ""
        async for batch in self._since(lost.since - SKEW_S):
            if batch is None:
                return Found(None, certain=False, why="the server lists no batches")
            view = _view(str(batch.get("id")), batch, None)
            if view.id in lost.known or view.total != len(lost.custom_ids):
                continue
            if view.state is BatchState.UNDER_WAY:
                # Its custom ids can be seen only in its results.
                why = f"batch {view.id} may be the one whose id was lost: waiting for its end"
                return Found(None, certain=False, yet=True, why=why)
            try:
                async with aclosing(self.results(view, {})) as lines:
                    async for line in lines:
                        if line.custom_id in lost.custom_ids:
                            return Found(view.id, certain=True)
                        break
            except ResultsGone as error:
                doubtful = f"batch {view.id} may be the one, but {error}"
        return Found(None, certain=not doubtful, why=doubtful)

    async def _since(self, since: float) -> AsyncGenerator[dict[str, Any] | None, None]:
        """Batches made since, newest first; ``None`` where there is no list of them."""
        query = {"limit": str(PAGE)}
        while True:
            page = await self._http.pages(self._path, query)
            if page is None:
                yield None
                return
            for batch in page["data"]:
                if not isinstance(batch, dict) or "processing_status" not in batch:
                    continue
                made = _time(batch, "created_at")
                if made is not None and made < since:
                    return
                yield batch
            if not page.get("has_more") or not page.get("last_id"):
                return
            query["after_id"] = str(page["last_id"])

    def _read(self, raw: bytes, view: BatchView) -> BatchLine | None:
        try:
            line = json.loads(raw)
            custom_id, result, kind = line["custom_id"], line["result"], line["result"]["type"]
        except (ValueError, RecursionError, KeyError, TypeError):
            return None
        if not isinstance(custom_id, str):
            return None
        if kind == "succeeded":
            return BatchLine(custom_id, self._answer(result.get("message"), view))
        if kind == "errored":
            return BatchLine(custom_id, self._error(result.get("error")))
        if kind == "canceled":
            return BatchLine(custom_id, _CANCELED)
        return BatchLine(custom_id, _EXPIRED) if kind == "expired" else None

    def _answer(self, message: Any, view: BatchView) -> Completion:
        raw = json.dumps(message)
        try:
            completion = completion_of(raw)
        except WireError as error:
            text = f"{error}; got: {shown(self._server.mask(raw))}"
            return Completion(
                outcome=Outcome.MALFORMED,
                error=text,
                status=200,
                batch=view.id,
                uncertain_attempts=1,
            )
        return completion.model_copy(
            update={"status": 200, "batch": view.id, "latency_s": view.took_s or 0.0}
        )

    def _error(self, error: Any) -> Unanswered:
        # The error stands within an error response; some results hold it bare.
        inner = error.get("error", error) if isinstance(error, dict) else {}
        inner = inner if isinstance(inner, dict) else {}
        kind = str(inner.get("type") or "error")
        message = self._server.mask(str(inner.get("message") or "no message"))
        status = FOR_GOOD.get(kind)
        return Unanswered(
            f"{kind}: {message}", status=status or PASSING.get(kind), again=status is None
        )


def _view(batch_id: str, batch: dict[str, Any], wait_s: float | None) -> BatchView:
    """The message batch object of the API as a view."""
    counts = {k: v for k, v in (batch.get("request_counts") or {}).items() if isinstance(v, int)}
    total = sum(counts.values())
    word = str(batch["processing_status"])
    has_ended = word == "ended"
    begun, ended = _time(batch, "created_at"), _time(batch, "ended_at")
    is_there = has_ended and batch.get("results_url") and not batch.get("archived_at")
    return BatchView(
        id=batch_id,
        state=BatchState.ENDED if has_ended else BatchState.UNDER_WAY,
        word=word,
        # Counts of finished requests stay at zero until the whole batch has ended.
        done=total if has_ended else None,
        total=total or None,
        files=(str(batch["results_url"]),) if is_there else (),
        took_s=max(ended - begun, 0.0) if begun is not None and ended is not None else None,
        wait_s=wait_s,
    )


def _time(batch: dict[str, Any], name: str) -> float | None:
    """An RFC 3339 time in seconds since 1970."""
    try:
        return datetime.fromisoformat(str(batch.get(name))).timestamp()
    except ValueError:
        return None
