"""Streamed messages: events become the message that is not streamed, read like any other.

``POST /v1/messages`` with ``stream``: ``message_start``, for each block ``content_block_start``,
``content_block_delta`` and ``content_block_stop``, then ``message_delta`` and ``message_stop``;
``ping`` and ``error`` in between.
"""

from __future__ import annotations

import json
from typing import Any

from overproof.clients.anthropic_wire import completion_of, server_error
from overproof.clients.event_stream import EventStream, object_of
from overproof.clients.http_answers import StreamError
from overproof.clients.openai_wire import WireError
from overproof.clients.sse import Event
from overproof.records.exchange import Completion

__all__ = ["MessageStream"]

UNKNOWN = 500
# What each kind of delta adds to, and the field that it comes in.
_TEXTS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
}


class MessageStream(EventStream):
    """Assembles one streamed message; a ``http_answers.StreamReader``.

    A ping is no part of the answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self._message: dict[str, Any] | None = None
        self._blocks: dict[int, dict[str, Any]] = {}
        self._inputs: dict[int, str] = {}

    def finish(self) -> list[Completion]:
        """The answer.

        Raises:
            WireError: the stream ended before ``message_stop``, or holds no message.
        """
        self._end()
        if not self._done or self._message is None:
            raise WireError("a whole stream of a message; it ended early", is_json=False)
        blocks = [self._finished(index) for index in sorted(self._blocks)]
        return [completion_of(json.dumps(self._message | {"content": blocks}))]

    def _take(self, event: Event) -> bool:
        if self._done or not event.data.strip():
            return False
        said = object_of(event)
        kind = str(said.get("type") or event.name)
        if kind == "error":
            raise StreamError(event.data, server_error(event.data)[1] or UNKNOWN)
        try:
            return self._take_kind(kind, said)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise WireError(f"a {kind} event as the API describes it", is_json=True) from None

    def _take_kind(self, kind: str, said: dict[str, Any]) -> bool:
        if kind == "message_start":
            self._message = dict(said["message"])
        elif kind == "content_block_start":
            self._blocks[int(said["index"])] = dict(said["content_block"])
        elif kind == "content_block_delta":
            self._take_delta(said["index"], said["delta"])
        elif kind == "message_delta":
            self._take_end(said["delta"], said.get("usage") or {})
        elif kind == "message_stop":
            self._done = True
        else:  # content_block_stop brings nothing, ping is none, and new events may come
            return False
        return True

    def _take_delta(self, index: int, delta: dict[str, Any]) -> None:
        block = self._blocks[index]
        kind = delta["type"]
        if kind == "input_json_delta":
            self._inputs[index] = self._inputs.get(index, "") + delta["partial_json"]
        elif kind in _TEXTS:
            name = _TEXTS[kind]
            block[name] = (block.get(name) or "") + delta[name]

    def _take_end(self, delta: dict[str, Any], usage: dict[str, Any]) -> None:
        if self._message is None:
            raise ValueError("no message has begun")
        self._message |= {name: value for name, value in delta.items() if value is not None}
        # The counts are totals so far; one that is left out stands as it was.
        counted = {name: value for name, value in usage.items() if value is not None}
        self._message["usage"] = (self._message.get("usage") or {}) | counted

    def _finished(self, index: int) -> dict[str, Any]:
        block = self._blocks[index]
        written = self._inputs.get(index)
        if not written:
            return block
        try:
            return block | {"input": json.loads(written)}
        except (ValueError, RecursionError):
            return block | {"input": written}  # cut off; the parser keeps it as it is
