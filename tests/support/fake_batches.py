"""Batch APIs of two providers in this process, on loopback, that behave as they are told.

Both validate what they are sent as the real ones do, and answer in their JSON. What becomes of a
batch is its ``Fate``; how many looks it takes is ``looks``.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Item = dict[str, Any]


@dataclass
class Fate:
    """What becomes of a batch.

    ``word`` is the state it ends in (OpenAI's words). ``results`` maps custom ids to what becomes
    of single requests: an HTTP status for an error, or ``expired``, ``cancelled`` or ``left out``;
    others are answered. ``only`` answers so many and leaves the others as ``word`` says.
    ``errors`` are those of a batch that never ran.
    """

    word: str = "completed"
    results: dict[str, int | str] = field(default_factory=dict)
    only: int | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)

    def of(self, number: int, custom_id: str) -> int | str:
        if self.only is not None and number >= self.only:
            return self.word
        return self.results.get(custom_id, 200)


class FakeBatches:
    """What the two fakes share.

    Attributes:
        creates: how the next creations go: ``lost`` (created, the connection is dropped before the
            answer), ``dropped`` (not created, dropped), or a status with headers.
        looks: looks at a batch until it has ended; ``hold`` keeps all under way.
        accepted: how often each custom id was taken into a batch that ran.
    """

    def __init__(self) -> None:
        self.creates: list[str | tuple[int, dict[str, str]]] = []
        self.fates: list[Fate] = []
        self.looks = 1
        self.hold = False
        self.text: Callable[[Item], str] = lambda body: "A"
        self.accepted: Counter[str] = Counter()
        self.batches: dict[str, Item] = {}
        self.items: dict[str, list[Item]] = {}
        self.seen: list[tuple[str, str]] = []
        self.keys: set[str] = set()
        self.breaks = 0
        self.refuses_lists = False
        self.garbage: list[str] = []
        self.moves = False
        self.tick = itertools.count(1)
        self.url = ""
        self._fate: dict[str, Fate] = {}
        self._left: dict[str, int] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def posts(self, path: str) -> int:
        return self.seen.count(("POST", path))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path))
        is_look = request.method == "GET" and request.path.count("/batches/") == 1
        if self.garbage and is_look and not request.path.endswith("/results"):
            return web.Response(text=self.garbage.pop(), content_type="application/json")
        if self.moves and request.path.endswith(("/results", "/content")):
            return web.Response(status=302, headers={"Location": f"{self.url}/elsewhere"})
        self.keys.add(request.headers.get("Authorization") or request.headers.get("x-api-key", ""))
        return await self._route(request)

    async def _route(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError

    def _create(self, request: web.Request, make: Callable[[], web.Response]) -> web.StreamResponse:
        """Create a batch as ``creates`` says."""
        how = self.creates.pop(0) if self.creates else "made"
        if isinstance(how, tuple):
            return self._error(how[0], "not now", how[1])
        response = make() if how in ("made", "lost") else web.Response()
        if how in ("lost", "dropped"):
            assert request.transport is not None
            request.transport.abort()
        return response

    def _looked(self, batch_id: str) -> bool:
        """Whether the batch has ended at this look."""
        if self.hold:
            return False
        self._left[batch_id] = self._left.get(batch_id, self.looks) - 1
        return self._left[batch_id] < 0

    async def _lines(self, request: web.Request, lines: list[Item]) -> web.StreamResponse:
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        if self.breaks:
            self.breaks -= 1
            await response.write(data[: len(data) // 2])
            await asyncio.sleep(0.01)
            assert request.transport is not None
            request.transport.abort()
            return response
        await response.write(data)
        return response

    def _error(
        self, status: int, message: str, headers: dict[str, str] | None = None
    ) -> web.Response:
        raise NotImplementedError


class FakeOpenAIBatches(FakeBatches):
    """``/v1/files`` and ``/v1/batches`` of OpenAI."""

    most = 50_000

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.names: dict[str, str] = {}

    async def _route(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.removeprefix("/v1/").split("/")
        match (request.method, *parts):
            case ("POST", "files"):
                return await self._upload(request)
            case ("POST", "batches"):
                body = await request.json()
                if body["input_file_id"] not in self.files:
                    return self._error(400, "no such file")
                return self._create(request, lambda: web.json_response(self._make(body)))
            case ("GET", "batches") if not self.refuses_lists:
                return self._list(request)
            case ("GET", "batches", batch_id) if batch_id in self.batches:
                if self._looked(batch_id):
                    self._end(batch_id)
                return web.json_response(self.batches[batch_id])
            case ("GET", "files", file_id, "content") if file_id in self.files:
                lines = [json.loads(line) for line in self.files[file_id].splitlines()]
                return await self._lines(request, lines)
        return self._error(404, f"no {request.path}")

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        upload = form["file"]
        assert isinstance(upload, web.FileField)
        if form["purpose"] != "batch" or not upload.filename.endswith(".jsonl"):
            return self._error(400, "no batch file")
        file_id = f"file-{next(self.tick)}"
        self.files[file_id] = upload.file.read()
        self.names[file_id] = upload.filename
        return web.json_response(self.file(file_id))

    def file(self, file_id: str) -> Item:
        return {
            "id": file_id,
            "object": "file",
            "bytes": len(self.files[file_id]),
            "created_at": 1767225600,
            "filename": self.names.get(file_id, "output.jsonl"),
            "purpose": "batch",
            "status": "processed",
        }

    def _make(self, body: Item) -> Item:
        batch_id = f"batch_{next(self.tick)}"
        assert body["completion_window"] == "24h"
        self.batches[batch_id] = {
            "id": batch_id,
            "object": "batch",
            "endpoint": body["endpoint"],
            "errors": None,
            "input_file_id": body["input_file_id"],
            "completion_window": "24h",
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": int(asyncio.get_running_loop().time()) + 1_900_000_000,
            "metadata": body.get("metadata"),
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        }
        self._validate(batch_id)
        return self.batches[batch_id]

    def _validate(self, batch_id: str) -> None:
        batch = self.batches[batch_id]
        raw = self.files[batch["input_file_id"]].splitlines()
        items = [json.loads(line) for line in raw]
        ids, errors = set(), []
        for number, item in enumerate(items, start=1):
            code = None
            if item["custom_id"] in ids:
                code = "duplicate_custom_id"
            elif item["url"] != batch["endpoint"] or item["method"] != "POST":
                code = "url_mismatch"
            elif item["body"]["model"] != items[0]["body"]["model"]:
                code = "mismatched_model"
            if code:
                errors.append({"code": code, "line": number, "message": code, "param": None})
            ids.add(item["custom_id"])
        if len(items) > self.most:
            errors.append({"code": "too_many_tasks", "line": None, "message": "", "param": None})
        fate = self.fates.pop(0) if self.fates else Fate()
        if errors or fate.word == "failed":
            errors = errors or fate.errors
            batch |= {"status": "failed", "failed_at": batch["created_at"]}
            batch["errors"] = {"object": "list", "data": errors}
            return
        batch |= {"status": "in_progress", "in_progress_at": batch["created_at"]}
        batch["request_counts"]["total"] = len(items)
        self.items[batch_id], self._fate[batch_id] = items, fate
        self.accepted.update(ids)

    def _list(self, request: web.Request) -> web.Response:
        for batch_id in self.batches:
            if self._looked(batch_id):
                self._end(batch_id)
        newest = list(reversed(self.batches.values()))
        after = request.query.get("after")
        begin = next((i + 1 for i, b in enumerate(newest) if b["id"] == after), 0)
        page = newest[begin : begin + int(request.query.get("limit", "20"))]
        more = begin + len(page) < len(newest)
        answer = {"object": "list", "data": page, "has_more": more}
        if page:
            answer |= {"first_id": page[0]["id"], "last_id": page[-1]["id"]}
        return web.json_response(answer)

    def _end(self, batch_id: str) -> None:
        batch = self.batches[batch_id]
        if batch["status"] != "in_progress":
            return
        fate = self._fate[batch_id]
        out, bad = [], []
        for number, item in enumerate(self.items[batch_id]):
            what = fate.of(number, item["custom_id"])
            line = {"id": f"batch_req_{number}", "custom_id": item["custom_id"], "error": None}
            if what == "left out":
                continue
            if what == 200:
                out.append(line | {"response": self._response(200, self._chat(item["body"]))})
            elif isinstance(what, int):
                error = {"error": {"message": f"status {what}", "type": "x", "code": None}}
                bad.append(line | {"response": self._response(what, error)})
            else:
                code = f"batch_{what}"
                bad.append(line | {"response": None, "error": {"code": code, "message": what}})
        for name, lines in (("output_file_id", out), ("error_file_id", bad)):
            if lines:
                batch[name] = f"file-{next(self.tick)}"
                text = "".join(json.dumps(line) + "\n" for line in lines)
                self.files[batch[name]] = text.encode()
        counts = {"completed": len(out), "failed": len(bad)}
        batch["request_counts"] |= counts
        batch |= {"status": fate.word, f"{fate.word}_at": batch["created_at"] + 60}

    def _chat(self, body: Item) -> Item:
        text = self.text(body)
        logprobs = None
        if body.get("logprobs"):
            top = [
                {"token": t, "logprob": p, "bytes": [ord(t)]} for t, p in (("A", -0.3), ("B", -1.4))
            ]
            logprobs = {"content": [top[0] | {"top_logprobs": top}], "refusal": None}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1767225600,
            "model": body["model"],
            "system_fingerprint": "fp_1",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, "refusal": None},
                    "finish_reason": "stop",
                    "logprobs": logprobs,
                }
            ],
            "usage": {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11},
        }

    def _response(self, status: int, body: Item) -> Item:
        return {"status_code": status, "request_id": "req_1", "body": body}

    def _error(
        self, status: int, message: str, headers: dict[str, str] | None = None
    ) -> web.Response:
        error = {"message": message, "type": "invalid_request_error", "code": None, "param": None}
        return web.json_response({"error": error}, status=status, headers=headers)
