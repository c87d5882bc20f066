"""However a stream is cut, it says what the answer in one piece says."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat._completions import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from overproof.clients.http_answers import StreamError
from overproof.clients.openai_wire import WireError, completions_of
from overproof.clients.sse import Event, EventParser
from overproof.clients.stream import ChatStream
from overproof.records.exchange import Completion, Outcome, ToolCall

USAGE = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}


def chunk(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1767225600,
        "model": "m-1",
        "system_fingerprint": "fp",
        "choices": [{"index": 0, "finish_reason": None} | choice for choice in choices],
    }
    return body | more


def delta(index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": fields}


def ended(index: int = 0, reason: str = "stop") -> dict[str, Any]:
    return {"index": index, "delta": {}, "finish_reason": reason}


def events(*chunks: dict[str, Any], line_end: str = "\n") -> bytes:
    lines = [f"data: {json.dumps(one, ensure_ascii=False)}{line_end * 2}" for one in chunks]
    return f"{''.join(lines)}data: [DONE]{line_end * 2}".encode()


def logprob(token: str) -> dict[str, Any]:
    spoken = {"token": token, "logprob": -0.5, "bytes": list(token.encode())}
    return {"content": [spoken | {"top_logprobs": [spoken]}], "refusal": None}


SPOKEN = (
    chunk(delta(role="assistant", content="", refusal=None)),
    chunk(delta(content="naïve ") | {"logprobs": logprob("naïve ")}),
    chunk(delta(content="☃🙂") | {"logprobs": logprob("☃🙂")}),
    chunk(ended()),
    chunk(usage=USAGE),
)
CALLING = (
    chunk(delta(role="assistant", content=None)),
    chunk(
        delta(
            tool_calls=[
                {
                    "index": 0,
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": ""},
                }
            ]
        )
    ),
    chunk(delta(tool_calls=[{"index": 0, "function": {"arguments": '{"ci'}}])),
    chunk(delta(tool_calls=[{"index": 0, "function": {"arguments": 'ty": "Köln"}'}}])),
    chunk(
        delta(
            tool_calls=[
                {
                    "index": 1,
                    "id": "c2",
                    "type": "function",
                    "function": {"name": "now", "arguments": "{}"},
                }
            ]
        )
    ),
    chunk(ended(reason="tool_calls")),
    chunk(usage=USAGE),
)
TWO = (
    chunk(delta(0, role="assistant", content=""), delta(1, role="assistant", content="")),
    chunk(delta(1, content="b")),
    chunk(delta(0, content="a")),
    chunk(delta(1, content="B")),
    chunk(ended(0)),
    chunk(ended(1, "length")),
    chunk(usage=USAGE),
)
THINKING = (
    chunk(delta(role="assistant", content="")),
    chunk(delta(reasoning_content="Hm, ", reasoning="Hm, ")),
    chunk(delta(reasoning_content="so.", reasoning="so.")),
    chunk(delta(content="B")),
    chunk(ended(), usage=USAGE),
)
STREAMS = {"spoken": (SPOKEN, 1), "calling": (CALLING, 1), "two": (TWO, 2), "think": (THINKING, 1)}


def in_one_piece(chunks: tuple[dict[str, Any], ...], n: int) -> list[Completion]:
    """What OpenAI's own accumulator makes of the chunks, read as an answer in one piece."""
    state: Any = ChatCompletionStreamState()
    for one in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(one))
    body = json.loads(state.current_completion_snapshot.model_dump_json())
    return completions_of(json.dumps(body), n, tools=True)


def streamed(raw: bytes, cuts: list[int], n: int) -> list[Completion]:
    reader = ChatStream(n, tools=True)
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        reader.feed(raw[start:end])
    assert reader.done
    return reader.finish()


