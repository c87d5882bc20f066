"""The fake teacher beyond labels: texts, JSON of a schema, calls of tools, several at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from overproof.clients.fake import FakeTeacher
from overproof.clients.fake_instances import instance_of
from overproof.clients.protocol import Capabilities
from overproof.errors import BudgetError
from overproof.records.answer_checks import check_schema, schema_problem, tool_call_problem
from overproof.records.exchange import Completion, Message, Outcome, Parameters, Request, Tool

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 12},
        "age": {"type": "integer", "minimum": 1, "maximum": 99},
        "mood": {"enum": ["glad", "sad"]},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
        "home": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/place"}]},
    },
    "required": ["name", "age", "mood"],
    "additionalProperties": False,
    "$defs": {
        "place": {
            "type": "object",
            "properties": {"lat": {"type": "number", "minimum": -90, "maximum": 90}},
            "required": ["lat"],
        }
    },
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["name", "left"],
        }
    },
}


def ask(text: str = "Where is the river?", sample: int = 0, **parameters: Any) -> Request:
    wanted = {"max_tokens": 200, "temperature": 0.0} | parameters
    return Request(
        model="fake",
        messages=(Message(role="user", content=text),),
        parameters=Parameters.model_validate(wanted),
        sample=sample,
    )


async def test_a_text_is_the_prompt_in_capitals() -> None:
    teacher = FakeTeacher()
    answer = await teacher.complete(ask())
    assert (answer.outcome, answer.text) == (Outcome.ANSWERED, "WHERE IS THE RIVER?")
    assert answer == await teacher.complete(ask())
    assert answer.usage is not None
    assert answer.usage.output_tokens == 5


async def test_samples_differ_only_where_answers_are_drawn() -> None:
    teacher = FakeTeacher()
    hot = {(await teacher.complete(ask(sample=n, temperature=1.0))).text for n in range(40)}
    assert len(hot) == 40
    assert all(text.endswith("WHERE IS THE RIVER?") for text in hot)
    cold = {(await teacher.complete(ask(sample=n))).text for n in range(5)}
    assert len(cold) == 1


async def test_it_keeps_to_limits_and_stops() -> None:
    teacher = FakeTeacher()
    cut = await teacher.complete(ask("one " * 50, max_tokens=20))
    assert (cut.outcome, cut.text) == (Outcome.TRUNCATED, " ".join(["ONE"] * 20))
    stopped = await teacher.complete(ask(stop=("IS",)))
    assert stopped.text == "WHERE "
    spoken = await teacher.complete(ask(top_logprobs=1))
    assert "".join(t.token for t in spoken.logprobs or ()) == spoken.text


async def test_labels_are_chosen_where_there_are_any() -> None:
    shown = await FakeTeacher().complete(ask("Which?\nA. one\nB. two"))
    assert shown.text in ("A", "B")
    assert (await FakeTeacher(labels=("x y", "z")).complete(ask())).text in ("x y", "z")
    assert (await FakeTeacher().complete(ask(max_tokens=8))).text in ("A", "B")


async def test_json_follows_the_schema() -> None:
    teacher = FakeTeacher()
    answers = [
        await teacher.complete(ask(sample=n, temperature=1.0, response_schema=PERSON))
        for n in range(20)
    ]
    assert [schema_problem(answer.text, PERSON) for answer in answers] == [None] * 20
    assert len({answer.text for answer in answers}) > 10
    assert all(answer.outcome is Outcome.ANSWERED for answer in answers)


@pytest.mark.parametrize(
    "schema",
    [
        PERSON,
        TREE,
        {"type": "array", "items": TREE["$defs"]["node"], "$defs": TREE["$defs"]},
        {"type": ["string", "null"], "maxLength": 3},
        {"const": {"a": [1]}},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
        {"type": "integer", "minimum": 7, "maximum": 7, "multipleOf": 7},
        {"type": "integer", "exclusiveMinimum": -3, "maximum": -2},
        {"type": "array", "prefixItems": [{"type": "null"}], "items": {"type": "boolean"}},
        {"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 3},
        {"type": "object", "minProperties": 3, "additionalProperties": {"type": "integer"}},
        {"type": "object", "required": ["free"]},
        {"allOf": [PERSON, {"required": ["home"]}], "$defs": PERSON["$defs"]},
        {"oneOf": [{"type": "string", "minLength": 500}, {"type": "boolean"}]},
        {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"},
        {"type": "string", "format": "date-time"},
        {"type": "object", "properties": {"a": {"type": "string"}}, "dependentRequired": {}},
        {},
    ],
)
def test_instances(schema: dict[str, Any]) -> None:
    check_schema(schema, "schema")
    for seed in range(5):
        value = instance_of(schema, ["naïve", "river", "Rome"], str(seed))
        assert schema_problem(json.dumps(value), schema) is None
        assert value == instance_of(schema, ["naïve", "river", "Rome"], str(seed))


async def test_a_schema_beyond_it_is_malformed() -> None:
    answer = await FakeTeacher().complete(ask(response_schema={"type": "string", "not": {}}))
    assert answer.outcome is Outcome.MALFORMED
    assert "finds no value" in str(answer.error)


async def test_tools_are_called() -> None:
    tools = (Tool(name="now"), Tool(name="find", parameters=PERSON))
    teacher = FakeTeacher()
    for choice, name in ((None, "now"), ("required", "now"), ("find", "find")):
        answer = await teacher.complete(ask(tools=tools, tool_choice=choice))
        assert [call.name for call in answer.tool_calls] == [name]
        assert tool_call_problem(answer.tool_calls, tools, choice) is None
        assert (answer.text, answer.finish_reason) == ("", "tool_calls")
    spoken = await teacher.complete(ask(tools=tools, tool_choice="none"))
    assert (spoken.text, spoken.tool_calls) == ("WHERE IS THE RIVER?", ())
    cut = await teacher.complete(ask(tools=tools, tool_choice="find", max_tokens=2))
    assert (cut.outcome, cut.tool_calls) == (Outcome.TRUNCATED, ())


class Counting:
    """A meter that lets so many attempts pass."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.settled: list[Completion] = []

    async def before(self) -> None:
        if not self.room:
            raise BudgetError("budget", "is spent")
        self.room -= 1

    def after(self, completion: Completion, *, reached: bool) -> None:
        assert reached
        self.settled.append(completion)


async def test_several_answers_in_one_call() -> None:
    teacher = FakeTeacher(capabilities=Capabilities(choices=3))
    requests = [ask(sample=n, temperature=1.0) for n in range(3)]
    meter = Counting(1)
    answers = await teacher.complete_many(requests, meter)
    assert teacher.calls == 1
    assert [answer.choice for answer in answers] == [0, 1, 2]
    alone = [await teacher.complete(request) for request in requests]
    assert [answer.text for answer in answers] == [one.text for one in alone]
    used = [one.usage for one in alone if one.usage]
    whole = answers[0].usage
    assert whole is not None
    assert whole.output_tokens == sum(usage.output_tokens for usage in used)
    assert whole.input_tokens == used[0].input_tokens
    assert [a.usage.output_tokens for a in answers[1:] if a.usage] == [0, 0]
    assert [one.usage for one in meter.settled] == [whole]
    with pytest.raises(BudgetError):
        await teacher.complete(requests[0], meter)
    with pytest.raises(ValueError, match="4 choices"):
        await teacher.complete_many([*requests, requests[0]])
