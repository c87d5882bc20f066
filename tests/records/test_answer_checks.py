"""Answers against the schema or the tools that they were asked with."""

from __future__ import annotations

from typing import Any

import pytest

from overproof.errors import ConfigError
from overproof.records.answer_checks import (
    check_schema,
    schema_problem,
    tool_call_problem,
    tool_name_problem,
    unfenced,
)
from overproof.records.exchange import Tool, ToolCall

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"$ref": "#/$defs/age"}},
    "required": ["age"],
    "$defs": {"age": {"type": "integer", "minimum": 0}},
}
TREE = {"$ref": "#/$defs/t", "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}}


@pytest.mark.parametrize(
    "schema",
    [
        PERSON,
        TREE,
        {},
        {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {}}},
        {"$id": "https://example.org/s", "$defs": {"a": {"$anchor": "foo"}}, "$ref": "#foo"},
    ],
)
def test_schemas_that_can_be_used(schema: dict[str, Any]) -> None:
    check_schema(schema, "schema.json")


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ([], "is no JSON object"),
        (True, "is no JSON object"),
        ({"type": "objekt"}, "at type: 'objekt'"),
        ({"properties": {"a": {"minimum": "0"}}}, "at properties/a/minimum"),
        ({"pattern": "("}, "at pattern"),
        ({"$ref": "#/$defs/none"}, "refers to '#/\\$defs/none'"),
        ({"$ref": "other.json"}, "refers to 'other.json'"),
        ({"items": [{"$ref": "https://example.org/x.json"}]}, r"items|example\.org"),
        ({"items": {"$ref": "https://example.org/x.json"}}, r"example\.org"),
    ],
)
def test_schemas_that_cannot(schema: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        check_schema(schema, "schema.json")
    assert caught.value.culprit == "schema.json"
    assert caught.value.way_out


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"age": 3}', None),
        (' {"age": 3, "more": []}\n', None),
        ('{"age": -1}', "at age: -1 is less than the minimum of 0"),
        ("{}", "'age' is a required property"),
        ('{"age": true}', "at age: True is not of type 'integer'"),
        ("[3]", "[3] is not of type 'object'"),
        ("", "is no JSON: Expecting value"),
        ('{"age": 3} or so', "is no JSON: Extra data"),
        ('{"age": NaN}', "is no JSON: NaN is not JSON"),
        ('{"age": 1e999}', "beyond any float"),
        ('{"age": 3, "age": 4}', "the name 'age' stands twice"),
        ('```json\n{"age": 3}\n```', "is JSON inside a Markdown fence"),
        ("```\nno\n```", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_answers_to_a_schema(text: str, problem: str | None) -> None:
    found = schema_problem(text, PERSON)
    assert (found is None) == (problem is None)
    assert (problem or "") in (found or "")


def test_depth_without_end_is_a_problem_not_a_crash() -> None:
    assert schema_problem("[[[]]]", TREE) is None
    assert "at 0/0" in str(schema_problem("[[3]]", TREE))
    assert schema_problem("1", {"$ref": "#"}) == "is nested too deeply to be checked"


def test_a_long_answer_is_not_quoted_whole() -> None:
    assert len(str(schema_problem(f'{{"age": "{"x" * 5000}"}}', PERSON))) < 400


def test_a_schema_of_another_draft_is_held_to_it() -> None:
    old = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}
    assert schema_problem('["a"]', old) is None
    assert schema_problem("[1]", old) is not None


def test_nothing_is_fetched() -> None:
    with pytest.raises(ConfigError, match="which it does not hold"):
        schema_problem("1", {"$ref": "https://example.org/x.json"})


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ("\n~~~\n1\n~~~\n", "1"),
        ("````\n```\n````", "```"),
        ("Here:\n```json\n1\n```", None),
        ("```\na\n```\n```\nb\n```", None),
        ("```\na", None),
        ("a", None),
    ],
)
def test_only_a_fence_around_everything_comes_off(text: str, inside: str | None) -> None:
    assert unfenced(text) == (text if inside is None else inside)


TOOLS = (Tool(name="find", parameters=PERSON), Tool(name="now"))


def call(arguments: str = '{"age": 3}', name: str = "find") -> ToolCall:
    return ToolCall(id="c", name=name, arguments=arguments)


@pytest.mark.parametrize(
    ("calls", "choice", "problem"),
    [
        ([], None, None),
        ([], "auto", None),
        ([], "none", None),
        ([], "required", "a call of a tool was required"),
        ([], "find", "a call of find was required"),
        ([call()], None, None),
        ([call()], "required", None),
        ([call()], "find", None),
        ([call(), call("", "now")], "auto", None),
        ([call("{}", "now")], "find", "calls now; a call of find was required"),
        ([call()], "none", "no call was allowed"),
        ([call(name="lost")], None, "'lost', which was not offered"),
        ([call('{"age": ')], None, "the arguments of find: is no JSON"),
        ([call("[]", "now")], None, "the arguments of now: is no JSON object"),
        ([call(), call("{}")], None, "the arguments of find: 'age' is a required property"),
    ],
)
def test_calls(calls: list[ToolCall], choice: str | None, problem: str | None) -> None:
    found = tool_call_problem(calls, TOOLS, choice)
    assert (found is None) == (problem is None)
    assert (problem or "") in (found or "")


@pytest.mark.parametrize("name", ["a", "get_weather", "get-weather-2", "A" * 64])
def test_names_of_tools_that_providers_take(name: str) -> None:
    assert tool_name_problem(name) is None


@pytest.mark.parametrize(
    "name", ["", "A" * 65, "get weather", "wetter.heute", "größe", "a\n", "x" * 999]
)
def test_names_of_tools_that_they_refuse(name: str) -> None:
    problem = tool_name_problem(name)
    assert problem is not None
    assert "1 to 64 letters, digits, '_' and '-'" in problem
    assert len(problem) < 400