@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("name", STREAMS)
@given(
    cuts=st.lists(st.integers(min_value=0, max_value=4000), max_size=60),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_cut_anywhere_it_is_the_same_answer(name: str, cuts: list[int], line_end: str) -> None:
    chunks, n = STREAMS[name]
    raw = events(*chunks, line_end=line_end)
    if line_end == "\r":
        raw += b":"  # a carriage return at the very end may be half a line end
    assert streamed(raw, cuts, n) == in_one_piece(chunks, n)


def test_byte_by_byte() -> None:
    raw = events(*SPOKEN)
    [completion] = streamed(raw, list(range(len(raw))), 1)
    assert completion.text == "naïve ☃🙂"
    assert [t.token for t in completion.logprobs or ()] == ["naïve ", "☃🙂"]
    assert completion.usage is not None
    assert completion.usage.output_tokens == 9
    assert (completion.model, completion.system_fingerprint) == ("m-1", "fp")


def test_calls_reasoning_and_choices() -> None:
    [calling] = streamed(events(*CALLING), [], 1)
    assert calling.tool_calls == (
        ToolCall(id="c1", name="weather", arguments='{"city": "Köln"}'),
        ToolCall(id="c2", name="now", arguments="{}"),
    )
    assert calling.outcome is Outcome.ANSWERED
    [thinking] = streamed(events(*THINKING), [], 1)
    assert (thinking.reasoning, thinking.text) == ("Hm, so.", "B")
    first, second = streamed(events(*TWO), [], 2)
    assert [(c.choice, c.text, c.outcome) for c in (first, second)] == [
        (0, "a", Outcome.ANSWERED),
        (1, "bB", Outcome.TRUNCATED),
    ]


def test_what_servers_do_differently() -> None:
    bare = [
        {"id": "c1", "function": {"name": "a", "arguments": "{"}},
        {"function": {"name": "a", "arguments": "}"}},  # the name again, no index
        {"id": "c2", "function": {"name": "b", "arguments": {"x": 1}}},
    ]
    chunks = [chunk(delta(tool_calls=[one])) for one in bare]
    [read] = streamed(events(*chunks, chunk(ended(reason="tool_calls"))), [], 1)
    assert [(c.name, c.arguments) for c in read.tool_calls] == [("a", "{}"), ("b", '{"x": 1}')]
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "H"}]}
    parts = [delta(content=[thought]), delta(content=[thought]), delta(content="B")]
    [read] = streamed(events(*(chunk(part) for part in parts), chunk(ended())), [], 1)
    assert (read.reasoning, read.text) == ("HH", "B")


def test_only_a_part_of_the_answer_is_progress() -> None:
    reader = ChatStream()
    assert not reader.feed(b": OPENROUTER PROCESSING\n\n")
    assert not reader.feed(b"retry: 100\nid: 1\n\n")
    first, word, *_ = SPOKEN
    assert not reader.feed(f"data: {json.dumps(first)}\n\n".encode())
    assert reader.feed(f"data: {json.dumps(word)}\n\n".encode())
    assert not reader.done
    assert reader.feed(b"data: [DONE]\n\n")
    assert reader.done


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        events(*SPOKEN).removesuffix(b"data: [DONE]\n\n"),
        events(*SPOKEN)[:300],
        events(SPOKEN[0], SPOKEN[1]),  # an end marker, and no reason to stop
        events(*TWO[:5]),  # one of two choices has none
        b"data: [DONE]\n\n",
        b"data: {broken\n\n",
    ],
)
def test_a_stream_that_ends_early_is_no_answer(raw: bytes) -> None:
    def read() -> None:
        reader = ChatStream(2)
        reader.feed(raw)
        reader.finish()

    with pytest.raises(WireError) as caught:
        read()
    assert not caught.value.is_json  # which is what is asked again


def test_the_last_line_end_may_be_missing() -> None:
    reader = ChatStream()
    reader.feed(events(*SPOKEN).rstrip())
    assert not reader.done
    assert reader.finish()[0].text == "naïve ☃🙂"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b'data: {"error": {"message": "busy", "code": 503}}\n\n', 503),
        (b'data: {"error": {"message": "busy", "code": "slow"}}\n\n', 500),
        (b'error: {"code": 400, "message": "too long"}\n\n', 400),
        (b'event: error\ndata: {"message": "busy"}\n\n', 500),
    ],
)
def test_an_error_inside_a_stream(raw: bytes, status: int) -> None:
    reader = ChatStream()
    reader.feed(events(*SPOKEN[:2]).removesuffix(b"data: [DONE]\n\n"))
    with pytest.raises(StreamError) as caught:
        reader.feed(raw)
    assert caught.value.status == status


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(alphabet="aé\u2028 :", max_size=5), max_size=6), st.data())
def test_events_survive_any_cut(lines: list[str], data: Any) -> None:
    raw = "".join(f"data: {line}\r\n" for line in lines).encode() + b"\r\n"
    cut = data.draw(st.integers(min_value=0, max_value=len(raw)))
    parser = EventParser()
    found = parser.feed(raw[:cut]) + parser.feed(raw[cut:]) + parser.end()
    assert found == ([Event("", "\n".join(lines))] if lines else [])
