"""One line or one Parquet row of a log to an `Event`, or to the reason why it is none.

Much of a line is what some client sent, and the rest what some gateway wrote. What the provider
writes (times, accounts, counts) is held to its type. What a client can put into a request
(messages, tool names, a model's name) is never a reason to lose the line: otherwise a client could
hide by sending nonsense. Field by field: docs/traffic.md.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple, cast

import msgspec

from overproof.records.traffic import Event, Sketch
from overproof.records.traffic_checks import LATEST

__all__ = [
    "MOST_SHINGLES",
    "BadLine",
    "BadReason",
    "decode_line",
    "decode_row",
    "line_fields",
    "placeable",
]

LONGEST_NAME = 512  # of an account, an organisation, a request: the provider's own names
LONGEST_TEXT = 256  # of a model, an agent and the like: cut, because a client may send any
LARGEST_COUNT = 2**53  # exact in every JSON reader, and in a float
LARGEST_HASH = 2**64
MOST_SHINGLES = 24
TECHNIQUES = 64
CAPABILITIES = 16
SHOWN = 160
LEAP = re.compile(rb'("(?:ts|account_created)"\s*:\s*"[^"]{10,25}?:)60((?:\.\d+)?(?:Z|z|[+-]))')
HALF_PAIR = re.compile("[\ud800-\udfff]")
JSON_COLUMNS = ("messages", "params", "text_sketch", "tools")
COUNTS = ("asn", "input_tokens", "output_tokens", "reasoning_tokens", "status")


class BadReason(StrEnum):
    """Why a line is no event."""

    NOT_UTF8 = "is not UTF-8"
    NOT_JSON = "is not JSON"
    NOT_OBJECT = "is not a JSON object"
    MISSING = "lacks a required field"
    TYPE = "has a field of the wrong type"
    TIME = "has an impossible time"
    RANGE = "has an impossible number"
    NAME = "has an impossible name"
    TOO_DEEP = "is nested too deeply"
    TOO_LONG = "is too long"
    CUT_OFF = "is the last that a damaged file gives"


class BadLine(NamedTuple):
    """A line that is no event. ``line`` counts from 1; of Parquet it is the row."""

    path: str
    line: int
    reason: BadReason
    detail: str = ""

    def __str__(self) -> str:
        said = f": {self.detail}" if self.detail else ""
        return f"{self.path}:{self.line} {self.reason}{said}"


class _Wire(Event, kw_only=True, gc=False, omit_defaults=True):
    """An event as written: the same fields, some of them not yet what they shall be."""

    ts: float | datetime  # type: ignore[assignment]
    account_created: float | datetime | None = None  # type: ignore[assignment]
    messages: list[Any] | None = None
    tools: list[Any] | None = None
    params: dict[str, Any] | None = None  # type: ignore[assignment]


class _BadError(Exception):
    """Carries a reason up to `decode_line`; never leaves this file."""

    def __init__(self, reason: BadReason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


_decode = msgspec.json.Decoder(_Wire).decode


def decode_line(line: bytes, path: str = "", number: int = 0) -> Event | BadLine:
    """One line of a JSON Lines log.

    A time is RFC 3339 or seconds since the epoch; one without an offset is UTC. Halves of
    surrogate pairs, which a client can put into a prompt, become U+FFFD. Unknown fields are
    ignored.

    Returns:
        The event, or why the line is none. Whatever the line holds, nothing is raised.
    """
    try:
        return _finished(_decode(line))
    except _BadError as bad:
        return BadLine(path, number, bad.reason, bad.detail)
    except RecursionError:
        return BadLine(path, number, BadReason.TOO_DEEP)
    except ValueError:
        fields = line_fields(line, path, number)
        return fields if isinstance(fields, BadLine) else decode_row(fields, path, number)


def decode_row(row: Mapping[str, Any], path: str = "", number: int = 0) -> Event | BadLine:
    """One row of a Parquet log, or an event as a dict.

    ``messages``, ``params``, ``text_sketch`` and ``tools`` may be JSON in a string; a missing
    value may be null or NaN; a count may be a whole float.

    Returns:
        The event, or why the row is none; nothing is raised.
    """
    try:
        return _finished(msgspec.convert(_plain(row), _Wire))
    except _BadError as bad:
        return BadLine(path, number, bad.reason, bad.detail)
    except RecursionError:
        return BadLine(path, number, BadReason.TOO_DEEP)
    except (ValueError, TypeError) as error:
        return BadLine(path, number, *_reason(error))


def placeable(event: Event) -> bool:
    """Has the event a time and a name that a line of a log may have? Others cannot be placed."""
    ts, account, request = event.ts, event.account, event.request_id
    return (
        (ts.__class__ is float or isinstance(ts, int))
        and 0.0 <= ts < LATEST
        and 0 < len(account) <= LONGEST_NAME
        and 0 < len(request) <= LONGEST_NAME
    )


def _finished(event: _Wire) -> Event:
    """Times as numbers, names and numbers checked, and the wire's type gone."""
    ts = event.ts
    if ts.__class__ is not float:
        event.ts = ts = _seconds(ts)
    if not 0.0 <= ts < LATEST:
        _refuse_time("ts", ts)
    if (created := event.account_created) is not None:
        event.account_created = created = _seconds(created)
        if not -LATEST < created < LATEST:
            _refuse_time("account_created", created)
    _check_names(event)
    _check_counts(event)
    _check_request(event)
    if event.text_sketch is not None:
        _check_sketch(event.text_sketch)
    event.__class__ = Event  # type: ignore[assignment]
    return event


