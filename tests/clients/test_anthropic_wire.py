"""Anthropic's Messages API: bodies and messages that its own package accepts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import Message as OfficialMessage
from anthropic.types import message_create_params
from pydantic import TypeAdapter

from overproof.clients.anthropic_schemas import output_schema
from overproof.clients.anthropic_wire import body_of, completion_of, server_error
from overproof.clients.openai_wire import WireError
from overproof.config.teacher import TeacherConfig
from overproof.records.anthropic_answers import ANSWER_TOOL, WRAPPED
from overproof.records.exchange import (
    Message,
    Outcome,
    Parameters,
    Request,
    Tool,
    ToolCall,
    Usage,
)

OFFICIAL = TypeAdapter(message_create_params.MessageCreateParamsNonStreaming)
WEATHER = Tool(
    name="weather",
    description="The weather of a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}},
)
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
}


def config(**changes: Any) -> TeacherConfig:
    return TeacherConfig.model_validate({"kind": "anthropic", "model": "claude"} | changes)


def asked(*messages: Message, **parameters: Any) -> Request:
    said = messages or (Message(role="user", content="Hello."),)
    return Request(model="claude", messages=said, parameters=Parameters(**parameters))


def accepted(body: dict[str, Any]) -> dict[str, Any]:
    """The body as Anthropic's types read it; lists are read to their ends."""
    read = OFFICIAL.validate_python(body)
    kept = json.loads(json.dumps(read, default=list))
    assert kept.keys() >= {"model", "max_tokens", "messages"}
    return body


def test_parameters_go_where_the_api_has_them() -> None:
    request = asked(
        Message(role="system", content="Be brief."),
        Message(role="system", content="In German."),
        Message(role="user", content="Hello."),
        max_tokens=9,
        temperature=0.5,
        top_p=0.9,
        stop=("\n",),
        seed=3,
        top_logprobs=2,
        extra={"top_k": 5},
    )
    assert accepted(body_of(request, config())) == {
        "model": "claude",
        "max_tokens": 9,
        "system": "Be brief.\n\nIn German.",
        "messages": [{"role": "user", "content": "Hello."}],
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["\n"],
        "top_k": 5,
    }
    assert body_of(request, config(), stream=True)["stream"] is True
    assert "temperature" not in body_of(request, config(supports_temperature=False))


def test_turns_alternate_and_hold_calls_and_their_results() -> None:
    calls = (
        ToolCall(id="c1", name="weather", arguments='{"city": "Rome"}'),
        ToolCall(id="c2", name="weather", arguments=""),
    )
    request = asked(
        Message(role="user", content="Rome?"),
        Message(role="user", content="And Oslo?"),
        Message(role="assistant", content="I look.", tool_calls=calls),
        Message(role="tool", content="sunny", tool_call_id="c1"),
        Message(role="tool", content="snow", tool_call_id="c2"),
        Message(role="user", content="So?"),
        Message(role="assistant", content="It is"),
    )
    turns = accepted(body_of(request, config()))["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant"]
    assert [block["text"] for block in turns[0]["content"]] == ["Rome?", "And Oslo?"]
    assert [block["type"] for block in turns[1]["content"]] == ["text", "tool_use", "tool_use"]
    assert [block.get("input") for block in turns[1]["content"]] == [None, {"city": "Rome"}, {}]
    results = turns[2]["content"]
    assert [block["type"] for block in results] == ["tool_result", "tool_result", "text"]
    assert [block.get("tool_use_id") for block in results[:2]] == ["c1", "c2"]
    assert turns[3] == {"role": "assistant", "content": "It is"}


def test_a_call_that_is_no_json_cannot_be_sent_back() -> None:
    calls = (ToolCall(id="c1", name="weather", arguments='{"city": '),)
    with pytest.raises(ValueError, match="weather are no JSON object"):
        body_of(asked(Message(role="assistant", content="", tool_calls=calls)), config())


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("weather", {"type": "tool", "name": "weather"}),
    ],
)
def test_tools(choice: str | None, sent: dict[str, Any] | None) -> None:
    body = accepted(body_of(asked(tools=(WEATHER, Tool(name="now")), tool_choice=choice), config()))
    assert body.get("tool_choice") == sent
    assert body["tools"][0]["input_schema"] == WEATHER.parameters
    assert body["tools"][1] == {
        "name": "now",
        "input_schema": {"type": "object", "properties": {}},
    }


def test_a_schema_goes_into_the_output_format() -> None:
    request = asked(response_schema=PERSON, extra={"output_config": {"effort": "low"}})
    body = accepted(body_of(request, config()))
    assert body["output_config"]["effort"] == "low"
    form = body["output_config"]["format"]
    assert form["type"] == "json_schema"
    assert form["schema"] == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer", "description": "(minimum: 0)"},
        },
        "required": ["name"],
        "additionalProperties": False,
    }
    assert "output_config" not in body_of(asked(response_schema=PERSON), config(structured="none"))


