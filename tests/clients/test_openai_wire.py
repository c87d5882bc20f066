"""Bodies that OpenAI's own types accept, and answers read as OpenAI's own types read them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, completion_create_params
from pydantic import TypeAdapter

from overproof.clients.openai_wire import (
    WireError,
    body_of,
    can_stream,
    completion_of,
    completions_of,
)
from overproof.config.teacher import TeacherConfig
from overproof.records.exchange import (
    Message,
    Outcome,
    Parameters,
    Request,
    Tool,
    ToolCall,
    Usage,
)
from overproof.records.openai_answers import prompt_logprobs_of
from overproof.records.tool_calls import tool_choice_of

OFFICIAL = TypeAdapter(completion_create_params.CompletionCreateParamsNonStreaming)
STREAMED = TypeAdapter(completion_create_params.CompletionCreateParamsStreaming)
WEATHER = Tool(
    name="weather",
    description="The weather of a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
PERSON = {
    "title": "A person!",
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
}
TURNS = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="And in Rome?"),
    Message(
        role="assistant",
        content="",
        tool_calls=(ToolCall(id="c1", name="weather", arguments='{"city": "Rome"}'),),
    ),
    Message(role="tool", content="sunny", tool_call_id="c1"),
)


def config(**changes: Any) -> TeacherConfig:
    said = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1/v1"}
    return TeacherConfig.model_validate(said | changes)


def asked(messages: tuple[Message, ...] = TURNS, **parameters: Any) -> Request:
    return Request(model="m", messages=messages, parameters=Parameters(**parameters))


def accepted(body: dict[str, Any]) -> dict[str, Any]:
    """The body as OpenAI's types read it; lists are read to their ends."""
    official = STREAMED if body.get("stream") else OFFICIAL
    read = official.validate_python(body)
    return json.loads(json.dumps(read, default=list))


@pytest.mark.parametrize("choice", [None, "auto", "none", "required", "weather"])
def test_tools_are_offered_as_the_api_wants_them(choice: str | None) -> None:
    body = body_of(asked(tools=(WEATHER, Tool(name="now")), tool_choice=choice), config())
    read = accepted(body)
    assert [tool["function"]["name"] for tool in read["tools"]] == ["weather", "now"]
    assert read["tools"][1]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert ("tool_choice" in read) == (choice is not None)
    assert tool_choice_of(read.get("tool_choice")) == choice
    assert read["messages"][2]["tool_calls"][0]["function"]["arguments"] == '{"city": "Rome"}'
    assert read["messages"][3]["tool_call_id"] == "c1"


def test_a_schema_is_strict_where_nothing_is_lost_by_it() -> None:
    read = accepted(body_of(asked(response_schema=PERSON), config()))
    form = read["response_format"]["json_schema"]
    assert (form["name"], form["strict"]) == ("A_person", True)
    assert form["schema"]["additionalProperties"] is False
    assert form["schema"]["properties"] == PERSON["properties"]


@pytest.mark.parametrize(
    "changes",
    [
        {"required": ["name"]},
        {"additionalProperties": {"type": "string"}},
        {"properties": {"name": {"type": "string", "maxLength": 3}}, "required": ["name"]},
        {"properties": {"name": {}}, "required": ["name"]},
        {"properties": {"name": {"type": "object"}}, "required": ["name"]},
        {"properties": {"name": {"oneOf": [{"type": "null"}]}}, "required": ["name"]},
        {"type": "array", "items": {"type": "string"}},
        {"anyOf": [{"type": "object", "properties": {}}]},
    ],
)
def test_a_schema_beyond_the_strict_part_is_sent_as_it_is(changes: dict[str, Any]) -> None:
    schema = PERSON | changes
    form = body_of(asked(response_schema=schema), config())["response_format"]["json_schema"]
    assert form["strict"] is False
    assert form["schema"] == schema


def test_nested_strict_schemas_are_closed_all_the_way() -> None:
    inner = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "many": {"type": "array", "items": {"$ref": "#/$defs/inner"}},
            "one": {"anyOf": [inner, {"type": "null"}]},
        },
        "required": ["one", "many"],
        "$defs": {"inner": inner},
    }
    form = body_of(asked(response_schema=schema), config())["response_format"]["json_schema"]
    assert form["strict"] is True
    assert "$schema" not in form["schema"]
    assert form["schema"]["$defs"]["inner"]["additionalProperties"] is False
    assert form["schema"]["properties"]["one"]["anyOf"][0]["additionalProperties"] is False
    assert "additionalProperties" not in inner  # the recipe's own schema is left alone


def test_how_a_schema_is_handed_over_is_the_recipes_choice() -> None:
    request = asked(response_schema=PERSON)
    plain = body_of(request, config(structured="json_object"))
    assert accepted(plain)["response_format"] == {"type": "json_object"}
    assert "response_format" not in body_of(request, config(structured="none"))


def test_choices_streams_and_prompt_logprobs() -> None:
    request = asked(prompt_logprobs=0)
    body = body_of(request, config(), n=3, stream=True)
    assert (body["n"], body["stream"], body["prompt_logprobs"]) == (3, True, 0)
    assert accepted(body)["stream_options"] == {"include_usage": True}
    assert "n" not in body_of(request, config())
    assert can_stream(asked(), config(stream=True))
    assert not can_stream(asked(), config())
    assert not can_stream(request, config(stream=True))  # vLLM refuses the two together