def _check_request(event: _Wire) -> None:
    """What the client sent: unusable parts are left out, and the line stays."""
    if event.messages is not None:
        event.messages = [turn for turn in event.messages if turn.__class__ is dict]
    if event.tools is not None:
        event.tools = [name for name in map(_tool_name, event.tools) if name]
    if (params := event.params) is None:
        event.params = {}
        return
    for value in params.values():
        if value.__class__ in {int, float} and not -LARGEST_COUNT < value < LARGEST_COUNT:
            event.params = _usable(params)
            return


def _usable(params: Mapping[str, Any]) -> dict[str, Any]:
    """Without the numbers that no sampler takes and no arithmetic survives; NaN is one."""
    return {
        name: value
        for name, value in params.items()
        if not isinstance(value, int | float) or -LARGEST_COUNT < value < LARGEST_COUNT
    }


def _seconds(time: Any) -> float:
    if not isinstance(time, datetime):
        return float(time)
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return float(time.timestamp())


def _refuse_time(name: str, time: float) -> None:
    said = f"`{name}` is not a time in seconds since the epoch"
    if LATEST <= time < LATEST * 1e6:
        said += "; is it in milliseconds?"
    raise _BadError(BadReason.TIME, said)


def _check_names(event: _Wire) -> None:
    if not (event.account and event.request_id):
        raise _BadError(BadReason.NAME, "`account` or `request_id` is empty")
    if len(event.account) > LONGEST_NAME or len(event.request_id) > LONGEST_NAME:
        raise _BadError(BadReason.NAME, f"`account` or `request_id` exceeds {LONGEST_NAME}")
    if len(event.org or "") > LONGEST_NAME or len(event.payer or "") > LONGEST_NAME:
        raise _BadError(BadReason.NAME, f"`org` or `payer` exceeds {LONGEST_NAME}")
    if len(event.model) > LONGEST_TEXT:
        event.model = event.model[:LONGEST_TEXT]
    if len(event.endpoint) > LONGEST_TEXT:
        event.endpoint = event.endpoint[:LONGEST_TEXT]
    for name in ("plan", "declared_use", "ip", "user_agent", "device", "finish_reason"):
        value = getattr(event, name)
        if value is not None and len(value) > LONGEST_TEXT:
            setattr(event, name, value[:LONGEST_TEXT])


def _check_counts(event: _Wire) -> None:
    sent, answered = event.input_tokens or 0, event.output_tokens or 0
    thought, asn, status = event.reasoning_tokens or 0, event.asn or 0, event.status or 0
    # The or of numbers is negative if one is, and as long as the longest.
    if not 0 <= (sent | answered | thought | asn | status) < LARGEST_COUNT:
        raise _BadError(BadReason.RANGE, "a count is negative or beyond 53 bits")


