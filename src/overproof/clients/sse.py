"""Server-sent events, parsed as they come (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

__all__ = ["Event", "EventParser"]

_LINE_END = re.compile(r"\r\n|\n|\r")


class Event(NamedTuple):
    """One event. ``name`` is empty where the server gives none."""

    name: str
    data: str


class EventParser:
    """Bytes in, cut anywhere, events out. Comments, ids and retry times are left out.

    llama.cpp has written errors as a field of that name; such a field is an event ``error``.
    """

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="replace").decode
        self._rest = ""
        self._name = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> list[Event]:
        """The events that ``data`` completes."""
        self._rest += self._decode(data)
        # A carriage return at the end may be the first half of a line end.
        whole = self._rest[:-1] if self._rest.endswith("\r") else self._rest
        *lines, last = _LINE_END.split(whole)
        self._rest = last + self._rest[len(whole) :]
        return [event for line in lines if (event := self._line(line)) is not None]

    def end(self) -> list[Event]:
        """The event that the stream's end completes, if any: the last blank line may be missing."""
        rest, self._rest = self._rest + self._decode(b"", True), ""
        lines = [*_LINE_END.split(rest), ""]
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: str) -> Event | None:
        if not line:
            event = Event(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data = "", []
            return event
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif field == "error":
            self._name = "error"
            self._data.append(value)
        return None
