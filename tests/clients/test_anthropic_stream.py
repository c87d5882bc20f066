"""A streamed message says what the message in one piece says, as Anthropic's package puts it."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from overproof.clients.anthropic_stream import MessageStream
from overproof.clients.anthropic_wire import completion_of
from overproof.clients.http_answers import StreamError
from overproof.clients.openai_wire import WireError
from overproof.records.exchange import Outcome, Usage

EVENT: Any = TypeAdapter(RawMessageStreamEvent)
TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
USAGE = {"input_tokens": 5, "output_tokens": 1, "cache_read_input_tokens": 2}
STARTED = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-1",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": USAGE,
    },
}
EVENTS: list[dict[str, Any]] = [
    STARTED,
    {"type": "ping"},
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": "", "signature": ""},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "H"},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "thinking_delta", "thinking": "m."},
    },
    {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "signature_delta", "signature": "sig"},
    },
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "naïve "}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "☃"}},
    {"type": "content_block_stop", "index": 1},
    {"type": "content_block_start", "index": 2, "content_block": TOOL_USE},
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": '{"city": "K'},
    },
    {
        "type": "content_block_delta",
        "index": 2,
        "delta": {"type": "input_json_delta", "partial_json": 'öln"}'},
    },
    {"type": "content_block_stop", "index": 2},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 33},
    },
    {"type": "message_stop"},
]


def streamed(*events: dict[str, Any]) -> bytes:
    lines = [
        f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"
        for event in events
    ]
    return "".join(lines).encode()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(min_value=0, max_value=6000), max_size=60))
def test_a_stream_cut_anywhere_is_the_message_in_one_piece(cuts: list[int]) -> None:
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in EVENTS:
        if event["type"] != "ping":
            snapshot = accumulate_event(
                event=EVENT.validate_python(event), current_snapshot=snapshot, json_bufs=buffers
            )
    raw = streamed(*EVENTS)
    reader = MessageStream()
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        reader.feed(raw[start:end])
    assert reader.done
    assert reader.finish() == [completion_of(json.dumps(snapshot.to_dict(mode="json")))]


def test_what_a_stream_says() -> None:
    reader = MessageStream()
    assert [reader.feed(streamed(event)) for event in EVENTS[:2]] == [True, False]
    reader.feed(streamed(*EVENTS[2:]))
    [read] = reader.finish()
    assert (read.text, read.reasoning, read.outcome) == ("naïve ☃", "Hm.", Outcome.ANSWERED)
    assert read.tool_calls[0].arguments == '{"city": "Köln"}'
    assert read.usage == Usage(input_tokens=7, output_tokens=33, cached_tokens=2)


def test_input_that_was_cut_off_stays_what_it_is() -> None:
    end = EVENTS[-2] | {"delta": {"stop_reason": "max_tokens"}}
    reader = MessageStream()
    reader.feed(streamed(*EVENTS[:13], end, EVENTS[-1]))
    [read] = reader.finish()
    assert (read.outcome, read.tool_calls[0].arguments) == (Outcome.TRUNCATED, '{"city": "K')


@pytest.mark.parametrize("raw", [b"", streamed(*EVENTS[:-1]), streamed(EVENTS[-1]), b"data: {\n\n"])
def test_a_stream_that_ends_early_is_no_answer(raw: bytes) -> None:
    def read() -> None:
        reader = MessageStream()
        reader.feed(raw)
        reader.finish()

    with pytest.raises(WireError) as caught:
        read()
    assert not caught.value.is_json


def test_an_error_inside_a_stream_has_its_status() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    reader = MessageStream()
    reader.feed(streamed(*EVENTS[:5]))
    with pytest.raises(StreamError) as caught:
        reader.feed(streamed(error))
    assert caught.value.status == 529
    with pytest.raises(WireError, match="content_block_delta"):
        MessageStream().feed(streamed(EVENTS[3]))
