"""OpenAI's Batch API, and servers that offer the same: a file of requests in, two files out.

``POST /files`` (purpose ``batch``), ``POST /batches``, ``GET /batches/{id}``, and
``GET /files/{id}/content`` of the output and the error file; up to 50,000 requests or 200 MB a
batch, done within 24 hours. https://platform.openai.com/docs/guides/batch
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import aiohttp

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
from overproof.clients.openai_rejections import advice
from overproof.clients.openai_wire import WireError, body_of, completion_of, server_error, shown
from overproof.clients.retry import is_retryable
from overproof.config.teacher import TeacherConfig
from overproof.records.exchange import Completion, Outcome, Request

__all__ = ["OpenAIBatches"]

TAG = "overproof"
PAGE = 100
# Clocks of two machines are not the same.
SKEW_S = 3600.0
# Codes of a batch that was refused for want of room, not for what it holds.
QUEUE_FULL = frozenset({"token_limit_exceeded", "request_limit_exceeded"})
# What the error file says of requests that another batch may answer.
AGAIN = frozenset({"batch_expired", "request_timeout", "server_error", "rate_limit_exceeded"})
_ENDED = {
    "completed": Unanswered("the batch's results leave it out", again=True, uncertain=True),
    "expired": Unanswered("the batch expired before it came to this request", again=True),
    "cancelled": Unanswered(
        "the batch was cancelled at the provider before it came to this request"
    ),
}


class OpenAIBatches:
    """A ``BatchApi`` at an OpenAI-compatible URL.

    Args:
        config: a teacher of kind ``openai``.
        server: shared with nobody; opened and closed here.
    """

    limits = BatchLimits(requests=50_000, bytes=200_000_000)

    def __init__(self, config: TeacherConfig, server: HttpSession | None = None) -> None:
        self._config = config
        self._server = server or HttpSession(config)
        self._http = BatchHttp(self._server)
        self.shown = self._server.shown

    async def open(self) -> None:
        """Open the connections."""
        await self._server.open()

    async def close(self) -> None:
        """Close the connections; batches go on at the provider."""
        await self._server.close()

    def line(self, request: Request) -> bytes:
        """The request as a line of the input file."""
        line = {
            "custom_id": custom_id_of(request),
            "method": "POST",
            "url": self._endpoint,
            "body": body_of(request, self._config, self._server.values),
        }
        return json.dumps(line, separators=(",", ":")).encode()

    async def submit(self, tag: str, lines: Sequence[bytes]) -> Submission:
        """Upload the input file and create the batch."""
        data = b"\n".join(lines) + b"\n"

        def form() -> aiohttp.FormData:
            fields = aiohttp.FormData()
            fields.add_field("purpose", "batch")
            fields.add_field(
                "file",
                io.BytesIO(data),
                filename=f"{TAG}-{tag}.jsonl",
                content_type="application/jsonl",
            )
            return fields

        answer = await self._http.send("POST", "/files", data=form)
        file_id = answer.json.get("id") if answer.status == 200 else None
        if not isinstance(file_id, str):
            submission = self._http.submission(answer)
            # A file too many does nothing: it costs nothing and is deleted after a while.
            again = submission.outcome is Submitted.UNKNOWN
            return replace(submission, outcome=Submitted.NOT_NOW) if again else submission
        return await self._create(tag, file_id)

    async def look(self, batch_id: str) -> BatchView:
        """``GET /batches/{id}``."""
        answer = await self._http.send("GET", f"/batches/{batch_id}")
        return self._http.view(batch_id, answer, _view)

    async def results(
        self, view: BatchView, requests: Mapping[str, Request]
    ) -> AsyncGenerator[BatchLine, None]:
        """Lines of the output file, then of the error file. Lines without meaning are left out."""
        gone: ResultsGone | None = None
        for file_id in view.files:
            try:
                async for raw in self._http.lines(f"/files/{file_id}/content"):
                    if (line := self._read(raw, view, requests)) is not None:
                        yield line
            except ResultsGone as error:  # deleted by somebody, or after 30 days
                gone = error
        if gone is not None:
            raise gone

    async def find(self, lost: LostBatch) -> Found:
        """Look for the tag in the metadata of the batches made since, newest first."""
        query = {"limit": str(PAGE)}
        while True:
            page = await self._http.pages("/batches", query)
            if page is None:
                return Found(None, certain=False, why="the server lists no batches")
            batches = [b for b in page["data"] if isinstance(b, dict)]
            for batch in batches:
                if (batch.get("metadata") or {}).get(TAG) == lost.tag:
                    return Found(str(batch["id"]), certain=True)
            is_older = any(_number(b, "created_at") < lost.since - SKEW_S for b in batches)
            if not batches or not page.get("has_more") or is_older:
                return Found(None, certain=True)
            query["after"] = str(batches[-1]["id"])

    @property
    def _endpoint(self) -> str:
        """Batches name endpoints from ``/v1`` on, wherever the server is mounted."""
        return "/v1" + self._config.path

    async def _create(self, tag: str, file_id: str) -> Submission:
        body = {
            "input_file_id": file_id,
            "endpoint": self._endpoint,
            "completion_window": "24h",
            "metadata": {TAG: tag},
        }
        answer = await self._http.send(
            "POST",
            "/batches",
            data=body_of_bytes(json.dumps(body).encode()),
            headers={"Content-Type": "application/json"},
        )
        batch_id = answer.json.get("id") if answer.status == 200 else None
        if isinstance(batch_id, str):
            return Submission(Submitted.CREATED, id=batch_id)
        return self._http.submission(answer)

    def _read(
        self, raw: bytes, view: BatchView, requests: Mapping[str, Request]
    ) -> BatchLine | None:
        try:
            line = json.loads(raw)
            custom_id, response, error = line["custom_id"], line.get("response"), line.get("error")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return None
        if not isinstance(custom_id, str):
            return None
        if isinstance(response, dict):
            request = requests.get(custom_id)
            tools = request is not None and bool(request.parameters.tools)
            return BatchLine(custom_id, self._answer(response, view, tools))
        said = error if isinstance(error, dict) else {}
        return BatchLine(custom_id, self._unanswered(said))

    def _answer(
        self, response: dict[str, Any], view: BatchView, tools: bool
    ) -> Completion | Unanswered:
        """What a line with a response says: a chat completion, or an HTTP error."""
        status = response.get("status_code")
        raw = json.dumps(response.get("body"))
        status = status if isinstance(status, int) else 200
        if status == 200:
            try:
                completion = completion_of(raw, tools=tools)
            except WireError as error:
                text = f"{error}; got: {shown(self._server.mask(raw))}"
                return Completion(
                    outcome=Outcome.MALFORMED, error=text, status=200, batch=view.id,
                    uncertain_attempts=1,
                )  # fmt: skip
            return completion.model_copy(
                update={"status": 200, "batch": view.id, "latency_s": view.took_s or 0.0}
            )
        message, _ = server_error(self._server.mask(raw))
        way_out = advice(status, message, self._config.max_tokens_field)
        text = f"HTTP {status}: {message}" + (f"; {way_out}" if way_out else "")
        return Unanswered(text, status=status, again=is_retryable(status))

    def _unanswered(self, error: dict[str, Any]) -> Unanswered:
        code = str(error.get("code") or "no code")
        message = self._server.mask(str(error.get("message") or "no message"))
        if code == "batch_expired":
            return _ENDED["expired"]
        if code == "batch_cancelled":
            return _ENDED["cancelled"]
        return Unanswered(f"{code}: {message}", again=code in AGAIN)


def _view(batch_id: str, batch: dict[str, Any], wait_s: float | None) -> BatchView:
    """The batch object of the API as a view."""
    word = str(batch["status"]).lower()
    counts = batch.get("request_counts") or {}
    total = counts.get("total")
    finished = int(counts.get("completed") or 0) + int(counts.get("failed") or 0)
    state = BatchState.UNDER_WAY
    if word in _ENDED:
        state = BatchState.ENDED
    elif word == "failed":
        state = BatchState.FAILED
    errors = [e for e in ((batch.get("errors") or {}).get("data") or []) if isinstance(e, dict)]
    ended = max(_number(batch, f"{name}_at") for name in ("completed", "expired", "cancelled"))
    return BatchView(
        id=batch_id,
        state=state,
        word=word,
        done=finished if total else None,
        total=total or None,
        files=tuple(f for f in (batch.get("output_file_id"), batch.get("error_file_id")) if f),
        rest=_ENDED.get(word, _ENDED["completed"]),
        why="; ".join(dict.fromkeys(f"{e.get('code')}: {e.get('message')}" for e in errors))
        or "the provider gives no reason",
        # Lines are counted from 1.
        bad_lines={
            e["line"] - 1: f"{e.get('code')}: {e.get('message')}"
            for e in errors
            if isinstance(e.get("line"), int)
        },
        queue_full=any(e.get("code") in QUEUE_FULL for e in errors),
        took_s=max(ended - _number(batch, "created_at"), 0.0) if ended else None,
        wait_s=wait_s,
    )


def _number(batch: dict[str, Any], name: str) -> float:
    value = batch.get(name)
    return float(value) if isinstance(value, int | float) else 0.0
