"""What assemblers of streamed answers share, whatever the wire: events in, progress out."""

from __future__ import annotations

import json
from typing import Any

from overproof.clients.openai_wire import WireError
from overproof.clients.sse import Event, EventParser

__all__ = ["EventStream", "object_of"]


class EventStream:
    """The bytes' side of a ``http_answers.StreamReader``; a wire adds ``_take`` and ``finish``."""

    def __init__(self) -> None:
        self._parser = EventParser()
        self._done = False

    @property
    def done(self) -> bool:
        """Whether the end marker came."""
        return self._done

    def feed(self, data: bytes) -> bool:
        """Take bytes as they came; see ``StreamReader``."""
        news = [self._take(event) for event in self._parser.feed(data)]
        return any(news)

    def _end(self) -> None:
        """Take what the bytes ended in."""
        for event in self._parser.end():
            self._take(event)

    def _take(self, event: Event) -> bool:
        """Take one event; whether it brought a part of the answer."""
        raise NotImplementedError


def object_of(event: Event) -> dict[str, Any]:
    """The JSON object that an event carries.

    Raises:
        WireError: it carries none.
    """
    try:
        value = json.loads(event.data)
    except (ValueError, RecursionError):
        raise WireError("events of JSON", is_json=False) from None
    if not isinstance(value, dict):
        raise WireError("events that are JSON objects", is_json=True)
    return value
