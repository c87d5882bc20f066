"""What llama.cpp's own server makes of schemas, tools, choices, seeds and streams.

SmolLM2-135M's chat template knows neither tools nor reasoning, so a server with it declares no
tools and gives no reasoning; those are tested by recorded answers elsewhere. llama.cpp counts the
tokens of one choice alone where several are drawn.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from overproof.clients.embedded import EmbeddedTeacher
from overproof.clients.openai_compatible import OpenAICompatibleTeacher
from overproof.config.teacher import TeacherConfig
from overproof.records.answer_checks import schema_problem
from overproof.records.exchange import Message, Outcome, Parameters, Request, Tool, ToolCall

SCHEMA = {
    "title": "person",
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z][a-z]{1,9}$"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "sex": {"enum": ["f", "m"]},
    },
    "required": ["name", "age", "sex"],
    "additionalProperties": False,
}
WEATHER = Tool(name="weather", parameters={"type": "object", "properties": {}})


def ask(text: str, sample: int = 0, **parameters: Any) -> Request:
    wanted = {"max_tokens": 60, "temperature": 0.0} | parameters
    return Request(
        model="m",
        messages=(Message(role="user", content=text),),
        parameters=Parameters.model_validate(wanted),
        sample=sample,
    )


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
async def test_the_real_server(pulled_model: str, stream: bool) -> None:
    config = TeacherConfig(
        kind="embedded", model=pulled_model, concurrency=2, choices=8, threads=2, stream=stream
    )
    async with EmbeddedTeacher(config) as embedded:
        teacher = embedded._running
        assert teacher.capabilities.choices == 2  # a slot each
        assert teacher.capabilities.structured
        assert not teacher.capabilities.tools  # its template has no place for them
        assert not teacher.capabilities.prompt_logprobs
        await _json_follows_the_schema(teacher)
        await _choices_are_drawn_at_once(embedded)
        await _a_seed_gives_the_same_answer(teacher)
        await _turns_with_tools_are_read(teacher)


async def _json_follows_the_schema(teacher: OpenAICompatibleTeacher) -> None:
    for n in range(3):
        request = ask(
            "Alice is thirty. Answer with JSON.", n, temperature=1.0, seed=n, response_schema=SCHEMA
        )
        answer = await teacher.complete(request)
        assert answer.outcome is Outcome.ANSWERED
        assert schema_problem(answer.text, SCHEMA) is None
        assert answer.usage is not None
        assert answer.usage.output_tokens > 5


async def _choices_are_drawn_at_once(teacher: EmbeddedTeacher) -> None:
    requests = [ask("Say something.", n, temperature=1.0, seed=5, max_tokens=12) for n in (0, 1)]
    first, second = await teacher.complete_many(requests)
    assert (first.choice, second.choice) == (0, 1)
    assert first.text != second.text
    assert first.usage is not None
    assert second.usage is not None
    assert first.usage.output_tokens > 0
    assert second.usage.output_tokens == 0
    third = ask("Say something.", 2, temperature=1.0, seed=5, max_tokens=12)
    # More than there are slots: each is asked by itself.
    answers = await teacher.complete_many([*requests, third])
    assert [bool(each.text) for each in answers] == [True] * 3


async def _a_seed_gives_the_same_answer(teacher: OpenAICompatibleTeacher) -> None:
    texts = [
        (await teacher.complete(ask("Be odd.", temperature=1.0, seed=seed, max_tokens=12))).text
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


async def _turns_with_tools_are_read(teacher: OpenAICompatibleTeacher) -> None:
    arguments = json.dumps({"city": "Paris"})
    call = ToolCall(id="c1", name="weather", arguments=arguments)
    request = Request(
        model="m",
        messages=(
            Message(role="user", content="The weather in Paris?"),
            Message(role="assistant", content="", tool_calls=(call,)),
            Message(role="tool", content="sunny", tool_call_id="c1"),
        ),
        parameters=Parameters(max_tokens=8, temperature=0, tools=(WEATHER,), tool_choice="auto"),
    )
    answer = await teacher.complete(request)
    assert answer.outcome in (Outcome.ANSWERED, Outcome.TRUNCATED)
    assert answer.text


@pytest.mark.slow
async def test_a_stream_is_the_answer_in_one_piece(pulled_model: str) -> None:
    request = ask("Count to three.", top_logprobs=2, max_tokens=10)
    config = TeacherConfig(kind="embedded", model=pulled_model, concurrency=1, threads=2)
    async with EmbeddedTeacher(config) as embedded:
        await embedded.complete(request)  # the prompt is in the slot's cache from here on
        whole = await embedded.complete(request)
        plain = embedded._running
        plain._config = plain._config.model_copy(update={"stream": True})
        streamed = await embedded.complete(request)
    assert whole.logprobs is not None
    assert len(whole.logprobs) == 10
    timeless = {"latency_s": 0.0}
    assert streamed.model_copy(update=timeless) == whole.model_copy(update=timeless)