def response(*choices: dict[str, Any], **more: Any) -> str:
    """A response, read by OpenAI's own model on the way."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1767225600,
        "model": "m-1",
        "choices": [
            {"index": number, "finish_reason": "stop", "logprobs": None} | choice
            for number, choice in enumerate(choices)
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 6, "total_tokens": 16},
    } | more
    return ChatCompletion.model_validate(body).model_dump_json()


def message(content: str | None = None, **more: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content, "refusal": None} | more}


def call(name: str = "weather", arguments: str = '{"city": "Rome"}') -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": "c1", "type": "function", "function": function}


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("tool_calls", Outcome.ANSWERED),
        ("stop", Outcome.ANSWERED),  # what a forced choice ends with
        ("length", Outcome.TRUNCATED),
        ("content_filter", Outcome.FILTERED),
    ],
)
def test_calls_of_offered_tools_are_an_answer(reason: str, outcome: Outcome) -> None:
    raw = response(message(tool_calls=[call()]) | {"finish_reason": reason})
    official = ChatCompletion.model_validate_json(raw).choices[0].message.tool_calls
    read = completion_of(raw, tools=True)
    assert (read.outcome, read.error, read.text) == (outcome, None, "")
    assert official is not None
    assert [(c.id, c.name, c.arguments) for c in read.tool_calls] == [
        (c.id, c.function.name, c.function.arguments) for c in official if c.type == "function"
    ]
    assert completion_of(raw).tool_calls == ()  # nobody offered any
    assert completion_of(raw).outcome is Outcome.MALFORMED


def test_calls_that_are_none_are_malformed_and_counted() -> None:
    raw = json.dumps(
        {
            "choices": [message(tool_calls=[{"id": "c"}]) | {"finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        }
    )
    read = completion_of(raw, tools=True)
    assert read.outcome is Outcome.MALFORMED
    assert "names no function" in str(read.error)
    assert read.usage == Usage(input_tokens=3, output_tokens=2)
    none = completion_of(response(message() | {"finish_reason": "tool_calls"}), tools=True)
    assert none.outcome is Outcome.MALFORMED


def test_older_and_other_forms_of_calls() -> None:
    old = {"function_call": {"name": "now", "arguments": "{}"}}
    [read] = completion_of(response(message(**old)), tools=True).tool_calls
    assert (read.name, read.arguments) == ("now", "{}")
    given = {"function": {"name": "now", "arguments": {"zone": "é"}}}
    raw = json.dumps({"choices": [message(tool_calls=[given])]})
    [read] = completion_of(raw, tools=True).tool_calls
    assert read.arguments == '{"zone": "é"}'


def test_several_choices_are_numbered_and_paid_once() -> None:
    raw = response(message("a"), message("b"), message("c"))
    body = json.loads(raw)
    body["choices"].reverse()  # the index tells which is which
    read = completions_of(json.dumps(body), 3)
    assert [(one.choice, one.text) for one in read] == [(0, "a"), (1, "b"), (2, "c")]
    assert [one.usage for one in read] == [
        Usage(input_tokens=10, output_tokens=6),
        Usage(),
        Usage(),
    ]
    [alone] = completions_of(response(message("a")), 1)
    assert alone == completion_of(response(message("a")))


def test_choices_that_are_missing_or_broken_spoil_no_others() -> None:
    body = json.loads(response(message("a"), message("b")))
    body["choices"][1]["message"]["content"] = 5
    read = completions_of(json.dumps(body), 3)
    # The third never came.
    assert [one.outcome for one in read] == [Outcome.ANSWERED, Outcome.MALFORMED]
    assert "expected a well-formed choice" in str(read[1].error)
    late = [choice | {"index": 4 + i} for i, choice in enumerate(body["choices"])]
    assert [one.choice for one in completions_of(json.dumps(body | {"choices": late}), 3)] == [0, 1]
    for choice in body["choices"]:
        choice["index"] = 0  # some servers number nothing
    assert completions_of(json.dumps(body), 2)[0].text == "a"
    with pytest.raises(WireError):
        completions_of('{"choices": []}', 2)


def test_tokens_are_counted_as_each_server_writes_them() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 6,
        "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    assert completion_of(response(message("a"), usage=usage)).usage == Usage(
        input_tokens=10,
        output_tokens=6,
        cached_tokens=4,
        reasoning_tokens=5,
        cache_write_tokens=3,
    )
    deepseek = {
        "prompt_tokens": 10,
        "completion_tokens": 6,
        "total_tokens": 16,
        "prompt_cache_hit_tokens": 8,
        "prompt_cache_miss_tokens": 2,
    }
    read = completion_of(response(message("a"), usage=deepseek)).usage
    assert read == Usage(input_tokens=10, output_tokens=6, cached_tokens=8)


def test_prompt_logprobs_as_vllm_writes_them() -> None:
    prompt = [
        None,
        {
            "504": {"logprob": -3.5, "rank": 9, "decoded_token": " is"},
            "12": {"logprob": -0.5, "rank": 1, "decoded_token": " was"},
        },
        {"7": {"logprob": -0.25, "rank": 1, "decoded_token": " it"}},
    ]
    read = completion_of(response(message("a"), prompt_logprobs=prompt)).prompt_logprobs
    assert read == prompt_logprobs_of(prompt)
    assert read is not None
    first, second, third = read
    assert first is None
    assert second is not None
    assert (second.token, second.logprob) == (" is", -3.5)  # the prompt's own, not the likeliest
    assert [(t.token, t.logprob) for t in second.top] == [(" was", -0.5), (" is", -3.5)]
    assert third is not None
    assert third.token == " it"
    for broken in ([{}], [{"1": {"rank": 1, "decoded_token": "a"}}], [{"1": {"logprob": -1}}], {}):
        with pytest.raises(ValueError, match=r"prompt_logprobs|log-prob"):
            prompt_logprobs_of(broken)
