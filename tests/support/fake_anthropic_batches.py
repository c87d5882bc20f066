"""Anthropic's Message Batches API in this process; see ``fake_batches``."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from fake_batches import FakeBatches, Fate, Item

WORDS = {"cancelled": "canceled", "expired": "expired"}
KINDS = {400: "invalid_request_error", 429: "rate_limit_error", 529: "overloaded_error"}


def when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


class FakeAnthropicBatches(FakeBatches):
    """``/v1/messages/batches``."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = time.time

    async def _route(self, request: web.Request) -> web.StreamResponse:
        if not request.headers.get("anthropic-version"):
            return self._error(400, "anthropic-version: header is required")
        parts = request.path.removeprefix("/v1/messages/").split("/")
        match (request.method, *parts):
            case ("POST", "batches"):
                requests = (await request.json())["requests"]
                if problem := self._problem(requests):
                    return self._error(400, problem)
                return self._create(request, lambda: web.json_response(self._make(requests)))
            case ("GET", "batches") if not self.refuses_lists:
                return self._list(request)
            case ("GET", "batches", batch_id) if batch_id in self.batches:
                if self._looked(batch_id):
                    self._end(batch_id)
                return web.json_response(self.batches[batch_id])
            case ("GET", "batches", batch_id, "results") if batch_id in self.batches:
                if self.batches[batch_id]["results_url"] is None:
                    return self._error(404, "no results")
                return await self._lines(request, self._results(batch_id))
        return self._error(404, f"no {request.path}")

    def _problem(self, requests: list[Item]) -> str:
        ids = [item["custom_id"] for item in requests]
        if len(set(ids)) < len(ids):
            return "requests: custom_id must be unique"
        if not requests or len(requests) > 100_000:
            return "requests: too few or too many"
        bad = [i for i in ids if not re.fullmatch("[a-zA-Z0-9_-]{1,64}", i)]
        return f"requests: custom_id {bad[0]!r} is not allowed" if bad else ""

    def _make(self, requests: list[Item]) -> Item:
        now = self.clock()
        batch_id = f"msgbatch_{next(self.tick)}"
        self.items[batch_id] = requests
        self._fate[batch_id] = self.fates.pop(0) if self.fates else Fate()
        self.accepted.update(item["custom_id"] for item in requests)
        counts = dict.fromkeys(("canceled", "errored", "expired", "processing", "succeeded"), 0)
        self.batches[batch_id] = {
            "id": batch_id,
            "type": "message_batch",
            "processing_status": "in_progress",
            "request_counts": counts | {"processing": len(requests)},
            "created_at": when(now),
            "ended_at": None,
            "expires_at": when(now + timedelta(hours=24).total_seconds()),
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": None,
        }
        return self.batches[batch_id]

    def _list(self, request: web.Request) -> web.Response:
        for batch_id in self.batches:
            if self._looked(batch_id):
                self._end(batch_id)
        newest = list(reversed(self.batches.values()))
        after = request.query.get("after_id")
        begin = next((i + 1 for i, b in enumerate(newest) if b["id"] == after), 0)
        page = newest[begin : begin + int(request.query.get("limit", "20"))]
        answer = {
            "data": page,
            "has_more": begin + len(page) < len(newest),
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
        }
        return web.json_response(answer)

    def _end(self, batch_id: str) -> None:
        batch = self.batches[batch_id]
        if batch["processing_status"] == "ended":
            return
        url = f"{self.url}/v1/messages/batches/{batch_id}/results"
        batch |= {"processing_status": "ended", "results_url": url}
        batch["ended_at"] = when(self.clock() + 60)
        counts = dict.fromkeys(batch["request_counts"], 0)
        for line in self._results(batch_id):
            counts[line["result"]["type"]] += 1
        batch["request_counts"] = counts

    def _results(self, batch_id: str) -> list[Item]:
        fate = self._fate[batch_id]
        lines = []
        for number, item in enumerate(self.items[batch_id]):
            what = fate.of(number, item["custom_id"])
            if what != "left out":
                result = self._result(what, item["params"])
                lines.append({"custom_id": item["custom_id"], "result": result})
        return lines[::-1]  # in any order

    def _result(self, what: int | str, params: Item) -> Item:
        if what == 200:
            return {"type": "succeeded", "message": self._message(params)}
        if isinstance(what, int):
            error = {"type": KINDS.get(what, "api_error"), "message": f"status {what}"}
            return {"type": "errored", "error": {"type": "error", "error": error}}
        return {"type": WORDS[what]}

    def _message(self, params: Item) -> Item:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": params["model"],
            "content": [{"type": "text", "text": self.text(params)}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 1},
        }

    def _error(
        self, status: int, message: str, headers: dict[str, str] | None = None
    ) -> web.Response:
        body: dict[str, Any] = {
            "type": "error",
            "error": {"type": KINDS.get(status, "api_error"), "message": message},
        }
        return web.json_response(body, status=status, headers=headers)