def test_a_schema_that_it_cannot_hold_becomes_a_tool() -> None:
    free = {"type": "object", "additionalProperties": {"type": "string"}}
    body = accepted(body_of(asked(response_schema=free), config()))
    assert body["tool_choice"] == {"type": "tool", "name": ANSWER_TOOL}
    assert body["tools"][0]["input_schema"] == free
    listed = {"type": "array", "items": {"$ref": "#/$defs/x"}, "$defs": {"x": free}}
    body = accepted(body_of(asked(response_schema=listed), config()))
    assert body["tool_choice"]["name"] == WRAPPED
    wrapper = body["tools"][0]["input_schema"]
    assert wrapper["properties"]["value"] == {"type": "array", "items": {"$ref": "#/$defs/x"}}
    assert wrapper["$defs"] == {"x": free}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ({"enum": ["a", 1]}, {"enum": ["a", 1]}),
        ({"oneOf": [{"const": 1}, {"type": "null"}]}, {"anyOf": [{"const": 1}, {"type": "null"}]}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        (
            {"type": "string", "format": "iri", "description": "D."},
            {"type": "string", "description": "D. (format: iri)"},
        ),
        (
            {"type": "array", "items": {"type": "null"}, "minItems": 3},
            {"type": "array", "items": {"type": "null"}, "description": "(minItems: 3)"},
        ),
        ({}, None),
        ({"type": "array"}, None),
        ({"type": "object"}, None),
        ({"not": {"type": "string"}}, None),
        ({"$ref": "https://example.org/other.json"}, None),
        ({"$ref": "#/$defs/t", "$defs": {"t": {"anyOf": [{"$ref": "#/$defs/t"}]}}}, None),
    ],
)
def test_schemas(schema: dict[str, Any], said: dict[str, Any] | None) -> None:
    assert output_schema(schema) == said


def answer(*blocks: dict[str, Any], **changes: Any) -> str:
    """A message, read by Anthropic's own model on the way."""
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-1",
        "content": list(blocks),
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 3,
            "output_tokens": 9,
            "output_tokens_details": {"thinking_tokens": 4},
        },
    } | changes
    return OfficialMessage.model_validate(body).model_dump_json()


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def tool_use(name: str = "weather", **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": name, "input": given}


THINKING = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
REDACTED = {"type": "redacted_thinking", "data": "opaque"}


def test_an_answer_with_its_thoughts_and_tokens() -> None:
    read = completion_of(answer(THINKING, REDACTED, text("It is "), text("B.")))
    assert (read.outcome, read.text, read.reasoning) == (Outcome.ANSWERED, "It is B.", "Hm.")
    assert (read.model, read.finish_reason) == ("claude-1", "end_turn")
    assert read.usage == Usage(
        input_tokens=28,
        output_tokens=9,
        cached_tokens=20,
        reasoning_tokens=4,
        cache_write_tokens=3,
    )


@pytest.mark.parametrize(
    ("blocks", "reason", "outcome", "said"),
    [
        ([text("a")], "end_turn", Outcome.ANSWERED, "a"),
        ([text("a")], "stop_sequence", Outcome.ANSWERED, "a"),
        ([], "stop_sequence", Outcome.ANSWERED, ""),
        ([], "end_turn", Outcome.MALFORMED, ""),
        ([THINKING], "end_turn", Outcome.MALFORMED, ""),
        ([THINKING], "max_tokens", Outcome.TRUNCATED, ""),
        ([text("a")], "model_context_window_exceeded", Outcome.TRUNCATED, "a"),
        ([text("No.")], "refusal", Outcome.REFUSED, "No."),
        ([text("a")], "pause_turn", Outcome.MALFORMED, "a"),
        ([text("a")], None, Outcome.MALFORMED, "a"),
        ([tool_use(city="Köln")], "tool_use", Outcome.ANSWERED, ""),
        ([], "tool_use", Outcome.MALFORMED, ""),
        ([tool_use(ANSWER_TOOL, a=1)], "tool_use", Outcome.ANSWERED, '{"a": 1}'),
        ([tool_use(WRAPPED, value=["é"])], "tool_use", Outcome.ANSWERED, '["é"]'),
        ([tool_use(WRAPPED, a=1)], "tool_use", Outcome.ANSWERED, '{"a": 1}'),
    ],
)
def test_outcomes(blocks: list[Any], reason: str | None, outcome: Outcome, said: str) -> None:
    read = completion_of(answer(*blocks, stop_reason=reason))
    assert (read.outcome, read.text) == (outcome, said)
    assert (read.error is not None) == (outcome is Outcome.MALFORMED)


def test_calls() -> None:
    read = completion_of(answer(text("I look."), tool_use(city="Köln"), stop_reason="tool_use"))
    assert read.tool_calls == (
        ToolCall(id="toolu_1", name="weather", arguments='{"city": "Köln"}'),
    )
    assert read.text == "I look."


def test_why_it_was_refused() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    read = completion_of(answer(stop_reason="refusal", stop_details=details))
    assert (read.outcome, read.text) == (Outcome.REFUSED, "Not this.")


@pytest.mark.parametrize(
    ("raw", "is_json"),
    [
        ("<html>", False),
        ("[1]", True),
        ("{}", True),
        ('{"content": ["a"]}', True),
        ('{"content": [{"type": "image"}]}', True),
        ('{"content": [{"type": "text"}]}', True),
        ('{"content": [{"type": "tool_use", "name": ""}]}', True),
        ('{"content": [], "usage": {"input_tokens": -1}}', True),
    ],
)
def test_what_is_no_message_is_refused(raw: str, is_json: bool) -> None:
    with pytest.raises(WireError) as caught:
        completion_of(raw)
    assert caught.value.is_json is is_json


def test_errors_have_the_status_of_their_type() -> None:
    def error(kind: str) -> str:
        return json.dumps({"type": "error", "error": {"type": kind, "message": "M"}})

    assert server_error(error("overloaded_error")) == ("overloaded_error: M", 529)
    assert server_error(error("rate_limit_error")) == ("rate_limit_error: M", 429)
    assert server_error(error("authentication_error")) == ("authentication_error: M", 401)
    assert server_error(error("a_new_error")) == ("a_new_error: M", None)
    assert server_error("<html>") == ("<html>", None)
    assert server_error("[]") == ("[]", None)
