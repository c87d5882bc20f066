"""Logs with tools, schemas, reasoning and Anthropic's messages: in, out, and in again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from overproof.errors import DataError
from overproof.records.exchange import (
    Completion,
    Exchange,
    Message,
    Outcome,
    Parameters,
    Request,
    TokenLogprob,
    Tool,
    ToolCall,
    TopLogprob,
    Usage,
)
from overproof.records.exports import export_ledger
from overproof.records.imports import import_logs
from overproof.records.ledger import Ledger

CALL = ToolCall(id="c1", name="weather", arguments='{"city": "Köln"}')
WEATHER = Tool(name="weather", description="D.", parameters={"type": "object", "properties": {}})
PERSON = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
OFFERED = [{"type": "function", "function": {"name": "weather", "strict": True}}]
CALLED = [
    {
        "id": "c1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Köln"}'},
    }
]
QUESTION = {"role": "user", "content": "?"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "run" / "ledger.sqlite", write=True) as ledger:
        yield ledger


def imported(tmp_path: Path, ledger: Ledger, *rows: Any) -> list[Exchange]:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_logs(path, ledger, teacher="t")
    return list(ledger.exchanges())


def response(reason: str = "stop", **message: Any) -> dict[str, Any]:
    answer = {"role": "assistant", "content": None} | message
    return {"id": "r1", "model": "m-1", "choices": [{"message": answer, "finish_reason": reason}]}


def test_calls_are_answers_where_tools_were_offered(tmp_path: Path, ledger: Ledger) -> None:
    body = {"model": "m", "messages": [QUESTION], "tools": OFFERED, "tool_choice": "required"}
    said = response("tool_calls", tool_calls=CALLED)
    [got] = imported(tmp_path, ledger, {"request": body, "response": said})
    assert got.completion.outcome is Outcome.ANSWERED
    assert got.completion.tool_calls == (CALL,)
    asked = got.request.parameters
    assert (asked.tools, asked.tool_choice) == ((Tool(name="weather"),), "required")
    assert asked.extra == {}


def test_calls_nobody_offered_stay_malformed(tmp_path: Path, ledger: Ledger) -> None:
    said = response("tool_calls", tool_calls=CALLED)
    [got] = imported(tmp_path, ledger, {"request": {"messages": [QUESTION]}, "response": said})
    assert got.completion.outcome is Outcome.MALFORMED


def test_tools_that_say_more_are_kept_as_they_are(tmp_path: Path, ledger: Ledger) -> None:
    custom = [{"type": "custom", "custom": {"name": "grammar"}}]
    body = {"messages": [QUESTION], "tools": custom, "tool_choice": "auto"}
    [got] = imported(tmp_path, ledger, {"request": body, "response": response(content="A")})
    assert got.request.parameters.extra == {"tools": custom, "tool_choice": "auto"}
    assert got.completion.text == "A"


def test_turns_with_calls_and_their_results(tmp_path: Path, ledger: Ledger) -> None:
    turns = [
        QUESTION,
        {"role": "assistant", "content": None, "tool_calls": CALLED},
        {"role": "tool", "content": "sunny", "tool_call_id": "c1"},
    ]
    [got] = imported(
        tmp_path,
        ledger,
        {"request": {"messages": turns}, "response": response(content="Sun.", reasoning="Hm.")},
    )
    assert got.request.messages[1:] == (
        Message(role="assistant", content="", tool_calls=(CALL,)),
        Message(role="tool", content="sunny", tool_call_id="c1"),
    )
    assert (got.completion.text, got.completion.reasoning) == ("Sun.", "Hm.")


def test_chats_may_end_with_a_call(tmp_path: Path, ledger: Ledger) -> None:
    last = {"role": "assistant", "content": None, "tool_calls": CALLED}
    thought = {"role": "assistant", "content": "<think>Hm.</think>\nB"}
    got = imported(
        tmp_path,
        ledger,
        {"messages": [QUESTION, last], "tools": OFFERED},
        {"messages": [QUESTION, last]},
        {"messages": [QUESTION, thought]},
    )
    assert [one.completion.tool_calls for one in got] == [(CALL,), ()]
    assert got[0].request.parameters.tools == (Tool(name="weather"),)
    assert (got[1].completion.text, got[1].completion.reasoning) == ("B", "Hm.")


def test_a_broken_call_is_a_bad_row(tmp_path: Path, ledger: Ledger) -> None:
    turns = [QUESTION, {"role": "assistant", "content": "", "tool_calls": ["x"]}, QUESTION]
    with pytest.raises(DataError, match="message 2: tool call 1 names no function"):
        imported(
            tmp_path, ledger, {"request": {"messages": turns}, "response": response(content="A")}
        )


def collected() -> list[Exchange]:
    def one(completion: Completion, *more: Message, **parameters: Any) -> Exchange:
        return Exchange(
            request=Request(
                model="m",
                messages=(Message(role="user", content="q"), *more),
                parameters=Parameters(**parameters),
            ),
            completion=completion,
            teacher="big",
            created_at="2026-01-02T03:04:05+00:00",
            uncertain_usd=0.5,
        )

    prompt = (
        None,
        TokenLogprob(token="a", logprob=-1, data=(97,), top=(TopLogprob(token="b", logprob=-0.5),)),
    )
    counted = Usage(input_tokens=9, output_tokens=2, cached_tokens=3, cache_write_tokens=4)
    called = Completion(
        outcome=Outcome.ANSWERED,
        tool_calls=(CALL, CALL),
        finish_reason="tool_calls",
        reasoning="Hm.",
        usage=counted,
        choice=2,
        batch="batch_1",
        uncertain_attempts=1,
    )
    spoken = Completion(
        outcome=Outcome.ANSWERED,
        text="<think>kept as it was collected</think>A",
        logprobs=(TokenLogprob(token="A", logprob=-0.5),),
        reasoning="Apart.",
        prompt_logprobs=prompt,
    )
    turns = (
        Message(role="assistant", content="x", tool_calls=(CALL,)),
        Message(role="tool", content="sunny", tool_call_id="c1"),
    )
    return [
        one(called, tools=(WEATHER, Tool(name="now")), tool_choice="weather"),
        one(called, *turns, tools=(WEATHER,), tool_choice="auto"),
        one(spoken, prompt_logprobs=1, response_schema=PERSON),
        one(spoken, response_schema={"type": "array", "title": "T"}),
        one(spoken, extra={"response_format": {"type": "json_object"}}),
    ]


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_an_export_imports_as_what_it_was(tmp_path: Path, ledger: Ledger, name: str) -> None:
    out = tmp_path / name
    for item in collected():
        ledger.submit(item)
    ledger.flush()
    assert export_ledger(ledger, out) == 5
    assert import_logs(out, ledger, teacher="big").imported == 0  # it is all there
    with Ledger.open(tmp_path / "2.sqlite", write=True) as second:
        report = import_logs(out, second, teacher="big")
        assert (report.imported, report.malformed) == (5, ())
        got = list(second.exchanges())
    source = {"source": f"imported:{name}"}
    assert got == [item.model_copy(update=source) for item in collected()]
    assert [one.request.key for one in got] == [one.request.key for one in collected()]


def test_an_export_is_what_the_api_writes(tmp_path: Path, ledger: Ledger) -> None:
    for item in collected():
        ledger.submit(item)
    ledger.flush()
    export_ledger(ledger, tmp_path / "o.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    asked, said = rows[1]["request"], rows[1]["response"]["choices"][0]["message"]
    assert asked["messages"][1]["tool_calls"] == CALLED
    assert asked["tools"][0]["function"]["name"] == "weather"
    assert (said["tool_calls"], said["reasoning_content"]) == (CALLED * 2, "Hm.")
    assert rows[2]["request"]["response_format"]["json_schema"]["strict"] is True
    assert rows[2]["request"]["prompt_logprobs"] == 1


ANTHROPIC = {
    "model": "claude",
    "max_tokens": 50,
    "system": [{"type": "text", "text": "Be brief."}],
    "messages": [
        {"role": "user", "content": "Rome?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Köln"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "sunny"},
                {"type": "text", "text": "So?"},
            ],
        },
    ],
    "tools": [{"name": "weather", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "any"},
    "output_config": {"format": {"type": "json_schema", "schema": PERSON}},
    "stop_sequences": ["\n"],
    "thinking": {"type": "adaptive"},
    "metadata": {"user_id": "somebody"},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-1",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "Sun."},
    ],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 4, "cache_read_input_tokens": 6, "output_tokens": 2},
}


def check_anthropic(got: Exchange) -> None:
    assert got.request == Request(
        model="claude",
        messages=(
            Message(role="system", content="Be brief."),
            Message(role="user", content="Rome?"),
            Message(role="assistant", content="I look.", tool_calls=(CALL,)),
            Message(role="tool", content="sunny", tool_call_id="c1"),
            Message(role="user", content="So?"),
        ),
        parameters=Parameters(
            max_tokens=50,
            stop=("\n",),
            tools=(Tool(name="weather", parameters={"type": "object"}),),
            tool_choice="required",
            response_schema=PERSON,
            extra={"thinking": {"type": "adaptive"}},
        ),
    )
    said = got.completion
    assert (said.text, said.reasoning, said.model) == ("Sun.", "Hm.", "claude-1")
    assert said.usage == Usage(input_tokens=10, output_tokens=2, cached_tokens=6)


def test_messages_of_anthropic(tmp_path: Path, ledger: Ledger) -> None:
    [got] = imported(tmp_path, ledger, {"request": ANTHROPIC, "response": MESSAGE})
    check_anthropic(got)


def test_message_batches_of_anthropic(tmp_path: Path, ledger: Ledger) -> None:
    plain = {"model": "claude", "messages": [QUESTION], "max_tokens": 5, "system": "S."}
    failed = {"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}}
    got = imported(
        tmp_path,
        ledger,
        {"custom_id": "a", "params": ANTHROPIC},
        {"custom_id": "b", "params": plain},
        {"custom_id": "c", "params": plain | {"max_tokens": 6}},
        {"custom_id": "a", "result": {"type": "succeeded", "message": MESSAGE}},
        {"custom_id": "b", "result": {"type": "errored", "error": failed}},
        {"custom_id": "c", "result": {"type": "expired"}},
    )
    check_anthropic(got[0])
    assert [one.completion.outcome for one in got[1:]] == [Outcome.FAILED] * 2
    assert "too long" in str(got[1].completion.error)
    assert "expired" in str(got[2].completion.error)
    assert got[1].request.messages[0] == Message(role="system", content="S.")


def test_what_is_more_than_text_is_a_bad_row(tmp_path: Path, ledger: Ledger) -> None:
    image = {"role": "user", "content": [{"type": "image", "source": {}}]}
    with pytest.raises(DataError, match="message 1: its content has a part of type 'image'"):
        imported(tmp_path, ledger, {"request": {"messages": [image]}, "response": MESSAGE})
