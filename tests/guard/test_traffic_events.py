"""One line to one event, and every way in which a line is none."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from overproof.guard.events import BadLine, BadReason, decode_line, decode_row, line_fields
from overproof.records.traffic import Event, Sketch

LEAST: dict[str, Any] = {
    "ts": 1.7e9,
    "request_id": "r",
    "account": "a",
    "model": "m",
    "endpoint": "messages",
}


def line(**fields: Any) -> bytes:
    return json.dumps({**LEAST, **fields}).encode()


def good(data: bytes) -> Event:
    event = decode_line(data, "log.jsonl", 7)
    assert isinstance(event, Event), event
    return event


def bad(data: bytes) -> BadLine:
    found = decode_line(data, "log.jsonl", 7)
    assert isinstance(found, BadLine), found
    assert found.path == "log.jsonl"
    assert found.line == 7
    return found


def test_a_least_event_has_every_default():
    assert good(line()) == Event(**LEAST)
    assert type(good(line())) is Event


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-01-02T03:04:05Z", 1767323045.0),
        ("2026-01-02T03:04:05.25+00:00", 1767323045.25),
        ("2026-01-02T05:04:05+02:00", 1767323045.0),
        ("2026-01-02T03:04:05", 1767323045.0),
        ("2016-12-31T23:59:60Z", 1483228799.0),
        (1767323045, 1767323045.0),
        (1767323045.5, 1767323045.5),
    ],
)
def test_times_are_rfc_3339_or_numbers(written: Any, read: float):
    event = good(line(ts=written, account_created=written))
    assert event.ts == read
    assert event.account_created == read


@pytest.mark.parametrize("missing", [n for n in Event.__struct_fields__ if n not in LEAST])
def test_every_optional_field_may_be_null_or_missing(missing: str):
    assert good(line(**{missing: None})) == good(line())


@pytest.mark.parametrize("missing", sorted(LEAST))
def test_a_missing_required_field_is_named(missing: str):
    row = {name: value for name, value in LEAST.items() if name != missing}
    found = bad(json.dumps(row).encode())
    assert found.reason is BadReason.MISSING
    assert missing in str(found)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{", BadReason.NOT_JSON),
        (b"", BadReason.NOT_JSON),
        (b"[]", BadReason.NOT_OBJECT),
        (b"null", BadReason.NOT_OBJECT),
        (b'{"ts": "\xff"}', BadReason.NOT_UTF8),
        (b"[" * 100_000, BadReason.TOO_DEEP),
        (b'{"a": ' * 100_000, BadReason.TOO_DEEP),
        (line(ts=math.nan), BadReason.NOT_JSON),
        (line(ts=math.inf), BadReason.NOT_JSON),
        (line(ts=-1), BadReason.TIME),
        (line(ts="yesterday"), BadReason.TIME),
        (line(ts=True), BadReason.TIME),
        (line(ts=1.7e12), BadReason.TIME),
        (line(ts=10**30), BadReason.TIME),
        (line().replace(b"1700000000.0", b"1e999"), BadReason.TIME),
        (line(account_created=1.7e12), BadReason.TIME),
        (line(request_id=5), BadReason.TYPE),
        (line(account=""), BadReason.NAME),
        (line(account="a" * 600), BadReason.NAME),
        (line(org="a" * 600), BadReason.NAME),
        (line(asn="AS15169"), BadReason.TYPE),
        (line(asn=1.5), BadReason.TYPE),
        (line(input_tokens=-1), BadReason.RANGE),
        (line(output_tokens=10**30), BadReason.RANGE),
        (line(messages="text"), BadReason.TYPE),
        (line(params=[1]), BadReason.TYPE),
        (line(refused="no"), BadReason.TYPE),
        (line(text_sketch={"shingles": list(range(25))}), BadReason.RANGE),
        (line(text_sketch={"shingles": [-1]}), BadReason.RANGE),
        (line(text_sketch={"system": 2**64}), BadReason.RANGE),
        (line(text_sketch={"capability": 16}), BadReason.RANGE),
        (line(text_sketch={"technique": 10**9}), BadReason.RANGE),
        (line(text_sketch={"rubric": 1.5}), BadReason.RANGE),
        (line(text_sketch={"chars": -5}), BadReason.RANGE),
        (line(text_sketch={"language": "e" * 999}), BadReason.RANGE),
        (line(text_sketch="abc"), BadReason.TYPE),
    ],
)
def test_a_bad_line_has_a_reason_and_raises_nothing(data: bytes, reason: BadReason):
    assert bad(data).reason is reason


def test_milliseconds_are_recognised():
    assert "milliseconds" in bad(line(ts=1.7e12)).detail


def test_reasons_show_no_prompt():
    found = bad(line(messages="my secret prompt"))
    assert "secret" not in str(found)


def test_what_a_client_sends_never_costs_the_line():
    event = good(
        line(
            messages=["x", None, {"role": "user", "content": 5}],
            tools=[{"function": {"name": "search"}}, {"name": "read"}, 3, "write"],
            params={"temperature": 10**400, "n": 2, "stop": ["a"]},
            model="m" * 10_000,
            user_agent="u" * 10_000,
        )
    )
    assert event.messages == [{"role": "user", "content": 5}]
    assert event.tools == ["search", "read", "write"]
    assert event.params == {"n": 2, "stop": ["a"]}
    assert len(event.model) == len(event.user_agent or "") == 256


def test_halves_of_surrogate_pairs_are_replaced():
    data = line(messages=[{"role": "user", "content": "a\ud800b", "\udc00": 1}])
    assert b"\\ud800" in data
    assert good(data).messages == [{"role": "user", "content": "a\ufffdb", "\ufffd": 1}]


def test_honest_writers_are_understood():
    assert good(b"\xef\xbb\xbf" + line()) == good(line())
    assert good(line(input_tokens=12.0)).input_tokens == 12
    assert good(line(account="a\0b\n<script>")).account == "a\0b\n<script>"


def test_ten_megabytes_of_prompt_are_read():
    content = "x" * 10_000_000
    messages = good(line(messages=[{"role": "user", "content": content}])).messages
    assert messages is not None
    assert len(messages[0]["content"]) == 10_000_000


def test_a_sketch_comes_through_unchanged():
    sketch = Sketch(system=2**63 - 1, shingles=(1, 2, 3), elicitation=0.25, language="zh", chars=9)
    event = good(line(text_sketch=msgspec.to_builtins(sketch)))
    assert event.text_sketch == sketch


def test_rows_are_as_lines():
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    row = {
        **LEAST,
        "ts": at,
        "account_created": (at - timedelta(days=1)).replace(tzinfo=None),
        "org": None,
        "asn": 12.0,
        "input_tokens": math.nan,
        "messages": '[{"role": "user", "content": "hi"}]',
        "params": [("n", 2)],
        "text_sketch": {"system": 5, "shingles": None},
        "unknown": object(),
    }
    event = decode_row(row)
    assert isinstance(event, Event)
    assert event.ts - 86_400 == event.account_created
    assert (event.asn, event.input_tokens, event.org) == (12, None, None)
    assert event.messages == [{"role": "user", "content": "hi"}]
    assert event.params == {"n": 2}
    assert event.text_sketch == Sketch(system=5)


@pytest.mark.parametrize(
    "row", [{}, {**LEAST, "ts": None}, {**LEAST, "params": "{"}, {**LEAST, "ts": b"1"}]
)
def test_a_bad_row_has_a_reason(row: dict[str, Any]):
    assert isinstance(decode_row(row, "x.parquet", 3), BadLine)


def test_fields_keep_what_no_event_has():
    fields = line_fields(line(trace={"deep": [1]}))
    assert isinstance(fields, dict)
    assert fields["trace"] == {"deep": [1]}