def _check_sketch(sketch: Sketch) -> None:
    hashes = sketch.system | sketch.tools | sketch.prompt | sketch.turn
    hashes |= sketch.template | sketch.opening | sketch.closing
    if sketch.shingles:
        if len(sketch.shingles) > MOST_SHINGLES:
            raise _BadError(BadReason.RANGE, f"`text_sketch.shingles` exceeds {MOST_SHINGLES}")
        hashes |= max(sketch.shingles)
        if min(sketch.shingles) < 0:
            hashes = -1
    if not 0 <= hashes < LARGEST_HASH:
        raise _BadError(BadReason.RANGE, "a fingerprint is negative or beyond 64 bits")
    if not (0 <= sketch.capability < CAPABILITIES and 0 <= sketch.technique < TECHNIQUES):
        raise _BadError(BadReason.RANGE, "`text_sketch` names an unknown capability or technique")
    if not (
        0.0 <= sketch.elicitation <= 1.0
        and 0.0 <= sketch.rubric <= 1.0
        and 0.0 <= sketch.synthesis <= 1.0
    ):
        raise _BadError(BadReason.RANGE, "a trait of `text_sketch` is not between 0 and 1")
    if not (0 <= (sketch.chars | sketch.turns) < LARGEST_COUNT and len(sketch.language) <= 8):
        raise _BadError(BadReason.RANGE, "`text_sketch` has an impossible length or language")


def _tool_name(tool: Any) -> str:
    """A tool's name; clients send whole definitions where the gateway lets them through."""
    if isinstance(tool, str):
        return tool[:LONGEST_TEXT]
    if isinstance(tool, Mapping):
        inner = tool.get("function")
        name = tool.get("name") or (inner.get("name") if isinstance(inner, Mapping) else None)
        return name[:LONGEST_TEXT] if isinstance(name, str) else ""
    return ""


def line_fields(line: bytes, path: str = "", number: int = 0) -> dict[str, Any] | BadLine:
    """All fields of a line, unknown ones included, with what is harmless mended.

    Harmless are a byte order mark, halves of surrogate pairs and leap seconds, all of which
    honest writers produce. For `decode_row`; four times as slow as `decode_line`.
    """
    try:
        text = LEAP.sub(rb"\g<1>59\g<2>", line.removeprefix(b"\xef\xbb\xbf")).decode()
        row = json.loads(text, parse_constant=_refuse_constant)
        row = _mended(row)
    except UnicodeDecodeError as bad:
        return BadLine(path, number, BadReason.NOT_UTF8, f"byte {bad.start + 1}")
    except RecursionError:
        return BadLine(path, number, BadReason.TOO_DEEP)
    except ValueError as bad:
        return BadLine(path, number, BadReason.NOT_JSON, str(bad)[:SHOWN])
    if not isinstance(row, dict):
        return BadLine(path, number, BadReason.NOT_OBJECT)
    return cast(dict[str, Any], row)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _mended(value: Any) -> Any:
    """``value`` with halves of surrogate pairs replaced, in keys as well."""
    if isinstance(value, str):
        return HALF_PAIR.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the decoder wants it: no nulls, JSON columns parsed, whole floats as counts."""
    return {
        name: _column(name, value)
        for name, value in row.items()
        if value is not None and not (value.__class__ is float and math.isnan(value))
    }


def _column(name: str, value: Any) -> Any:
    if name in COUNTS:
        return int(value) if value.__class__ is float and value.is_integer() else value
    if name not in JSON_COLUMNS:
        return value
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except RecursionError:
            raise _BadError(BadReason.TOO_DEEP) from None
        except ValueError:
            raise _BadError(BadReason.TYPE, f"`{name}` is a string, but not JSON") from None
    if name in ("params", "text_sketch"):
        if isinstance(value, list) and all(isinstance(pair, tuple) for pair in value):
            value = dict(value)  # an Arrow map
        if isinstance(value, Mapping):  # an Arrow struct has every field in every row
            return {key: item for key, item in value.items() if item is not None}
    return value


def _reason(error: Exception) -> tuple[BadReason, str]:
    """The kind of a decoder's complaint, and its words; they name fields, not what is in them."""
    said = str(error)[:SHOWN]
    if "missing required field" in said:
        return BadReason.MISSING, said
    if "RFC3339" in said or "`$.ts`" in said or "`$.account_created`" in said:
        return BadReason.TIME, said
    if "out of range" in said:
        return BadReason.RANGE, said
    return BadReason.TYPE, said
